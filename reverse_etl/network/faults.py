"""What it means that a connection could not be made: why, what to do, and whether trying again may help. Pure."""

import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reverse_etl.network.proxies import Proxy, is_loopback

if TYPE_CHECKING:
    import ssl

# What is wrong with a certificate, and what to do; by OpenSSL's X509_V_ERR_* of x509_vfy.h.
_TRUST = "set SSL_CERT_FILE or REQUESTS_CA_BUNDLE to a PEM file with the certificate of that authority"
_RENEW = "check the clock of this machine, and ask whoever runs the server to renew the certificate"
UNKNOWN_AUTHORITY = ("is from an authority that is not trusted", _TRUST)
OTHER_HOST = ("is that of another host", "correct {setting}: it must have the name that is in the certificate")
EXPIRED, NOT_YET_VALID = ("has expired", _RENEW), ("is not valid yet", _RENEW)
_BY_CODE = {
    **dict.fromkeys((2, 18, 19, 20, 21), UNKNOWN_AUTHORITY),
    **dict.fromkeys((62, 64), OTHER_HOST),
    9: NOT_YET_VALID,
    10: EXPIRED,
}
_REFUSED_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})")
_NO_SUCH_NAME = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))


@dataclass(frozen=True)
class Place:
    """Where a connection was to lead: the server, or the proxy in between, and how people set its address."""

    url: str
    host: str
    setting: str  # what to correct, if the address is wrong
    proxy: Proxy | None = None  # if it is the proxy that could not be reached, or did not connect to the server


@dataclass(frozen=True)
class Fault:
    """Why there is no connection. `is_wrong`: an address, a certificate or a password is; trying again is useless."""

    why: str
    hint: str | None = None
    is_wrong: bool = False


def fault_of(error: BaseException, place: Place) -> Fault:
    """The fault that an exception of a connection to `place` stands for."""
    import ssl  # these take longer to import than most runs have use for them
    from http.client import BadStatusLine, RemoteDisconnected

    cause = root_of(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        other = (f"is not valid: {cause.verify_message}", "check {setting}")
        return distrusted(_BY_CODE.get(cause.verify_code, other), place)
    what = f"cannot reach {_shown(place)}"
    if place.proxy and (refused := _REFUSED_TUNNEL.search(str(cause))):
        return _refused_tunnel(int(refused[1]), place, place.proxy)
    if isinstance(cause, socket.gaierror):
        return Fault(f"{what}: {reason_of(error)}", _address_hint(place), is_wrong=cause.errno in _NO_SUCH_NAME)
    if isinstance(cause, ConnectionRefusedError):
        return Fault(f"{what}: {reason_of(error)}", _address_hint(place), is_wrong=True)
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return _no_tls(cause, place)
    if isinstance(cause, BadStatusLine) and not isinstance(cause, RemoteDisconnected):
        return Fault(f"{_shown(place)} does not speak HTTP", _address_hint(place), is_wrong=True)
    return Fault(f"{what}: {reason_of(error)}")


def root_of(error: BaseException) -> BaseException:
    """The exception of the system, without those that libraries wrapped around it."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return error


def reason_of(error: BaseException) -> str:
    """Its message, in one line."""
    cause = root_of(error)
    said = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
    return said.splitlines()[0] if said else type(cause).__name__


def _shown(place: Place) -> str:
    return f"the proxy {place.proxy} of {place.proxy.variable}" if place.proxy else place.url


def _address_hint(place: Place) -> str:
    if place.proxy:
        return f"correct {place.proxy.variable}, or list {place.host} in NO_PROXY"
    if is_loopback(place.host):
        return f"start the server, or correct {place.setting}"
    return f"correct {place.setting}; or set HTTPS_PROXY, if this network reaches others by a proxy"


def distrusted(what: tuple[str, str], place: Place) -> Fault:
    """A certificate is not valid: UNKNOWN_AUTHORITY, OTHER_HOST, EXPIRED or NOT_YET_VALID."""
    setting = place.proxy.variable if place.proxy else place.setting
    return Fault(f"the certificate of {_shown(place)} {what[0]}", what[1].format(setting=setting), is_wrong=True)


def refused_login(proxy: Proxy) -> Fault:
    """The proxy wants to know who asks, or does not believe it."""
    why = "wrong user or password" if proxy.login else "it needs a user and a password"
    hint = f"correct user and password in {proxy.variable}, percent-encoded: %40 for an at sign, %3A for a colon"
    return Fault(f"the proxy {proxy} of {proxy.variable} refuses to connect: {why}", hint, is_wrong=True)


def _no_tls(error: "ssl.SSLError", place: Place) -> Fault:
    if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
        what = f"{_shown(place)} does not use TLS"
        hint = f"check scheme and port in {place.proxy.variable if place.proxy else place.setting}"
        return Fault(what, hint, is_wrong=True)
    why = (error.reason or "no reason given").replace("_", " ").lower()
    return Fault(f"cannot agree on TLS with {_shown(place)}: {why}", _address_hint(place), is_wrong=True)


def _refused_tunnel(status: int, place: Place, proxy: Proxy) -> Fault:
    """Below 500, the proxy refuses; from 500 on, it may be the server that it could not reach."""
    if status == 407 or (status == 401 and proxy.login):  # 401 is what tinyproxy says of a wrong password
        return refused_login(proxy)
    why = f"{_shown(place)} returned {status} for a connection to {place.host}"
    return Fault(why, f"ask who runs the proxy, or list {place.host} in NO_PROXY", is_wrong=status < 500)
