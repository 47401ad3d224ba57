"""Which workspace a run sends to, as far as that can be told without sending anything."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit

import requests

from reverse_etl.braze.client import user_agent
from reverse_etl.errors import ProjectError
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.spec import LOOPBACK, SANDBOX
from reverse_etl.sandbox import file_id

NEW_SANDBOX = "a sandbox that is yet to be created"
_ASK_S = 2.0
_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True)
class Destination:
    """`place` is the address of the endpoint, or `sandbox <id of its file>`; None if it cannot be told now.

    `api_key` is None of a sandbox, whose keys say nothing about it; and if the environment has none, as `retl plan`
    needs none.
    """

    place: str | None
    api_key: str | None = field(default=None, repr=False)


def destination_of(project: LoadedProject) -> Destination:
    """The destination of a target. Asks a server on this machine whether it is the sandbox; sends nothing elsewhere."""
    endpoint = project.spec.target.destination.endpoint
    if endpoint == SANDBOX:
        found = file_id(project.sandbox_file)
        return Destination(_sandbox(found) if found else NEW_SANDBOX)
    if urlsplit(endpoint).hostname in LOOPBACK:
        try:
            served = _served_file(endpoint)
        except requests.RequestException:
            return Destination(None)
        if served:
            return Destination(_sandbox(served))
    return Destination(_address(endpoint), _api_key(project))


def _sandbox(found: str) -> str:
    return f"sandbox {found}"


def _served_file(endpoint: str) -> str | None:
    """The id of the file that a sandbox serves here; None if it is something else. Its port says nothing about it."""
    with requests.Session() as session:
        session.trust_env = False
        session.headers["User-Agent"] = user_agent()
        answer = session.get(f"{endpoint}/_sandbox/about", timeout=_ASK_S, allow_redirects=False)
    try:
        said = answer.json()
    except ValueError:
        return None
    return str(said["file_id"]) if isinstance(said, dict) and "file_id" in said else None


def _address(endpoint: str) -> str:
    """Scheme, host and port of an endpoint, written in one way."""
    url = urlsplit(endpoint)
    port = "" if url.port in (None, _PORTS.get(url.scheme)) else f":{url.port}"
    host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
    return f"{url.scheme}://{host}{port}"


def _api_key(project: LoadedProject) -> str | None:
    try:
        return project.api_key()
    except ProjectError:
        return None
