"""Environments of the clients, under .clients/: one each, made when it is needed, made anew when its pins change."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1] / ".clients"
PROGRAMS = Path(__file__).parent / "programs"
TIMEOUT_S = 300


@dataclass(frozen=True)
class Client:
    """A client library: what is installed from where, and the program that calls it.

    `instead`: packages to install in place of those that it asks for.
    """

    name: str
    registry: str  # npm or PyPI
    package: str
    program: str
    instead: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        return ROOT / self.name


CLIENTS = {
    one.name: one
    for one in (
        Client("braze-api", "npm", "braze-api@2.13.4", "braze_api.mjs"),
        # It asks for Django and more, for a plugin of edx-platform; the client itself needs requests alone.
        Client("edx-braze-client", "PyPI", "edx-braze-client==1.1.4", "edx_braze_client.py", ("requests>=2.32",)),
        Client("braze-client-sdk", "PyPI", "braze-client-sdk==1.0.0", "braze_client_sdk.py"),
        # The tenacity that it asks for does not start on Python 3.11.
        Client("braze-client", "PyPI", "braze-client==2.3.3", "braze_client.py", ("requests>=2.32", "tenacity>=9")),
    )
}


class MissingError(Exception):
    """The machine lacks what a client needs."""


def run(client: Client, url: str, key: str) -> dict[str, object]:
    """Call everything that the client's program calls; call -> answer. Raises MissingError."""
    command = [*_interpreter(client), str(_program(client)), url, key]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        raise RuntimeError(f"{client.program} ended with {done.returncode}:\n{done.stderr}")
    answers: dict[str, object] = json.loads(done.stdout)
    return answers


def _program(client: Client) -> Path:
    """Node looks for packages beside the program, so there it has to be."""
    if client.registry == "PyPI":
        return PROGRAMS / client.program
    return Path(shutil.copy(PROGRAMS / client.program, client.folder))


def _interpreter(client: Client) -> Sequence[str]:
    for tool in ("node", "npm") if client.registry == "npm" else ():
        if shutil.which(tool) is None:
            raise MissingError(f"{tool} is not on the PATH: {client.name} needs Node.js 18 or later, with npm")
    pins = json.dumps([client.package, client.instead])
    stamp = client.folder / "pins.json"
    if not stamp.exists() or stamp.read_text() != pins:
        shutil.rmtree(client.folder, ignore_errors=True)
        client.folder.mkdir(parents=True)
        print(f"installing {client.package} from {client.registry}", file=sys.stderr)
        install = _install_npm if client.registry == "npm" else _install_python
        install(client)
        stamp.write_text(pins)
    return ["node"] if client.registry == "npm" else [str(client.folder / "bin" / "python")]


def _install_npm(client: Client) -> None:
    _do(["npm", "install", "--no-fund", "--no-audit", "--prefix", str(client.folder), client.package])


def _install_python(client: Client) -> None:
    _do([sys.executable, "-m", "venv", str(client.folder)])
    pip = [str(client.folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if client.instead:
        _do([*pip, *client.instead])
        pip.append("--no-deps")
    _do([*pip, client.package])


def _do(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise MissingError(f"{' '.join(command[:4])} ... took more than {TIMEOUT_S} s") from error
    if done.returncode:
        raise MissingError(f"{' '.join(command[:4])} ... failed:\n{done.stderr or done.stdout}")
