"""Receipts of erasures: what was erased, when, by whom, how much of it, and hashes; no personal data of who was erased.

A receipt is sealed with the key of the erasures, so that a changed one is found out.
"""

import hmac
import json
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from reverse_etl.errors import StateError
from reverse_etl.state.erasures import Erasures
from reverse_etl.system.private_files import write_whole

FORMAT = 1
_PASS = "pass them to `retl forget`, too"


@dataclass(frozen=True)
class Receipt:
    """`identifiers` are the kind and the hash of each; `rows`, and lines of the `ledger`, are by sync; `collected` are
    records by source and table; `deleted_in_braze` is how many users Braze was asked to delete, or None if it was not
    asked; `erased_before` are kinds of identifiers that had been erased already, with what they were linked to."""

    target: str
    at: datetime
    by: str
    identifiers: Sequence[tuple[str, str]]
    rows: Mapping[str, int]
    collected: Mapping[str, int]
    files: int
    deleted_in_braze: int | None
    ledger: Mapping[str, int]
    erased_before: Sequence[str] = ()

    @property
    def claim(self) -> str:
        """Of the identifiers alone: who has others may still be known by them."""
        kinds = Counter(kind for kind, _ in self.identifiers)
        said = ", ".join(kind if number == 1 else f"{number:,} {kind}" for kind, number in kinds.items())
        it = ("it", "it") if len(self.identifiers) == 1 else ("one of them", "them")
        return f"of {said}: no state of target {self.target} has {it[0]}, and no sync sends {it[1]}"

    @property
    def open(self) -> str:
        """What it does not claim."""
        if self.erased_before:
            before = ", ".join(dict.fromkeys(self.erased_before))
            return f"erased before: {before}; other identifiers of the person are not known any more: {_PASS}"
        return f"nothing is claimed of identifiers that the states did not link to these: {_PASS}"


def write_receipt(erasures: Erasures, receipt: Receipt) -> Path:
    """Write a receipt beside the erasures; with a store, to it as well. Returns its file."""
    values = {"what": "erasure", "format": FORMAT, "retl": version("reverse-etl"), **asdict(receipt)}
    values["at"] = receipt.at.isoformat()
    values |= {"claim": receipt.claim, "not_claimed": receipt.open}
    values["identifiers"] = [{"kind": kind, "hmac": one} for kind, one in receipt.identifiers]
    text = json.dumps({**values, "seal": _seal(erasures, values)}, indent=1)
    path = erasures.folder / f"receipt-{receipt.at:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}.json"
    write_whole(path, f"{text}\n")
    if erasures.objects:
        erasures.objects.write(path.name, text.encode())
    return path


def read_receipt(erasures: Erasures, target: str, path: Path) -> Receipt:
    """Raises StateError if it is no receipt, was changed, or is one of another key."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        seal = values.pop("seal")
        is_whole = hmac.compare_digest(seal, _seal(erasures, values))
        identifiers = [(one["kind"], one["hmac"]) for one in values["identifiers"]]
        receipt = Receipt(
            values["target"],
            datetime.fromisoformat(values["at"]),
            values["by"],
            identifiers,
            values["rows"],
            values.get("collected", {}),  # of a receipt from before there was any
            values["files"],
            values["deleted_in_braze"],
            values.get("ledger", {}),
            values.get("erased_before", []),
        )
    except OSError as error:
        raise StateError(f"cannot read {path}: {error.strerror}", code="S027") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StateError(f"{path} is not a receipt of `retl forget`", code="S027") from error
    if receipt.target != target:
        raise StateError(f'{path} is of target "{receipt.target}"', hint=f"pass --target {receipt.target}", code="S027")
    if not is_whole:
        hint = "it was changed, or is of another target or project"
        raise StateError(f"{path} does not have the seal of this target", hint=hint, code="S027")
    return receipt


def _seal(erasures: Erasures, values: Mapping[str, Any]) -> str:
    said = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hmac.new(erasures.key, said.encode(), sha256).hexdigest()
