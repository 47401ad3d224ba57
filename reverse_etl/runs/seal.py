"""The seal of a saved plan: a file that retl wrote for this state, and that nobody has changed since.

The last bytes of the file are a keyed digest (HMAC-SHA256) of all bytes before them; DuckDB does not mind them. The key
is stored beside the states of the target, in the folder or in the object store: who can make a seal can change the
state, too. Where the key is not at hand, the digest that was printed when the plan was reviewed takes its place.
"""

import hmac
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import BinaryIO

from reverse_etl.errors import ProjectError
from reverse_etl.project.project import LoadedProject
from reverse_etl.shared_state.object_store import ObjectStore
from reverse_etl.system.private_files import create_ignored, private_files

KEY_FILE = "plan.key"
_MAGIC = b"retlseal"
_KEY_BYTES = 32
_PART_BYTES = 1 << 20
_HINT = "create it again where it is applied; or pass --digest with what `retl plan` printed when it was reviewed"


@dataclass(frozen=True)
class Trust:
    """What makes a file believed: the key of its seal, or the digest that somebody has reviewed, as hexadecimal."""

    key: bytes | None
    digest: str | None = None


def key_of(project: LoadedProject) -> bytes | None:
    """The key of the target's seals; None if no plan was ever saved where its states are."""
    if project.states_url:
        found = _store(project).read(KEY_FILE)
        return found[0] if found else None
    try:
        return (project.states_folder / project.target_name / KEY_FILE).read_bytes()
    except OSError:
        return None


def made_key(project: LoadedProject) -> bytes:
    """The key of the target's seals; made now if there is none, once for all processes and machines."""
    fresh = secrets.token_bytes(_KEY_BYTES)
    if project.states_url:
        _store(project).create(KEY_FILE, fresh)
    else:
        _create_once(project.states_folder / project.target_name / KEY_FILE, fresh)
    return key_of(project) or fresh


def seal(path: Path, key: bytes) -> None:
    """Append the seal to a complete file."""
    with path.open("r+b") as file:
        made = _keyed(file, os.path.getsize(path), key)
        file.seek(0, os.SEEK_END)
        file.write(_MAGIC + made)


def digest_of(path: Path) -> str:
    """The SHA-256 of a file, as `sha256sum` prints it."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def refuse_unknown(path: Path, given: Path, sealed: Path, trust: Trust) -> None:
    """Raises ProjectError, which names `path`, unless a plan file is believed.

    `given` is the file as it is, for the digest; `sealed` is the same, or what is encrypted in it.
    """
    if trust.digest is not None:
        found = digest_of(given)
        if found != trust.digest.strip().lower().removeprefix("sha256:"):
            hint = "it is not the file that was reviewed: create a new plan"
            raise ProjectError(f"{path}: its digest is {found}, and not that of --digest", hint=hint, code="P088")
        return
    size = os.path.getsize(sealed)
    body = size - sha256().digest_size - len(_MAGIC)
    with sealed.open("rb") as file:
        made = _keyed(file, body, trust.key or b"")
        end = file.read()
    if trust.key is None or body <= 0 or not hmac.compare_digest(end, _MAGIC + made):
        why = "it was changed after it was created, or created beside another state, or by an older retl"
        raise ProjectError(f"{path} has no valid seal: {why}", hint=_HINT, code="P088")


def _keyed(file: BinaryIO, size: int, key: bytes) -> bytes:
    """The keyed digest of the first `size` bytes of a file that has just been opened, a part in memory at a time."""
    made = hmac.new(key, digestmod=sha256)
    while size > 0 and (part := file.read(min(_PART_BYTES, size))):
        made.update(part)
        size -= len(part)
    return made.digest()


def _create_once(path: Path, content: bytes) -> None:
    """Create a file for this user only, complete or not at all; one that is there stays."""
    with private_files():
        create_ignored(path.parents[1])
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        unfinished.write_bytes(content)
        with suppress(FileExistsError):
            os.link(unfinished, path)
        unfinished.unlink()


def _store(project: LoadedProject) -> ObjectStore:
    return ObjectStore(f"{project.states_url}/{project.target_name}", project.network)
