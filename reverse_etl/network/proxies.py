"""The proxy of an address, from HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, as curl reads them. Pure.

Loopback addresses are never reached by a proxy, whatever the variables say.
"""

import base64
import ipaddress
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from reverse_etl.errors import ProjectError

LOOPBACK = ("localhost", "127.0.0.1", "::1")
PORTS = {"https": 443, "http": 80}

_VARIABLES = re.compile(r"(?:https?|all)_proxy", re.IGNORECASE)
_FORM = "http://HOST:PORT, with user and password in front of HOST if it needs them"


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy, and the variable that names it. Its text and its repr do not contain user and password."""

    scheme: str
    host: str
    port: int
    variable: str
    login: str = field(default="", repr=False)  # USER:PASSWORD

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        """What it is told about who asks."""
        encoded = base64.b64encode(self.login.encode()).decode()
        return {"Proxy-Authorization": f"Basic {encoded}"} if self.login else {}


def names_proxy(variable: str) -> bool:
    """Whether an environment variable is one that names a proxy, and may contain its password."""
    return _VARIABLES.fullmatch(variable) is not None


def proxy_to(url: str, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy of a URL; None if it is reached directly.

    The first of these variables that is set counts, an empty one for no proxy: https_proxy, HTTPS_PROXY, all_proxy,
    ALL_PROXY (for an http:// URL, the first two are http_proxy and HTTP_PROXY). Raises ProjectError, which contains no
    password, if its value is not an address of an HTTP proxy.
    """
    there = urlsplit(url)
    names = (f"{there.scheme}_proxy", "all_proxy")
    variable = next((name for one in names for name in (one, one.upper()) if name in environ), None)
    value = environ[variable].strip() if variable else ""
    if not variable or not value or _is_excluded(there, environ):
        return None
    return _read(value, variable)


def proxy_secrets(value: str) -> Iterator[str]:
    """What of the value of a variable must not be shown: the password, as it is and as it is written there."""
    _, before, rest = value.rpartition("@")[0].rpartition("//")
    login = rest if before else value.rpartition("@")[0]
    for text in dict.fromkeys((login, unquote(login))):
        if text:
            yield from (text, text.partition(":")[2])


def _read(value: str, variable: str) -> Proxy:
    url = _split(value)
    if url is None or not url.hostname or not re.fullmatch(r"[\w.:%-]+", url.hostname) or url.path not in ("", "/"):
        raise ProjectError(f"{variable} is not the address of a proxy", hint=f"set it to {_FORM}", code="P093")
    if url.scheme not in PORTS:
        what = f'{variable} names a proxy of the type "{url.scheme}", and retl knows http and https proxies only'
        raise ProjectError(what, hint=f"set it to {_FORM}", code="P093")
    login = f"{unquote(url.username)}:{unquote(url.password or '')}" if url.username else ""
    return Proxy(url.scheme, url.hostname, url.port or PORTS[url.scheme], variable, login)


def _split(value: str) -> SplitResult | None:
    with suppress(ValueError):
        url = urlsplit(value if "://" in value else f"http://{value}")
        return url if url.port != 0 else None  # asking for the port checks it
    return None


def _is_excluded(there: SplitResult, environ: Mapping[str, str]) -> bool:
    host, port = (there.hostname or "").rstrip("."), there.port or PORTS.get(there.scheme)
    if is_loopback(host):
        return True
    listed = not_by_proxy(environ)
    return any(_matches(entry.lower(), host, port) for entry in re.split(r"[\s,]+", listed) if entry)


def not_by_proxy(environ: Mapping[str, str]) -> str:
    """The hosts that NO_PROXY, or no_proxy, lists."""
    return environ.get("no_proxy", environ.get("NO_PROXY", ""))


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _matches(entry: str, host: str, port: int | None) -> bool:
    """Whether NO_PROXY's entry is about a host: a name with all below it, an address, a network; a port at its end."""
    with suppress(ValueError):
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip("[]"), strict=False)
    name, colon, number = entry.rpartition(":")
    if colon and number.isdigit():
        return int(number) == port and _matches(name, host, port)
    name = entry.removeprefix("*").strip(".")
    return entry == "*" or (name != "" and f".{host}".endswith(f".{name}"))
