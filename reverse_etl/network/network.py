"""Which proxy and which certificates all connections of retl go by, as the environment says. No .netrc, ever."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from reverse_etl.errors import ProjectError
from reverse_etl.network.proxies import Proxy, not_by_proxy, proxy_to

if TYPE_CHECKING:
    import ssl

CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")  # the first that is set counts


@dataclass(frozen=True)
class Network:
    """The network as one environment describes it; the same for everything that a command talks to."""

    environ: Mapping[str, str] = field(repr=False)

    def check(self, url: str) -> None:
        """Raises ProjectError if a variable that a connection to `url` goes by is wrong. Contacts nobody."""
        self.proxy_to(url)
        if urlsplit(url).scheme == "https":
            _ = self.tls

    def proxy_to(self, url: str) -> Proxy | None:
        """The proxy of a URL; None if it is reached directly. Raises ProjectError if its variable is wrong."""
        return proxy_to(url, self.environ)

    @property
    def no_proxy(self) -> str:
        """The hosts that are reached without a proxy, as NO_PROXY lists them."""
        return not_by_proxy(self.environ)

    def describe(self, url: str) -> str:
        """The proxy and the file of certificates that a connection to `url` goes by, for people; empty without any."""
        proxy, variable = self.proxy_to(url), self.ca_variable if urlsplit(url).scheme == "https" else None
        by = f", by {proxy} ({proxy.variable})" if proxy else ""
        return by + (f", trusting {self.environ[variable]} ({variable})" if variable else "")

    @property
    def ca_variable(self) -> str | None:
        """The variable that names a file of authorities to trust besides those of certifi."""
        return next((name for name in CA_VARIABLES if self.environ.get(name)), None)

    @cached_property
    def tls(self) -> "ssl.SSLContext":
        """TLS that trusts the authorities of certifi, and those of the file that the environment names.

        Raises ProjectError, which names the variable, if there are none in the file.
        """
        import ssl  # a run that sends nothing needs none of it

        import certifi

        context = ssl.create_default_context(cafile=certifi.where())
        if self.ca_variable:
            path = Path(self.environ[self.ca_variable])
            hint = f"set {self.ca_variable} to a file of certificates in PEM format, or unset it"
            try:
                path.read_bytes()
                context.load_verify_locations(cafile=path)
            except ssl.SSLError as error:
                what = f"{path}, which {self.ca_variable} names, does not contain certificates in PEM format"
                raise ProjectError(what, hint=hint, code="P093") from error
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else "not a path"
                what = f"cannot read {path}, which {self.ca_variable} names: {reason}"
                raise ProjectError(what, hint=hint, code="P093") from error
        return context

    @cached_property
    def authorities(self) -> bytes:
        """The content of the file that the environment names. Raises ProjectError like `tls`."""
        if not self.ca_variable:
            return b""
        _ = self.tls
        return Path(self.environ[self.ca_variable]).read_bytes()
