"""A store is reached by the same proxies and certificates as Braze, and what is wrong with them is said as well."""

from pathlib import Path

import pytest

from reverse_etl.network.network import Network
from reverse_etl.shared_state.object_store import ObjectStore, StoreError
from tests.bucket import Bucket
from tests.proxy import Proxy, Secure, closed_port, server_context, write_authority

HOST = "store"  # moto takes the first part of a name with dots for a bucket
LOGIN, IN_URL = "joe:s3cret p@ss", "joe:s3cret%20p%40ss"


def store(bucket: Bucket, address: str, **environ: str) -> ObjectStore:
    return ObjectStore(bucket.url, Network({**bucket.environ, "AWS_ENDPOINT_URL": address, **environ}))


def why(objects: ObjectStore) -> str:
    with pytest.raises(StoreError) as raised:
        objects.read("head.json")
    return str(raised.value).removeprefix(f"cannot read {objects.url}/head.json: ")


def test_store_is_reached_by_the_proxy_and_by_no_other_variable_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The library reads them by itself, unless it is told: those of the process, and not those of .env."""
    authority = write_authority(tmp_path / "authority.pem")
    with Bucket() as bucket, Secure(bucket.endpoint, server_context(HOST)) as tls:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        assert store(bucket, bucket.endpoint).create("direct", b"1")
        with Proxy({f"{HOST}:443": ("127.0.0.1", tls.port)}, LOGIN) as proxy:
            address = f"http://{IN_URL}@{proxy.address}"
            objects = store(bucket, f"https://{HOST}", HTTPS_PROXY=address, SSL_CERT_FILE=authority)
            assert objects.create("by-proxy", b"1")
            assert objects.names() == ["by-proxy", "direct"]
        assert {head.split()[1] for head in proxy.heads} == {f"{HOST}:443"}
        assert "s3cret" not in repr(objects)


@pytest.mark.long
def test_what_is_wrong_on_the_way_to_a_store_is_named(tmp_path: Path):
    authority = write_authority(tmp_path / "authority.pem")
    trust = "set SSL_CERT_FILE or REQUESTS_CA_BUNDLE to a PEM file with the certificate of that authority"
    login = "correct user and password in HTTPS_PROXY, percent-encoded: %40 for an at sign, %3A for a colon"
    url = f"https://{HOST}"
    with Bucket() as bucket, Secure(bucket.endpoint, server_context("localhost")) as tls, Proxy({}, LOGIN) as proxy:
        local = f"https://localhost:{tls.port}"
        assert why(store(bucket, local)) == (
            f"the certificate of {local} is from an authority that is not trusted\n  hint: {trust}"
        )
        other = f"https://127.0.0.1:{tls.port}"
        assert why(store(bucket, other, SSL_CERT_FILE=authority)) == (
            f"the certificate of {other} is that of another host\n"
            "  hint: correct the address of the store: it must have the name that is in the certificate"
        )
        assert why(store(bucket, url, HTTPS_PROXY=f"http://joe:wr0ng-one@{proxy.address}")) == (
            f"the proxy http://{proxy.address} of HTTPS_PROXY refuses to connect: wrong user or password\n  hint: {login}"
        )
        assert why(store(bucket, url, HTTPS_PROXY=f"http://{IN_URL}@{proxy.address}")) == (
            f"the proxy http://{proxy.address} of HTTPS_PROXY did not connect to {HOST}\n"
            f"  hint: ask who runs the proxy, or list {HOST} in NO_PROXY"
        )
        with closed_port() as port:
            assert why(store(bucket, url, HTTPS_PROXY=f"http://{IN_URL}@127.0.0.1:{port}")) == (
                f"the proxy http://127.0.0.1:{port} of HTTPS_PROXY cannot be reached: Connection refused\n"
                f"  hint: correct HTTPS_PROXY, or list {HOST} in NO_PROXY"
            )
