"""What it means that a connection could not be made: why, what to do, and whether trying again may help. Pure."""

import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import BadStatusLine, RemoteDisconnected

from reverse_etl.network.proxies import Proxy, is_loopback

_UNKNOWN_AUTHORITY = (2, 18, 19, 20, 21)  # X509_V_ERR_*, of OpenSSL's x509_vfy.h
_OTHER_HOST = (62, 64)
_TIME = {9: "is not valid yet", 10: "has expired"}
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
    cause = root_of(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _certificate(cause, place)
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


def _certificate(error: ssl.SSLCertVerificationError, place: Place) -> Fault:
    owner, setting = _shown(place), place.proxy.variable if place.proxy else place.setting
    if error.verify_code in _UNKNOWN_AUTHORITY:
        what = f"the certificate of {owner} is from an authority that is not trusted"
        hint = "set SSL_CERT_FILE or REQUESTS_CA_BUNDLE to a PEM file with the certificate of that authority"
    elif error.verify_code in _OTHER_HOST:
        what = f"the certificate of {owner} is that of another host"
        hint = f"correct {setting}: it must have the name that is in the certificate"
    elif error.verify_code in _TIME:
        what = f"the certificate of {owner} {_TIME[error.verify_code]}"
        hint = "check the clock of this machine, and ask whoever runs the server to renew the certificate"
    else:
        what, hint = f"the certificate of {owner} is not valid: {error.verify_message}", f"check {setting}"
    return Fault(what, hint, is_wrong=True)


def _no_tls(error: ssl.SSLError, place: Place) -> Fault:
    if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
        what = f"{_shown(place)} does not use TLS"
        hint = f"check scheme and port in {place.proxy.variable if place.proxy else place.setting}"
        return Fault(what, hint, is_wrong=True)
    why = (error.reason or "no reason given").replace("_", " ").lower()
    return Fault(f"cannot agree on TLS with {_shown(place)}: {why}", _address_hint(place), is_wrong=True)


def _refused_tunnel(status: int, place: Place, proxy: Proxy) -> Fault:
    """Below 500, the proxy refuses; from 500 on, it may be the server that it could not reach."""
    what, asked = f"{_shown(place)} returned {status}", f"a connection to {place.host}"
    known: Mapping[int, tuple[str, str]] = {
        407: (
            f"{what}: wrong user or password" if proxy.login else f"{what}: it needs a user and a password",
            f"correct user and password in {proxy.variable}, percent-encoded: %40 for an at sign, %3A for a colon",
        )
    }
    why, hint = known.get(status, (f"{what} for {asked}", f"ask who runs the proxy, or list {place.host} in NO_PROXY"))
    return Fault(why, hint, is_wrong=status < 500)
