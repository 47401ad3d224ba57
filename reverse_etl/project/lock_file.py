"""braze.lock.yml: the names and types that the models send, as they were reviewed, and those that Braze has. Pure.

    attributes, events, purchases    what the models send; `retl lock` writes it
    braze                            what the workspace has; `retl lock --from-braze` writes it

Who owns a name is not in it: the models say so.
"""

from typing import Annotated, Literal

import yaml
from pydantic import Field, StringConstraints

from reverse_etl.braze.data_types import DataType
from reverse_etl.braze.modes import MAX_TEXT
from reverse_etl.project.fields import Strict
from reverse_etl.project.reader import read_mapping

LOCK_FILE = "braze.lock.yml"
_HEAD = "# Names and types that the models send to Braze. Written by `retl lock`, compared by `retl lock --check`.\n"


def is_name(text: str) -> bool:
    """Whether the file can hold a name, and a terminal show it."""
    return 0 < len(text) <= MAX_TEXT and text.isprintable()


Name = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT)]
Types = dict[Name, DataType]


class InBraze(Strict):
    """What the workspace has. Braze accepts values of `blocked` attributes, and does not keep them."""

    attributes: Types = Field({}, description="custom attributes, and their types")
    blocked: tuple[Name, ...] = Field((), description="those among them that are blocked in the dashboard")
    events: tuple[Name, ...] | None = Field(None, description="custom events; none if they could not be read")


class Lock(Strict):
    """The file. `purchases` are the properties of purchases."""

    version: Literal[1] = Field(1, description="format version of the file; always 1")
    attributes: Types = Field({}, description="custom attributes that the models send, and their types")
    events: dict[Name, Types] = Field({}, description="custom events, and the types of their properties")
    purchases: Types = Field({}, description="properties of purchases, and their types")
    braze: InBraze | None = Field(None, description="what the workspace has")

    def strings(self, record_type: str | None) -> set[str]:
        """The attributes, or the properties of events or purchases, that were reviewed as strings."""
        types = {"attributes": [self.attributes], "events": list(self.events.values()), "purchases": [self.purchases]}
        found = types.get(record_type or "", [])
        return {name for names in found for name, of in names.items() if of is DataType.STRING}


def parse_lock(text: str) -> Lock:
    """The file's contents. Raises ProjectError with every error in it, each with its line."""
    return read_mapping(Lock, text, LOCK_FILE)


def lock_text(lock: Lock) -> str:
    """The file: names in order, so that a difference is a line."""
    written = {key: value for key, value in lock.model_dump(mode="json").items() if value not in ({}, None)}
    if lock.braze:
        kept = {key: value for key, value in written["braze"].items() if value not in ({}, [], None)}
        written["braze"] = {key: sorted(value) if isinstance(value, list) else value for key, value in kept.items()}
    return _HEAD + yaml.dump(
        _in_order(written), Dumper=yaml.SafeDumper, sort_keys=False, allow_unicode=True, width=1000
    )


def _in_order(value: object, is_top: bool = True) -> object:
    if not isinstance(value, dict):
        return value
    keys = list(value) if is_top else sorted(value)
    return {key: _in_order(value[key], is_top=False) for key in keys}
