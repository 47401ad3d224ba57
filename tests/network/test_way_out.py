"""`retl sync` and `retl debug` by a real proxy with a password, and by TLS with an authority of its own."""

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reverse_etl.braze import client
from reverse_etl.delivery.retry import RetryPolicy
from reverse_etl.network import faults
from reverse_etl.network.faults import Place, fault_of
from reverse_etl.sandbox import Fault, Sandbox
from tests.proxy import HOST, Proxy, Raw, Secure, basic, closed_port, server_context, write_authority
from tests.shop import EVENTS, KEY, Retl, Shop, some

LOGIN = "joe:s3cret p@ss"
IN_URL = "joe:s3cret%20p%40ss"
SEEN = "SELECT 'u1' AS external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time"
Arrange = Callable[..., Shop]


@pytest.fixture
def tls(braze: Sandbox) -> Iterator[Secure]:
    with Secure(braze.url, server_context(HOST, "localhost")) as server:
        yield server


@pytest.fixture
def proxy(tls: Secure) -> Iterator[Proxy]:
    with Proxy({f"{HOST}:443": ("127.0.0.1", tls.port)}, LOGIN) as server:
        yield server


@pytest.fixture
def authority(tmp_path: Path) -> str:
    return write_authority(tmp_path / "authority.pem")


@pytest.fixture
def arrange(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Arrange:
    """A shop with one sync of events to an address, in an environment with these variables and no other of their kind."""
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", *(f"{one}_PROXY" for one in ("HTTP", "HTTPS", "ALL", "NO"))):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)

    def arranged(endpoint: str, **environ: str) -> Shop:
        shop.destination, shop.environ = {"endpoint": endpoint}, {"BRAZE_API_KEY": KEY, **environ}
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        return shop.sync("it", SEEN, **EVENTS)

    return arranged


def said(shop: Shop, retl: Retl) -> str:
    """What sync and debug say of the same fault, which ends both at once: nothing is sent, nothing in doubt."""
    result = shop.run()
    assert (result.status, result.exit_code, len(result.errors)) == ("failed", 1, 1)
    assert (result.delivery.requests, result.delivery.unsent, result.delivery.in_doubt) == (0, 1, 0)
    assert shop.clock.waits == []
    error = str(result.errors[0]).removeprefix("it: ")
    debug = retl("debug", folder=shop.folder)
    assert debug.code == 1
    assert f"\nFAIL  {error}\n" in debug.out
    return error


def test_sync_and_debug_go_by_the_proxy_with_its_password(arrange: Arrange, proxy: Proxy, authority: str, retl: Retl):
    shop = arrange(f"https://{HOST}", HTTPS_PROXY=f"http://{IN_URL}@{proxy.address}", SSL_CERT_FILE=authority)
    result, debug = shop.run(), retl("debug", folder=shop.folder)
    assert (result.status, len(shop.braze.events()), debug.code) == ("success", 1, 0)
    way = f"https://{HOST}, by http://{proxy.address} (HTTPS_PROXY), trusting {authority} (SSL_CERT_FILE)"
    assert f"\nok    destination: {way}\n" in debug.out
    assert [head.splitlines()[0].split()[:2] for head in proxy.heads] == [["CONNECT", f"{HOST}:443"]] * 2
    assert [f"Proxy-Authorization: {basic(LOGIN)}" in head for head in proxy.heads] == [True, True]
    assert [name for head in proxy.heads for name in ("Bearer", KEY) if name in head] == []
    everything = debug.out + debug.err + "".join(map(str, shop.rows_of("meta"))) + repr(shop.project().network)
    assert "s3cret" not in everything
    written = b"".join(path.read_bytes() for path in shop.folder.rglob("*") if path.is_file())
    assert b"s3cret" not in written


@pytest.mark.long
def test_proxy_that_speaks_tls_is_checked_like_a_server(arrange: Arrange, tls: Secure, authority: str, retl: Retl):
    hosts = {f"{HOST}:443": ("127.0.0.1", tls.port)}
    with Proxy(hosts, LOGIN, server_context("localhost")) as proxy:
        shop = arrange(
            f"https://{HOST}", https_proxy=f"https://{IN_URL}@localhost:{proxy.port}", SSL_CERT_FILE=authority
        )
        assert shop.run().status == "success"
        assert len(shop.braze.events()) == 1
    with Proxy(hosts, LOGIN, server_context("localhost", of="a stranger")) as proxy:
        shop.sync("it", SEEN.replace("u1", "u2"), **EVENTS)
        address = f"https://localhost:{proxy.port}"
        shop = arrange(f"https://{HOST}", https_proxy=address, SSL_CERT_FILE=authority)
        assert said(shop.sync("it", SEEN.replace("u1", "u2"), **EVENTS), retl) == (
            f"the certificate of the proxy {address} of https_proxy is from an authority that is not trusted\n"
            "  hint: set SSL_CERT_FILE or REQUESTS_CA_BUNDLE to a PEM file with the certificate of that authority"
        )


LOGIN_HINT = "  hint: correct user and password in HTTPS_PROXY, percent-encoded: %40 for an at sign, %3A for a colon"
REFUSALS = {
    "wrong password": (
        "joe:wr0ng-one@",
        None,
        f"the proxy {{proxy}} of HTTPS_PROXY refuses to connect: wrong user or password\n{LOGIN_HINT}",
    ),
    "401": (
        "joe:wr0ng-one@",
        b"HTTP/1.0 401 Unauthorized\r\n\r\n",  # as tinyproxy says it
        f"the proxy {{proxy}} of HTTPS_PROXY refuses to connect: wrong user or password\n{LOGIN_HINT}",
    ),
    "forbidden": (
        "",
        b"HTTP/1.1 403 Forbidden\r\n\r\n",
        f"the proxy {{proxy}} of HTTPS_PROXY returned 403 for a connection to {HOST}\n"
        f"  hint: ask who runs the proxy, or list {HOST} in NO_PROXY",
    ),
    "no proxy": (
        "",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        "the proxy {proxy} of HTTPS_PROXY does not speak HTTP\n"
        f"  hint: correct HTTPS_PROXY, or list {HOST} in NO_PROXY",
    ),
    "no password": (
        "",
        None,
        f"the proxy {{proxy}} of HTTPS_PROXY refuses to connect: it needs a user and a password\n{LOGIN_HINT}",
    ),
}


@pytest.mark.parametrize("name", some(REFUSALS))
def test_proxy_that_refuses_ends_the_run_at_once(arrange: Arrange, proxy: Proxy, retl: Retl, name: str):
    user, proxy.answers, message = REFUSALS[name]
    shop = arrange(f"https://{HOST}", HTTPS_PROXY=f"http://{user}{proxy.address}")
    assert said(shop, retl) == message.format(proxy=f"http://{proxy.address}")
    assert len(proxy.heads) == 2


def test_proxy_that_cannot_be_reached_ends_the_run_at_once(arrange: Arrange, retl: Retl):
    hint = f"  hint: correct HTTPS_PROXY, or list {HOST} in NO_PROXY"
    with closed_port() as port:
        shop = arrange(f"https://{HOST}", HTTPS_PROXY=f"http://{IN_URL}@127.0.0.1:{port}")
        assert said(shop, retl) == (
            f"cannot reach the proxy http://127.0.0.1:{port} of HTTPS_PROXY: Connection refused\n{hint}"
        )


def test_variable_that_is_wrong_ends_the_command_before_anything_is_tried(arrange: Arrange, tmp_path: Path, retl: Retl):
    (tmp_path / "no.pem").write_text("not a certificate")
    file_hint = "hint: set {} to a file of certificates in PEM format, or unset it"
    cases = [
        (
            {"HTTPS_PROXY": f"socks5://{IN_URL}@proxy:1080"},
            'HTTPS_PROXY names a proxy of the type "socks5", and retl knows http and https proxies only',
            "hint: set it to http://HOST:PORT, with user and password in front of HOST if it needs them",
        ),
        (
            {"HTTPS_PROXY": "", "SSL_CERT_FILE": "/nowhere/ca.pem"},
            "cannot read /nowhere/ca.pem, which SSL_CERT_FILE names: No such file or directory",
            file_hint.format("SSL_CERT_FILE"),
        ),
        (
            {"REQUESTS_CA_BUNDLE": str(tmp_path)},
            f"cannot read {tmp_path}, which REQUESTS_CA_BUNDLE names: Is a directory",
            file_hint.format("REQUESTS_CA_BUNDLE"),
        ),
        (
            {"REQUESTS_CA_BUNDLE": str(tmp_path / "no.pem")},
            f"{tmp_path}/no.pem, which REQUESTS_CA_BUNDLE names, does not contain certificates in PEM format",
            file_hint.format("REQUESTS_CA_BUNDLE"),
        ),
    ]
    for environ, message, hint in cases:
        shop = arrange(f"https://{HOST}", **environ)
        sync, debug = (retl(*command, folder=shop.folder) for command in (("sync", "it"), ("debug",)))
        assert (sync.code, sync.err) == (2, f"{message}\n  {hint}\n")
        assert (debug.code, debug.err) == (1, "")
        assert f"\nFAIL  destination: {message}\n  {hint}\n" in debug.out
    assert not (shop.folder / ".retl").exists()


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (
            server_context("localhost", of="a stranger"),
            "the certificate of {url} is from an authority that is not trusted\n"
            "  hint: set SSL_CERT_FILE or REQUESTS_CA_BUNDLE to a PEM file with the certificate of that authority",
        ),
        (
            server_context("elsewhere.example.com"),
            "the certificate of {url} is that of another host\n"
            "  hint: correct endpoint: it must have the name that is in the certificate",
        ),
        (
            server_context("localhost", expired=True),
            "the certificate of {url} has expired\n"
            "  hint: check the clock of this machine, and ask whoever runs the server to renew the certificate",
        ),
    ],
    ids=["unknown authority", "another host", "expired"],
)
def test_certificate_that_is_wrong_ends_the_run_at_once(
    arrange: Arrange, braze: Sandbox, authority: str, retl: Retl, context: ssl.SSLContext, message: str
):
    with Secure(braze.url, context) as server:
        url = f"https://localhost:{server.port}"
        assert said(arrange(url, SSL_CERT_FILE=authority), retl) == message.format(url=url)


@pytest.mark.long
def test_address_that_is_wrong_ends_the_run_at_once(arrange: Arrange, braze: Sandbox, retl: Retl):
    with closed_port() as port:
        assert said(arrange(f"http://localhost:{port}"), retl) == (
            f"cannot reach http://localhost:{port}: Connection refused\n  hint: start the server, or correct endpoint"
        )
    with Raw(lambda _: [b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"]) as plain:
        assert said(arrange(f"https://localhost:{plain.port}"), retl) == (
            f"https://localhost:{plain.port} does not use TLS\n  hint: check scheme and port in endpoint"
        )


@pytest.mark.parametrize(("number", "is_wrong"), [(socket.EAI_NONAME, True), (socket.EAI_AGAIN, False)])
def test_name_that_nobody_knows_is_wrong_and_one_that_cannot_be_resolved_for_now_is_not(number: int, is_wrong: bool):
    place = Place(f"https://{HOST}", HOST, "endpoint")
    assert fault_of(socket.gaierror(number, "Name or service not known"), place) == faults.Fault(
        f"cannot reach https://{HOST}: Name or service not known",
        "correct endpoint; or set HTTPS_PROXY, if this network reaches others by a proxy",
        is_wrong,
    )


def test_proxy_that_cannot_reach_the_server_is_asked_again(arrange: Arrange, proxy: Proxy, authority: str):
    shop = arrange(f"https://{HOST}", HTTPS_PROXY=f"http://{IN_URL}@{proxy.address}", SSL_CERT_FILE=authority)
    place = proxy.hosts.pop(f"{HOST}:443")
    failed = shop.run(policy=RetryPolicy(tries=3))
    assert failed.errors[0].message.startswith(
        f"it: the proxy http://{proxy.address} of HTTPS_PROXY returned 502 for a connection to {HOST}; gave up after 3 attempts"
    )
    assert (len(proxy.heads), failed.delivery.unsent) == (3, 1)
    proxy.hosts[f"{HOST}:443"] = place
    assert shop.run().status == "success"


def test_proxy_that_drips_ends_with_its_time(arrange: Arrange, monkeypatch: pytest.MonkeyPatch):
    """Nothing was sent then; it is tried again, as after any other silence."""

    def drips(_: str) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nX: "
        while not over.wait(0.01):
            yield b"x"

    over = threading.Event()
    monkeypatch.setattr(client, "CONNECT_TIMEOUT_S", 0.2)
    with Raw(drips) as proxy:
        shop = arrange(f"https://{HOST}", HTTPS_PROXY=f"http://127.0.0.1:{proxy.port}")
        result = shop.run(policy=RetryPolicy(tries=2))
        over.set()
    assert (result.delivery.unsent, result.delivery.in_doubt, len(shop.clock.waits)) == (1, 0, 1)
    assert result.errors[0].message.startswith(
        f"it: cannot reach the proxy http://127.0.0.1:{proxy.port} of HTTPS_PROXY: "
    )


def test_what_is_refused_after_it_was_reached_is_tried_again(arrange: Arrange, proxy: Proxy, authority: str):
    """An outage in the middle of a run: the proxy loses its hosts when the first request has been answered."""
    shop = arrange(f"https://{HOST}", HTTPS_PROXY=f"http://{IN_URL}@{proxy.address}", SSL_CERT_FILE=authority)
    shop.destination["max_objects_per_request"] = 1
    shop.sync("it", SEEN.replace("'u1'", "'u' || i") + " FROM range(2) r(i)", **EVENTS)

    def lose() -> bool:
        proxy.answers = b"HTTP/1.1 403 Forbidden\r\n\r\n"
        return True

    shop.braze.add_fault(Fault("delay", until=lose), Fault("status", status=429, headers={"Connection": "close"}))
    result = shop.run(threads=1, policy=RetryPolicy(tries=3))
    assert "gave up after 3 attempts" in result.errors[0].message


@pytest.mark.long
def test_files_of_certificates_count_in_their_order_besides_the_usual_ones(
    arrange: Arrange, tls: Secure, tmp_path: Path, authority: str
):
    other, usual = write_authority(tmp_path / "other.pem", "another"), len(default_authorities())
    url = f"https://localhost:{tls.port}"
    shop = arrange(url, REQUESTS_CA_BUNDLE=authority, SSL_CERT_FILE=other)
    assert shop.run().status == "success"
    assert len(shop.project().network.tls.get_ca_certs()) == usual + 1
    shop = arrange(url, REQUESTS_CA_BUNDLE=other, SSL_CERT_FILE=authority).sync(
        "it", SEEN.replace("u1", "u2"), **EVENTS
    )
    assert "not trusted" in shop.run().errors[0].message
    shop = arrange(url, REQUESTS_CA_BUNDLE="", SSL_CERT_FILE=authority)
    assert shop.sync("it", SEEN.replace("u1", "u2"), **EVENTS).run().status == "success"


def default_authorities() -> list[object]:
    import certifi

    return list(ssl.create_default_context(cafile=certifi.where()).get_ca_certs())


def test_netrc_changes_no_request(arrange: Arrange, braze: Sandbox, tmp_path: Path, retl: Retl, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login joe password other\ndefault login joe password other\n")
    netrc.chmod(0o600)
    shop = arrange(braze.url, NETRC=str(netrc))
    assert (shop.run().status, retl("debug", folder=shop.folder).code) == ("success", 0)


def test_model_cannot_read_the_password_of_a_proxy(arrange: Arrange, retl: Retl):
    shop = arrange(f"https://{HOST}", https_proxy=f"http://{IN_URL}@proxy:3128")
    shop.model("it", "SELECT '{{ env_var('https_proxy') }}' AS external_id")
    compiled = retl("compile", "it", folder=shop.folder)
    assert (compiled.code, compiled.err) == (
        2,
        'models/it.sql:1: environment variable "https_proxy" is a secret: only "api_key" can read the one of an API key\n'
        "  hint: use a variable that is not a secret\n",
    )


def test_proxy_of_a_loopback_address_is_not_asked(arrange: Arrange, braze: Sandbox, proxy: Proxy, retl: Retl):
    shop = arrange(braze.url, **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), f"http://{proxy.address}"))
    assert (shop.run().status, retl("debug", folder=shop.folder).code, proxy.heads) == ("success", 0, [])


def test_debug_does_not_take_anything_for_braze(arrange: Arrange, retl: Retl):
    """A page that asks to log in to the network, for example."""
    with Raw(lambda _: [b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>"]) as page:
        shop = arrange(page.url)
        debug = retl("debug", folder=shop.folder)
    assert debug.code == 1
    assert (
        "\nFAIL  /users/track, permission users.track: 200 without a JSON object: "
        "check endpoint: this is not how Braze responds, so something else is there or in between\n"
    ) in debug.out


def test_debug_stops_at_the_first_call_that_cannot_be_made(arrange: Arrange, retl: Retl):
    with closed_port() as port:
        shop = arrange(f"http://localhost:{port}")
        shop.sync("gone", "SELECT 'u1' AS external_id", mode="users_delete", allow_destructive=True)
        found = retl("debug", folder=shop.folder)
    assert found.out.count("FAIL") == 1


def test_results_in_files_do_not_name_the_user_of_a_proxy(arrange: Arrange, retl: Retl, proxy: Proxy):
    shop = arrange(f"https://{HOST}", HTTPS_PROXY=f"http://joe:wr0ng-one@{proxy.address}")
    outcome = retl("--log-format", "json", "sync", "it", folder=shop.folder)
    results = json.loads((shop.folder / "target" / "run_results.json").read_text())
    assert outcome.code == 1
    assert results["results"][0]["errors"][0]["message"].startswith(
        f"it: the proxy http://{proxy.address} of HTTPS_PROXY"
    )
    written = b"".join(path.read_bytes() for path in shop.folder.rglob("*") if path.is_file())
    assert "wr0ng" not in outcome.out + outcome.err + written.decode("latin-1")
