"""Objects under a URL: read, created once, replaced by compare-and-swap; large files uploaded and downloaded.

The library is obstore (Rust's object_store); it is imported only if a target stores its state in a bucket. Its
exceptions become StateErrors here, which never contain keys or tokens.

    s3://bucket/path      AWS_ACCESS_KEY_ID, AWS_REGION, AWS_ENDPOINT_URL ... as for the AWS tools
    gs://bucket/path      GOOGLE_APPLICATION_CREDENTIALS, GOOGLE_SERVICE_ACCOUNT ...
    az://container/path   AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY, AZURE_CLIENT_ID ...
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, urlsplit

from reverse_etl.errors import ProjectError, StateError
from reverse_etl.network.faults import (
    EXPIRED,
    NOT_YET_VALID,
    OTHER_HOST,
    UNKNOWN_AUTHORITY,
    Fault,
    Place,
    distrusted,
    refused_login,
)
from reverse_etl.network.network import Network
from reverse_etl.network.proxies import LOOPBACK
from reverse_etl.redaction import redact
from reverse_etl.shared_state.log import StoredObject
from reverse_etl.shared_state.packing import PART_BYTES, pack, unpacked

_TIMEOUT_S, _GIVE_UP_AFTER_S, _RETRIES = 10, 20, 4

_NO_BUCKET = re.compile("NoSuchBucket|ContainerNotFound|bucket does not exist")

Version = dict[str, Any]  # identifies one version of an object: its e_tag, and in some stores a number

_AWS = (
    *("access_key_id", "secret_access_key", "session_token", "region", "endpoint", "role_arn", "role_session_name"),
    *("web_identity_token_file", "container_credentials_relative_uri", "container_credentials_full_uri"),
    *("container_authorization_token_file", "metadata_endpoint", "virtual_hosted_style_request", "request_payer"),
    *("server_side_encryption", "sse_kms_key_id", "sse_bucket_key_enabled", "disable_bulk_delete"),
)
_GOOGLE = ("service_account", "service_account_key", "application_credentials", "base_url")
_AZURE = (
    *("client_id", "client_secret", "tenant_id", "authority_host", "federated_token_file", "msi_endpoint", "object_id"),
    *("msi_resource_id", "use_azure_cli", "use_emulator"),
)
_AZURE_STORAGE = ("account_name", "account_key", "sas_key", "endpoint")
# Environment variables, by the scheme of the URL; a later one takes precedence over an earlier one.
_FROM_ENVIRONMENT: Mapping[str, Mapping[str, str]] = {
    "s3": {
        "AWS_DEFAULT_REGION": "region",
        **{f"AWS_{key.upper()}": key for key in _AWS},
        "AWS_ENDPOINT_URL": "endpoint",
        "AWS_ENDPOINT_URL_S3": "endpoint",
    },
    "gs": {
        **{f"GOOGLE_{key.upper()}": key for key in _GOOGLE},
        "STORAGE_EMULATOR_HOST": "base_url",
    },
    "az": {
        **{f"AZURE_{key.upper()}": key for key in _AZURE},
        **{f"AZURE_STORAGE_{key.upper()}": key for key in _AZURE_STORAGE},
        "AZURE_STORAGE_SAS_TOKEN": "sas_key",
    },
}


class StoreError(StateError):
    """The store cannot be reached, or refuses access: nothing is known about the state in it."""


class ObjectMissingError(StateError):
    """An object is not there that something names."""


@dataclass(frozen=True)
class Listed:
    """An object in a list; when it was written, by the clock of the store."""

    size: int
    written_at: datetime


class ObjectStore:
    """The objects under `url`. The store is not contacted before the first call."""

    def __init__(self, url: str, network: Network) -> None:
        self.url = url.rstrip("/")
        self._network, self._environ = network, network.environ

    def __repr__(self) -> str:
        return f"ObjectStore({self.url})"

    def of_target(self, target: str, name: str) -> "ObjectStore":
        """The objects under a name on a target, where these are those of a sync on one."""
        return ObjectStore(f"{self.url.rsplit('/', 2)[0]}/{target}/{name}", self._network)

    # --- small objects -----------------------------------------------------------------------------------------------

    def read(self, name: str) -> tuple[bytes, Version] | None:
        """An object and its version; None if it does not exist."""
        try:
            found = self._store.get(name)
            return bytes(found.bytes()), _version(found.meta)
        except FileNotFoundError as error:
            if _NO_BUCKET.search(str(error)):
                raise self._trouble("read", name, error) from error
            return None
        except self._errors as error:
            raise self._trouble("read", name, error) from error

    def write(self, name: str, data: bytes) -> None:
        try:
            self._store.put(name, data)
        except self._errors as error:
            raise self._trouble("write", name, error) from error

    def create(self, name: str, data: bytes) -> Version | None:
        """Create an object; None if it already exists."""
        return self._put(name, data, "create")

    def swap(self, name: str, data: bytes, version: Version) -> Version | None:
        """Replace this version of an object; None if the object has changed since."""
        return self._put(name, data, version)

    def _put(self, name: str, data: bytes, mode: Any) -> Version | None:
        """A request that was repeated, or got no response, may have been applied: what is stored now tells."""
        exceptions = self._library.exceptions
        trouble = None
        try:
            return _version(self._store.put(name, data, mode=mode, use_multipart=False))
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError, FileNotFoundError):
            pass
        except self._errors as error:
            trouble = self._trouble("write", name, error)
        there = self.read(name)
        if there and there[0] == data:
            return there[1]
        if trouble:
            raise trouble
        return None

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects; those that do not exist are ignored."""
        for name in names:
            try:
                self._store.delete(name)
            except FileNotFoundError:
                continue
            except self._errors as error:
                raise self._trouble("delete", name, error) from error

    def names(self) -> list[str]:
        """The names of all objects."""
        return sorted(self.listed())

    def listed(self) -> dict[str, Listed]:
        """All objects, by their names."""
        try:
            found = [one for page in self._store.list() for one in page]
            return {str(one["path"]): Listed(int(one["size"]), one["last_modified"]) for one in found}
        except self._errors as error:
            raise self._trouble("list", "", error) from error

    # --- files -------------------------------------------------------------------------------------------------------

    def upload(self, name: str, path: Path, start: int = 0) -> StoredObject:
        """Upload a file as an object, packed, from the byte `start` on; a few parts in memory at a time."""
        packed, digest = path.with_name(f"{path.name}.gz"), sha256()
        try:
            pack(path, packed, start)
            with packed.open("rb") as file:
                while part := file.read(PART_BYTES):
                    digest.update(part)
            size, unpacked_size = packed.stat().st_size, path.stat().st_size - start
            self.put_file(name, packed)
        finally:
            packed.unlink(missing_ok=True)
        return StoredObject(name=name, size=size, sha256=digest.hexdigest(), unpacked=unpacked_size)

    def put_file(self, name: str, path: Path) -> None:
        """Upload a file as an object, as it is."""
        try:
            self._bulk.put(name, path, chunk_size=PART_BYTES, max_concurrency=4)
        except self._errors as error:
            raise self._trouble("write", name, error) from error

    def get_file(self, name: str, path: Path) -> bool:
        """Download an object to a file, as it is; False if it does not exist."""
        try:
            found = self._bulk.get(name)
            with path.open("wb") as file:
                for part in found.stream(min_chunk_size=PART_BYTES):
                    file.write(part)
            return True
        except FileNotFoundError as error:
            if _NO_BUCKET.search(str(error)):
                raise self._trouble("read", name, error) from error
            return False
        except self._errors as error:
            raise self._trouble("read", name, error) from error

    def download(self, stored: StoredObject, path: Path) -> None:
        """Download an object to a file, unpacked, completely or not at all, one part in memory at a time."""
        unfinished, digest = path.with_name(f"{path.name}.part"), sha256()
        is_whole = False
        with unfinished.open("wb") as file, suppress(ValueError):
            parts = self._parts(stored, digest.update)
            for part in parts if stored.unpacked is None else unpacked(parts):
                file.write(part)
            is_whole = stored.unpacked in (None, file.tell())
            file.flush()
            os.fsync(file.fileno())
        if not is_whole or digest.hexdigest() != stored.sha256:
            unfinished.unlink()
            hint = "something else wrote to it: restore an older version of the object"
            raise StateError(f"{self.url}/{stored.name} does not match its recorded checksum", hint=hint, code="S021")
        unfinished.replace(path)

    def _parts(self, stored: StoredObject, look: Callable[[bytes], None]) -> Iterator[bytes]:
        """An object, part by part, after each was looked at."""
        for start in range(0, stored.size, PART_BYTES):
            try:
                end = min(start + PART_BYTES, stored.size)
                part = bytes(self._bulk.get_range(stored.name, start=start, end=end))
            except FileNotFoundError as error:
                raise self._missing(stored.name) from error
            except self._errors as error:
                raise self._trouble("read", stored.name, error) from error
            look(part)
            yield part

    def _missing(self, name: str) -> StateError:
        restore = "restore it from the bucket's versions or a backup"
        hint = f"{restore}; docs/state.md says what to run in which mode if there is none"
        what = f"{self.url}/{name} is missing, but head.json names it as the current state"
        return ObjectMissingError(what, hint=hint, code="S021")

    def check(self, name: str) -> None:
        """Raises StateError unless objects can be written, and the store honors conditional writes."""
        first = self.create(name, b"one")
        again = self.create(name, b"two")
        moved = first and self.swap(name, b"three", first)
        stale = first and self.swap(name, b"four", first)
        self.delete([name])
        if not (first and moved) or again or stale:
            what = f"{self.url} does not honor conditional writes: it accepted what If-Match and If-None-Match forbid"
            hint = "use a store that honors them: otherwise two machines could overwrite each other"
            raise StateError(what, hint=hint, code="S022")

    # --- inside ------------------------------------------------------------------------------------------------------

    @cached_property
    def _store(self) -> Any:
        return self._open(_TIMEOUT_S, _GIVE_UP_AFTER_S)

    @cached_property
    def _bulk(self) -> Any:
        return self._open(120, 300)

    @property
    def _library(self) -> Any:
        try:
            import obstore.exceptions
            import obstore.store
        except ImportError as error:
            hint = 'install it: `pip install "reverse-etl[state]"`'
            raise ProjectError(f"the state at {self.url} needs the package obstore", hint=hint, code="P091") from error
        return obstore

    def _open(self, timeout_s: int, give_up_after_s: int) -> Any:
        library = self._library
        config, address = settings(urlsplit(self.url).scheme, self._environ), self._address
        client: dict[str, Any] = {"timeout": timedelta(seconds=timeout_s)}
        if not _is_address(address):
            hint = "set AWS_ENDPOINT_URL, or the equivalent for your store, to https://HOST or https://HOST:PORT"
            shown = re.sub("//.*@", "//***@", address.geturl())
            raise ProjectError(f"invalid endpoint for the store at {self.url}: {shown}", hint=hint, code="P091")
        if address.scheme == "http":
            if address.hostname not in LOOPBACK and not _allows_http(self._environ):
                what = f"the state at {self.url} would be sent unencrypted, and it contains personal data"
                hint = "use an https:// endpoint, or set AWS_ALLOW_HTTP=true if you own the network in between"
                raise ProjectError(what, hint=hint, code="P091")
            client["allow_http"] = True
        client |= _way(self._network, address.geturl())
        retry = {"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=give_up_after_s)}
        try:
            return library.store.from_url(self.url, config=config, client_options=client, retry_config=retry)
        except (library.exceptions.BaseError, ValueError) as error:
            hint = "see the environment variables in docs/state.md"
            raise ProjectError(
                f"cannot use the state at {self.url}: {_reason(error)}", hint=hint, code="P091"
            ) from error

    @property
    def _address(self) -> SplitResult:
        config = settings(urlsplit(self.url).scheme, self._environ)
        return urlsplit(config.get("endpoint") or config.get("base_url") or _usual_address(self.url, config))

    @property
    def _errors(self) -> tuple[type[Exception], ...]:
        return (self._library.exceptions.BaseError, OSError, ValueError)

    def _trouble(self, verb: str, name: str, error: Exception) -> StoreError:
        place = f"{self.url}/{name}".rstrip("/")
        reason = _reason(error)
        if _NO_BUCKET.search(str(error)):
            hint = "create the bucket, or correct state.path"
            return StoreError(f"cannot reach {place}: the bucket does not exist", hint=hint, code="S020")
        if re.search(r"40[13]|credential|resolve_deny|metadata|169\.254", reason):
            hint = "check the credentials in the environment or .env; docs/state.md lists the permissions they need"
            return StoreError(f"no permission to {verb} {place}: {reason}", hint=hint, code="S020")
        if fault := self._fault(str(error)):
            return StoreError(f"cannot {verb} {place}: {fault.why}", hint=fault.hint, code="S020")
        address = "; for a store other than AWS S3, set AWS_ENDPOINT_URL" if place.startswith("s3:") else ""
        hint = f"run again when the store can be reached{address}"
        return StoreError(f"cannot reach {place}: {reason}", hint=hint, code="S020")

    def _fault(self, text: str) -> Fault | None:
        """What is wrong with the way to the store, as far as the library's words for it are known."""
        address = self._address.geturl()
        there = Place(address, self._address.hostname or "", "the address of the store")
        proxy = self._network.proxy_to(address)
        if proxy and "ProxyAuthRequired" in text:
            return refused_login(proxy)
        if proxy and (failed := re.search(r"ConnectFailed.*(?:message|error): \"(.*?)\"", text, re.DOTALL)):
            why = f"the proxy {proxy} of {proxy.variable} cannot be reached: {failed[1].split(': ')[-1]}"
            return Fault(why, f"correct {proxy.variable}, or list {there.host} in NO_PROXY")
        if proxy and "TunnelUnsuccessful" in text:
            why = f"the proxy {proxy} of {proxy.variable} did not connect to {there.host}"
            return Fault(why, f"ask who runs the proxy, or list {there.host} in NO_PROXY")
        known = (
            what for name, what in _CERTIFICATES.items() if f"InvalidCertificate({name}" in re.sub(r"\s", "", text)
        )
        return next((distrusted(what, there) for what in known), None)


# As rustls calls what is wrong with a certificate.
_CERTIFICATES = {
    "UnknownIssuer": UNKNOWN_AUTHORITY,
    "NotValidForName": OTHER_HOST,
    "Expired": EXPIRED,
    "NotValidYet": NOT_YET_VALID,
}


def settings(scheme: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The settings of a store from the environment, as the library names them."""
    given = {key: environ[name] for name, key in _FROM_ENVIRONMENT[scheme].items() if environ.get(name)}
    if scheme == "s3":
        given.setdefault("region", "us-east-1")
        if "AWS_ENDPOINT_URL" in environ:  # set but empty: the library would read it too, and fail
            given.setdefault("endpoint", f"https://s3.{given['region']}.amazonaws.com")
    return given


def _version(about: Mapping[str, Any]) -> Version:
    return {key: about[key] for key in ("e_tag", "version") if about.get(key)}


def _allows_http(environ: Mapping[str, str]) -> bool:
    return environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true", "yes")


def _usual_address(url: str, config: Mapping[str, str]) -> str:
    """Where a store is if no variable says so: decides about NO_PROXY only, the library knows the rest."""
    host = {
        "s3": f"s3.{config.get('region')}.amazonaws.com",
        "gs": "storage.googleapis.com",
        "az": f"{config.get('account_name')}.blob.core.windows.net",
    }[urlsplit(url).scheme]
    return f"https://{host}"


def _is_address(address: SplitResult) -> bool:
    try:
        return address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
    except ValueError:
        return False


def _way(network: Network, address: str) -> dict[str, Any]:
    """The proxy and the certificates of all other connections, as options of the library.

    It would read the variables of the process by itself otherwise, in its own way. Its certificates are those of the
    system, where ours are certifi's. Addresses of this machine and of its cloud's metadata are never behind a proxy.
    """
    proxy, way = network.proxy_to(address), dict[str, Any]()
    if proxy is None:
        way |= {"proxy_url": "http://127.0.0.1:9", "proxy_excludes": "*,0.0.0.0/0,::/0"}
    else:
        login = f"{quote(proxy.login.partition(':')[0])}:{quote(proxy.login.partition(':')[2], safe='')}@"
        url = str(proxy).replace("://", f"://{login}", 1) if proxy.login else str(proxy)
        way |= {"proxy_url": url, "proxy_excludes": ",".join([_NEVER_BY_PROXY, network.no_proxy])}
    if network.authorities:
        way |= {"root_certificate": network.authorities}
        way |= {"proxy_ca_certificate": network.authorities.decode("latin-1")} if proxy else {}
    return way


_NEVER_BY_PROXY = "localhost,127.0.0.0/8,::1,169.254.0.0/16,fd00:ec2::254,metadata.google.internal"


def _reason(error: Exception) -> str:
    """The reason in a few words: a response of a store may contain what was signed, so only little of it is used."""
    text = redact(str(error)).split("\n\nDebug source")[0]
    status = re.search(r"status code: (\d{3}[ \w]*)", text)
    code = re.search(r"<Code>(\w+)</Code>", text)
    if status or code:
        return " ".join(found[1].strip() for found in (status, code) if found)
    return text.splitlines()[0].split(" - ")[-1][:200]
