"""Which proxy an address has, as the environment says."""

import pytest

from reverse_etl.errors import ProjectError
from reverse_etl.network.proxies import proxy_secrets, proxy_to

BRAZE = "https://rest.iad-01.braze.com"
P, Q = "http://proxy:3128", "http://other:8080"


@pytest.mark.parametrize(
    ("environ", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": P}, f"{P} of HTTPS_PROXY"),
        ({"https_proxy": P, "HTTPS_PROXY": Q}, f"{P} of https_proxy"),
        ({"HTTPS_PROXY": P, "ALL_PROXY": Q}, f"{P} of HTTPS_PROXY"),
        ({"HTTPS_PROXY": "", "ALL_PROXY": Q}, None),
        ({"all_proxy": P, "ALL_PROXY": Q}, f"{P} of all_proxy"),
        ({"HTTP_PROXY": P, "http_proxy": P}, None),
        ({"HTTPS_PROXY": "proxy:3128"}, f"{P} of HTTPS_PROXY"),
        ({"HTTPS_PROXY": " http://proxy:3128/ "}, f"{P} of HTTPS_PROXY"),
        ({"HTTPS_PROXY": "https://proxy"}, "https://proxy:443 of HTTPS_PROXY"),
        ({"HTTPS_PROXY": "http://[::1]:3128"}, "http://[::1]:3128 of HTTPS_PROXY"),
        ({"HTTPS_PROXY": P, "NO_PROXY": "*"}, None),
        ({"HTTPS_PROXY": P, "NO_PROXY": "example.com, braze.com"}, None),
        ({"HTTPS_PROXY": P, "NO_PROXY": ".BRAZE.com"}, None),
        ({"HTTPS_PROXY": P, "NO_PROXY": "*.braze.com"}, None),
        ({"HTTPS_PROXY": P, "NO_PROXY": "braze.com:443"}, None),
        ({"HTTPS_PROXY": P, "NO_PROXY": "braze.com:8443"}, f"{P} of HTTPS_PROXY"),
        ({"HTTPS_PROXY": P, "NO_PROXY": "aze.com 10.0.0.0/8 ,,"}, f"{P} of HTTPS_PROXY"),
        ({"HTTPS_PROXY": P, "no_proxy": "", "NO_PROXY": "*"}, f"{P} of HTTPS_PROXY"),
    ],
)
def test_proxy_is_the_one_that_the_first_variable_names(environ: dict[str, str], proxy: str | None):
    found = proxy_to(BRAZE, environ)
    assert (found and f"{found} of {found.variable}") == proxy


@pytest.mark.parametrize(
    ("url", "is_direct"),
    [
        ("https://10.1.2.3", True),
        ("https://[fd00::1]:8443", True),
        ("https://11.1.2.3", False),
        ("https://localhost:1", True),
        ("https://127.8.8.8", True),
        ("https://[::1]", True),
        ("https://localhost.example.com", False),
    ],
)
def test_networks_and_this_machine_are_reached_directly(url: str, is_direct: bool):
    assert (proxy_to(url, {"ALL_PROXY": P, "NO_PROXY": "10.0.0.0/8,fd00::/8"}) is None) == is_direct


def test_http_address_has_the_proxy_of_http():
    found = proxy_to("http://minio.example.com:9000", {"HTTPS_PROXY": P, "HTTP_PROXY": Q})
    assert str(found) == Q


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("socks5://u:p@proxy:1080", 'HTTPS_PROXY names a proxy of the type "socks5", and retl knows http and https proxies only'),
        ("http://u:p@proxy:99999", "HTTPS_PROXY is not the address of a proxy"),
        ("http://u:p@proxy:0", "HTTPS_PROXY is not the address of a proxy"),
        ("http://u:p@", "HTTPS_PROXY is not the address of a proxy"),
        ("http://u:p@pro xy", "HTTPS_PROXY is not the address of a proxy"),
        ("http://u:p@[proxy", "HTTPS_PROXY is not the address of a proxy"),
        ("http://u:p@proxy/path", "HTTPS_PROXY is not the address of a proxy"),
    ],
)  # fmt: skip
def test_value_that_is_no_proxy_is_refused_without_saying_its_password(value: str, message: str):
    with pytest.raises(ProjectError) as raised:
        proxy_to(BRAZE, {"HTTPS_PROXY": value})
    hint = "  hint: set it to http://HOST:PORT, with user and password in front of HOST if it needs them"
    assert (str(raised.value), raised.value.exit_code) == (f"{message}\n{hint}", 2)


def test_user_and_password_are_shown_by_nothing():
    found = proxy_to(BRAZE, {"HTTPS_PROXY": "http://joe:p%40ss%3Aword@proxy:3128"})
    assert found
    assert (found.login, found.headers) == ("joe:p@ss:word", {"Proxy-Authorization": "Basic am9lOnBAc3M6d29yZA=="})
    assert (str(found), "joe" in repr(found), "ss" in repr(found)) == (P, False, False)


@pytest.mark.parametrize("address", ["http://joe:p%40ss@proxy:3128", "joe:p%40ss@proxy:3128"])
def test_only_what_is_secret_of_an_address_is_a_secret(address: str):
    assert sorted(proxy_secrets(address)) == ["joe:p%40ss", "joe:p@ss", "p%40ss", "p@ss"]
    assert list(proxy_secrets(P)) == []
