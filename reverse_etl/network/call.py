"""One request to a URL that is not Braze's, by the same proxies and certificates. No retry, and no redirect."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from urllib.parse import urlsplit

import urllib3

from reverse_etl.network.faults import Place, fault_of
from reverse_etl.network.network import Network

_FAILURES = (OSError, HTTPException, urllib3.exceptions.HTTPError, ValueError)


@dataclass(frozen=True)
class Call:
    """What is asked for. Its repr does not contain the URL, a secret perhaps. `setting`: how people set that."""

    method: str
    url: str = field(repr=False)
    setting: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class NotTaken:
    """Why a request was not accepted, and what to do about it. Names the host at most."""

    why: str
    hint: str | None = None


def origin(url: str) -> str:
    """The scheme and host of a URL: what may be shown of one whose path is a secret."""
    there = urlsplit(url)
    return f"{there.scheme}://{there.netloc.rpartition('@')[2]}"


def make(call: Call, network: Network, timeout_s: float) -> NotTaken | None:
    """Make a request; None if the response has a status from 200 to 299.

    Raises ProjectError if a variable that names a proxy, or certificates, is wrong. `timeout_s` is for each step of it.
    """
    proxy = network.proxy_to(call.url)
    tls = network.tls if "https" in (urlsplit(call.url).scheme, proxy and proxy.scheme) else None
    pool = urllib3.PoolManager(ssl_context=tls)
    if proxy:
        pool = urllib3.ProxyManager(str(proxy), proxy_headers=proxy.headers, proxy_ssl_context=tls, ssl_context=tls)
    try:
        with pool:
            response = pool.request(
                call.method,
                call.url,
                body=call.body,
                headers=call.headers,
                timeout=timeout_s,
                retries=False,
                redirect=False,
                preload_content=False,
            )
            status = response.status
            response.release_conn()
    except _FAILURES as error:
        there = urlsplit(call.url)
        by = proxy if isinstance(error, urllib3.exceptions.ProxyError) else None
        fault = fault_of(error, Place(origin(call.url), there.hostname or "", call.setting, by))
        return NotTaken(fault.why, fault.hint)
    return None if 200 <= status < 300 else NotTaken(f"{origin(call.url)} returned {status}", f"check {call.setting}")
