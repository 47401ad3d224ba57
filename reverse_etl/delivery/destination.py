"""Which workspace a run sends to, as far as that can be told without sending anything."""

import re
from contextlib import closing
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from reverse_etl.braze.answers import Answer, json_object
from reverse_etl.braze.workspace import Workspace
from reverse_etl.errors import ProjectError
from reverse_etl.network.proxies import PORTS, is_loopback
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.spec_targets import SANDBOX

NEW_SANDBOX = "a sandbox that is yet to be created"
_ASK_S = 2.0
_FILE_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Destination:
    """`place` is the address of the endpoint, or `sandbox <id of its file>`; None if it cannot be told now.

    `api_key` is None of a sandbox, whose keys say nothing about it; and if the environment has none, as `retl plan`
    needs none. `requests` is the number of the last request that the sandbox had; None of all others.
    """

    place: str | None
    api_key: str | None = field(default=None, repr=False)
    requests: int | None = field(default=None, compare=False)


def destination_of(project: LoadedProject) -> Destination:
    """The destination of a target. Asks a server on this machine whether it is the sandbox; sends nothing elsewhere."""
    endpoint = project.spec.target.destination.endpoint
    if endpoint == SANDBOX:
        from reverse_etl.sandbox import file_mark

        found = file_mark(project.sandbox_file)
        return Destination(_sandbox(found.file_id), requests=found.requests) if found else Destination(NEW_SANDBOX)
    if is_loopback(urlsplit(endpoint).hostname or ""):
        answer = _ask(Workspace(endpoint, "", _ASK_S, project.network))
        if answer is None:
            return Destination(None)
        served = _served_file(answer)
        if served:
            return served
    return Destination(_address(endpoint), _api_key(project))


def _sandbox(found: str) -> str:
    return f"sandbox {found}"


def _ask(workspace: Workspace) -> Answer | None:
    """What a server on this machine says about itself; None if it says nothing. It gets no API key."""
    from reverse_etl.braze.client import Connection, Deadlines

    with closing(Deadlines()) as deadlines, closing(Connection(workspace, deadlines)) as connection:
        try:
            answer = connection.get("/_sandbox/about")
        except ProjectError:  # of a variable: for who sends
            return None
    return answer if isinstance(answer, Answer) else None


def _served_file(answer: Answer) -> Destination | None:
    """The file that a sandbox serves; None if it is something else. Its port says nothing about it."""
    said = (json_object(answer.body) or {}) if answer.status == 200 else {}
    found, requests = said.get("file_id"), said.get("requests")
    if not isinstance(found, str) or not _FILE_ID.fullmatch(found):
        return None
    return Destination(_sandbox(found), requests=requests if isinstance(requests, int) else None)


def _address(endpoint: str) -> str:
    """Scheme, host and port of an endpoint, written in one way."""
    url = urlsplit(endpoint)
    port = "" if url.port in (None, PORTS.get(url.scheme)) else f":{url.port}"
    host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
    return f"{url.scheme}://{host}{port}"


def _api_key(project: LoadedProject) -> str | None:
    try:
        return project.api_key()
    except ProjectError:
        return None
