"""The Dockerfile of the pages, step by step in a Debian of its own, without Docker: `make test-container`.

What differs from an image: Debian's Python 3.11 instead of python:3.12-slim, and pip installs from a folder. Steps are
run by chroot, as the user that the file names; the container sees the network of this machine.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from reverse_etl.sandbox import Sandbox
from tests.canary import KEY
from tests.processes import HANG_S
from tests.shop import Held, Shop

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "docs" / "examples" / "deploy"
DEBIAN = ROOT / ".container" / "debian"
PEOPLE = "SELECT 'u' || i AS external_id, 'gold' AS tier FROM range(1000) r(i)"
# A Python that is the image's own: Debian keeps pip from its system unless it is told so.
IMAGE = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin", "PIP_BREAK_SYSTEM_PACKAGES": "1", "PIP_NO_INDEX": "1"}


@dataclass
class Container:
    """A folder that the steps of a Dockerfile are done in, and what they say of how it is run."""

    root: Path
    environ: dict[str, str] = field(default_factory=lambda: {**IMAGE, "PIP_FIND_LINKS": "/wheels"})
    user: str = "0"
    folder: str = "/"
    command: list[str] = field(default_factory=list)

    def do(self, step: str, rest: str, context: Path) -> None:
        if step == "RUN":
            done = self.run(["sh", "-c", rest])
            assert done.returncode == 0, done.stderr
        elif step == "WORKDIR":
            self.folder = rest
            (self.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif step == "COPY":
            owner, source, to = rest.removeprefix("--chown=").split()
            assert (source, to) == (".", ".")
            ignored = shutil.ignore_patterns(*patterns())
            shutil.copytree(context, self.root / self.folder.lstrip("/"), ignore=ignored, dirs_exist_ok=True)
            assert self.run(["chown", "-R", owner, self.folder]).returncode == 0
        elif step == "USER":
            self.user = rest
        elif step in ("ENTRYPOINT", "CMD"):
            self.command += json.loads(rest)
        else:
            assert step in ("FROM", "ARG", "STOPSIGNAL"), step

    def run(self, command: Sequence[str], mounts: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """Run a command in it, after these commands of a shell, of which this machine's own mounts see nothing."""
        with self.start(command, mounts) as process:
            out, err = process.communicate(timeout=HANG_S)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def start(self, command: Sequence[str], mounts: Sequence[str] = ()) -> "subprocess.Popen[str]":
        """Begin a command in it, which is the only child of what is returned, and its process 1."""
        chroot = f'exec chroot --userspec={self.user} . env --chdir={self.folder} "$@"'
        shell = "\n".join(["set -e", "mount --bind . .", 'cd "$PWD"', "mount -t proc proc proc", *mounts, chroot])
        unshared = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", shell, "sh", *command]
        piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(unshared, cwd=self.root, env=self.environ, text=True, **piped)


def steps() -> Iterator[tuple[str, str]]:
    """The steps of the Dockerfile that docs/install.md shows."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip():
            step, _, rest = line.partition(" ")
            yield step, rest.strip()


def patterns() -> list[str]:
    lines = (DEPLOY / "dockerignore").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def braze() -> Iterator[Sandbox]:
    with Sandbox() as braze:
        yield braze


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, braze: Sandbox) -> Shop:
    """A project as it is in git, with what only this machine has."""
    shop = Shop(tmp_path_factory.mktemp("context") / "shop", braze)
    shop.engine = {"type": "duckdb"}
    shop.state = {"path": "{{ env_var('STATES') }}"}
    shop.sync("tiers", PEOPLE, schedule="* * * * *")
    (shop.folder / ".env").write_text(f"BRAZE_API_KEY={KEY}\n")
    (shop.folder / ".retl").mkdir(exist_ok=True)
    (shop.folder / ".retl/secret").touch()
    return shop


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory, shop: Shop) -> Container:
    root = tmp_path_factory.mktemp("image") / "root"
    subprocess.run(["cp", "-a", "--reflink=auto", DEBIAN, root], check=True)
    (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    (wheel,) = (ROOT / "dist").glob("*.whl")
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", root / "wheels", wheel]
    subprocess.run(download, check=True)
    made = Container(root)
    made.environ["RETL"] = f"/wheels/{wheel.name}"
    for step, rest in steps():
        made.do(step, rest, shop.folder)
    del made.environ["RETL"]
    return made


def test_image_has_the_project_and_nothing_of_this_machine(container: Container):
    names = {path.name for path in (container.root / "project").iterdir()}
    assert names == {"models", "syncs.yml"}
    assert not [name for name in names if any(fnmatch(name, one) for one in patterns())]
    assert (container.user, container.folder, container.command) == ("1000", "/project", ["retl", "run-due"])


def test_container_without_a_key_says_so(container: Container):
    container.environ |= {"STATES": "/states"}
    done = container.run(container.command, ["mkdir -p states", "mount -t tmpfs -o uid=1000 none states"])
    assert (done.returncode, "BRAZE_API_KEY" in done.stderr) == (2, True), done.stderr


def test_cron_job_runs_what_is_due_as_its_user_on_a_file_system_that_is_read_only(
    container: Container, braze: Sandbox, tmp_path: Path
):
    """Its volumes are what the manifest mounts; the state is in a folder, which outlives the pod."""
    spec = yaml.safe_load((DEPLOY / "cronjob.yaml").read_text(encoding="utf-8"))
    pod = spec["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (one,) = pod["containers"]
    assert str(pod["securityContext"]["runAsUser"]) == container.user
    assert one["securityContext"]["readOnlyRootFilesystem"] is True
    os.chown(tmp_path, 1000, 1000)
    for place in ("states", *(mount["mountPath"].lstrip("/") for mount in one["volumeMounts"])):
        (container.root / place).mkdir(exist_ok=True)
    volumes = [f"mount -t tmpfs -o mode=1777 none .{mount['mountPath']}" for mount in one["volumeMounts"]]
    mounts = [f"mount --bind {tmp_path} states", *volumes, "mount -o remount,ro,bind ."]
    container.environ |= {"BRAZE_API_KEY": KEY, "STATES": "/states"}
    assert container.run(["touch", "/project/x"], mounts).returncode == 1
    done = container.run(container.command, mounts)
    assert done.returncode == 0, done.stderr
    assert "tiers: success, 1,000 of 1,000 rows accepted" in done.stderr + done.stdout
    assert len(braze.requests()) == 14
    done = container.run(["retl", "sync", "tiers"], mounts)
    assert "nothing to send" in done.stderr + done.stdout, done.stderr
    assert len(braze.requests()) == 14


def test_container_that_is_stopped_records_what_is_in_flight(container: Container, braze: Sandbox, tmp_path: Path):
    """As `docker stop` and Kubernetes do it: SIGTERM to process 1, which is retl."""
    os.chown(tmp_path, 1000, 1000)
    mounts = [f"mount --bind {tmp_path} states"]
    container.environ |= {"BRAZE_API_KEY": KEY, "STATES": "/states"}
    before, answer = len(braze.requests()), Held(braze, external_ids=["u300"])
    with container.start(["retl", "sync", "tiers", "--threads", "1"], mounts) as process:
        assert answer.is_held.wait(HANG_S)
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(child), signal.SIGTERM)
        answer.goes_out.set()
        out, err = process.communicate(timeout=HANG_S)
    assert process.returncode == 143, err
    assert "tiers: interrupted" in out
    sent = len(braze.requests()) - before
    assert 0 < sent < 14
    done = container.run(["retl", "sync", "tiers"], mounts)
    assert (done.returncode, len(braze.requests()) - before) == (0, 14), done.stderr
