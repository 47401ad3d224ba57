"""What every request to Braze carries, read off the wire."""

import re
import socket
import socketserver
import threading
import tomllib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from reverse_etl.braze.answers import Answer, NotSent
from reverse_etl.braze.client import Connection, Deadlines
from reverse_etl.braze.workspace import Workspace
from reverse_etl.sandbox import Sandbox
from tests.proxy import Server
from tests.shop import EVENTS, Retl, Shop, some
from tests.test_architecture import PACKAGE, name_of

VERSION = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["version"]


class Tap(Server):
    """Stands between a client and a server on loopback: passes all bytes on, and keeps what the client says."""

    def __init__(self, url: str) -> None:
        self.server = (urlsplit(url).hostname, urlsplit(url).port)
        self.heard: list[bytearray] = []  # by connection
        super().__init__(_Passing)

    @property
    def url(self) -> str:
        return "http://{}:{}".format(*self.server_address)

    def heads(self) -> list[str]:
        """The request line and the headers of each request, body left out."""
        return [
            head
            for heard in self.heard
            for head in re.findall(r"[A-Z]+ /\S* HTTP/1.1\r\n.*?(?=\r\n\r\n)", heard.decode(), re.S)
        ]


class _Passing(socketserver.BaseRequestHandler):
    server: Tap

    def handle(self) -> None:
        heard = bytearray()
        self.server.heard.append(heard)
        with socket.create_connection(self.server.server) as server:
            back = threading.Thread(target=self._answer, args=(server,))
            back.start()
            while said := self.request.recv(65536):
                heard += said
                server.sendall(said)
            server.shutdown(socket.SHUT_WR)
            back.join()

    def _answer(self, server: socket.socket) -> None:
        while said := server.recv(65536):
            self.request.sendall(said)


@pytest.mark.long
def test_every_request_names_retl_and_its_version(tmp_path: Path, braze: Sandbox, retl: Retl):
    with Tap(braze.url) as tap:
        shop = Shop(tmp_path / "shop", braze, destination={"endpoint": tap.url})
        shop.sync("people", "SELECT 'u' || i AS external_id FROM range(300) r(i)")
        shop.sync("gone", "SELECT 'u1' AS external_id", mode="users_delete", allow_destructive=True, after=["people"])
        assert (
            retl("sync", "--all", "--threads", "1", folder=shop.folder).code,
            retl("debug", folder=shop.folder).code,
        ) == (0, 0)
        heads = tap.heads()
    paths = sorted(head.split()[1] for head in heads)
    # sync sends 1 and 4, and debug asks one of each; which sandbox it is, is asked before and after a plan, and by debug;
    # what it has dropped, after each run
    ends = ((0, "/users/track"), (4, "/users/delete"))
    dropped = [f"/_sandbox/drop-counts?after={number}&paths={path}" for number, path in ends]
    of_export = ["/users/export/ids"]  # whether the key may read users back
    assert paths == ["/_sandbox/about"] * 5 + dropped + ["/users/delete"] * 2 + of_export + ["/users/track"] * 5
    agents = [re.findall(r"^user-agent: .*$", head.replace("\r", ""), re.M | re.I) for head in heads]
    assert agents == [[f"User-Agent: retl/{VERSION}"]] * 15


def test_nobody_else_talks_http():
    """So all of retl goes by the same proxies and certificates: requests to Braze, and those that tell somebody."""
    imports = re.compile(r"^\s*(import|from) (requests|urllib3|httpx|httptools|aiohttp)\b", re.M)
    files = (path for path in PACKAGE.rglob("*.py") if imports.search(path.read_text(encoding="utf-8")))
    assert {name_of(path) for path in files} == {"braze.client", "braze.wire", "network.call"}


def test_request_that_fails_before_its_first_byte_was_not_sent():
    """Such as one that HTTP cannot carry: nobody may say later that it is in doubt."""
    with Sandbox() as braze, connection_to(Workspace(braze.url, "a key\nof two lines")) as connection:
        result = connection.send("/users/track", b"{}")
        assert braze.requests() == []
    assert isinstance(result, NotSent)
    assert "of two lines" not in result.why


def test_what_is_known_of_a_response_does_not_contain_the_key():
    with Sandbox() as braze, connection_to(Workspace(braze.url, "another-key")) as connection:
        result = connection.send("/users/track", b"{}")
    assert isinstance(result, Answer)
    assert (result.status, result.body) == (401, b'{"message":"Invalid API key: ***"}')


@pytest.mark.parametrize("key", some(["s", "success", '"', "1"]))
def test_key_that_is_part_of_any_response_leaves_a_success_what_it_is(tmp_path: Path, key: str):
    with Sandbox(keys={key: {"*"}}) as braze:
        shop = Shop(tmp_path / "shop", braze, environ={"BRAZE_API_KEY": key})
        shop.sync("it", "SELECT 'u1' AS external_id, 'seen' AS name, now() AS time", **EVENTS)
        result = shop.run()
    assert (result.status, result.delivery.accepted, result.delivery.in_doubt) == ("success", 1, 0)


@contextmanager
def connection_to(workspace: Workspace) -> Iterator[Connection]:
    with closing(Deadlines()) as deadlines, closing(Connection(workspace, deadlines)) as connection:
        yield connection
