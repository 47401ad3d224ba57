"""Which workspace the rows of a state are in: where they were sent, and fingerprints of the API keys that sent them.

A row counts as acknowledged by the workspace that acknowledged it, and by no other one. Every workspace of a cluster
has the same address, so the keys tell them apart; a workspace has several keys, and Braze's keys cannot be edited, so
others are accepted by hand (`retl state accept-workspace`).
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import blake2b

from duckdb import DuckDBPyConnection

from reverse_etl.delivery.destination import NEW_SANDBOX, Destination
from reverse_etl.plan.tables import META

WORKSPACE = "workspace"  # its key in `meta`


@dataclass(frozen=True)
class KnownWorkspace:
    """One workspace: its addresses, and salted fingerprints of its API keys; a key cannot be told from its own."""

    salt: str
    places: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()

    def difference(self, destination: Destination) -> str | None:
        """What tells a destination from this workspace; None if nothing does, as far as both are known."""
        place, key = destination.place, destination.api_key
        if self.places and place is not None and place not in self.places:
            return f"its rows are in {', '.join(self.places)}, and the target sends to {place}"
        if self.keys and key is not None and self._fingerprint(key) not in self.keys:
            return f"its rows were sent to {', '.join(self.places)} with another API key, perhaps to another workspace"
        return None

    def with_destination(self, destination: Destination) -> "KnownWorkspace":
        """The same workspace, known by this address and API key too."""
        place, key = destination.place, destination.api_key
        places = [place] if place not in (None, NEW_SANDBOX) else []
        keys = [self._fingerprint(key)] if key is not None else []
        return KnownWorkspace(self.salt, _joined(self.places, places), _joined(self.keys, keys))

    def _fingerprint(self, key: str) -> str:
        return blake2b(key.encode(), digest_size=16, salt=bytes.fromhex(self.salt)).hexdigest()


def unknown() -> KnownWorkspace:
    """What is known of the workspace of a new state, or of one that an older retl created."""
    return KnownWorkspace(secrets.token_hex(blake2b.SALT_SIZE))


def workspace_of(connection: DuckDBPyConnection) -> KnownWorkspace:
    """The workspace of the attached state."""
    found = connection.execute(f"SELECT value FROM {META} WHERE key = '{WORKSPACE}'").fetchone()
    return of_meta({WORKSPACE: found[0]} if found else {})


def of_meta(meta: Mapping[str, str]) -> KnownWorkspace:
    """The same, as `meta` has it."""
    if WORKSPACE not in meta:
        return unknown()
    said = json.loads(meta[WORKSPACE])
    return KnownWorkspace(said["salt"], tuple(said["places"]), tuple(said["keys"]))


def next_workspace(known: KnownWorkspace, destination: Destination) -> str:
    """For `meta`: the workspace of a state once a run is committed that is sent to a destination."""
    if known.difference(destination):  # and it has no rows, or it would have been refused
        known = unknown()
    return as_text(known.with_destination(destination))


def as_text(known: KnownWorkspace) -> str:
    """A known workspace, as `meta` has it."""
    return json.dumps(asdict(known))


def _joined(before: tuple[str, ...], more: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*before, *more]))
