"""What an endpoint gives back: a status with a JSON object, or a refusal of the whole request."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from reverse_etl.sandbox.exact import Json
from reverse_etl.sandbox.http.limits import Contract

MaxObjects = Literal["75 together", "75 per array", "50 together"]
Answer = tuple[int, dict[str, Json]]
PagedAnswer = tuple[int, dict[str, Json], Mapping[str, str]]  # with headers
Refusal = Callable[[Json], str | None]  # object -> error text of a fault that hits it

MAX_IDS = 50
TOO_MANY_IDS = "The max number of ids per request was exceeded"  # (errors)
TOO_MANY_IDS_AND_ALIASES = "The max number of external_ids and aliases per request was exceeded"  # (errors)


class RefusedError(Exception):
    """Nothing of the request is processed. Raised before anything is changed."""

    def __init__(self, message: str, errors: list[dict[str, Json]] | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
        self.answer: dict[str, Json] = {"message": message, **({"errors": errors} if errors else {})}


@dataclass(frozen=True)
class Settings:
    """How this workspace's contract and this request's faults change the rules."""

    max_objects: MaxObjects = "75 together"
    export_needs_fields: bool = True
    keep_first_type: bool = True
    contract: Contract = "data points"
    refusal: Refusal = lambda sent: None


def object_error(text: str, input_array: str, index: int) -> dict[str, Json]:
    """One entry of `errors`; `index` counts from 0 inside its array (meas26, clients)."""
    return {"type": text, "input_array": input_array, "index": index}


def array_of(body: Mapping[str, Json], name: str, most: int = MAX_IDS, too_many: str = TOO_MANY_IDS) -> list[Json]:
    """A required array of the body. Empty and missing have no documented text: these are guesses."""
    sent = body.get(name)
    if not isinstance(sent, list):
        raise RefusedError(f"'{name}' must be an array")
    if not sent:
        raise RefusedError(f"'{name}' must not be empty")
    if len(sent) > most:
        raise RefusedError(too_many)
    return sent
