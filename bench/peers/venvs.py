"""An environment per peer, and one for the bench itself: python -m bench.peers.venvs [NAME...]

Each is .bench/venv-<name>, made once: again when its requirements.txt changes.
"""

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = {
    "bench": ROOT / "bench" / "requirements.txt",
    **{name: ROOT / "bench" / "peers" / name / "requirements.txt" for name in ("dlt", "drt", "script")},
}
PEERS = [name for name in REQUIREMENTS if name != "bench"]


def python_of(name: str) -> Path:
    """The interpreter of an environment, which is made now if it is not there."""
    folder = ROOT / ".bench" / f"venv-{name}"
    python, mark = folder / "bin" / "python", folder / "requirements.txt"
    wanted = REQUIREMENTS[name].read_text()
    if not mark.exists() or mark.read_text() != wanted:
        venv.create(folder, with_pip=True, clear=True)
        options = ["--quiet", "--disable-pip-version-check", "-r", str(REQUIREMENTS[name])]
        subprocess.run([str(python), "-m", "pip", "install", *options], check=True, stdout=sys.stderr)
        mark.write_text(wanted)
    return python


if __name__ == "__main__":
    for name in sys.argv[1:] or REQUIREMENTS:
        print(python_of(name))
