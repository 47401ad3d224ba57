"""Types of keys of syncs.yml. Pure."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, WithJsonSchema
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

NAME = r"^[A-Za-z0-9_][A-Za-z0-9_-]*$"  # of a sync, a target, a source


class Strict(BaseModel):
    """A mapping that rejects unknown keys."""

    # What is part of another mapping is checked with that: only what is checked alone is made ready for it.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


@dataclass(frozen=True)
class OneOf:
    """One of some words, like a Literal of them, but asked for when a value is checked: a table may have got more."""

    words: Callable[[], Sequence[str]]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._checked)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"enum": [*self.words()], "type": "string"}

    def _checked(self, value: Any) -> Any:
        if not isinstance(value, str) or value not in self.words():
            *others, last = map(repr, self.words())
            expected = f"{', '.join(others)} or {last}" if others else last
            raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": expected})
        return value


def _listed(value: Any) -> Any:
    """One string, or (as Treasure Data writes them) several in one string separated by commas, as a list."""
    return [word.strip() for word in value.split(",")] if isinstance(value, str) else value


Words = Annotated[tuple[str, ...], BeforeValidator(_listed, json_schema_input_type=str | tuple[str, ...])]


_PART = r"[0-9]{1,2}(\.[0-9]+)?%"


def _part(value: Any) -> Any:
    text = str(value).strip()
    if not re.fullmatch(_PART, text):
        raise ValueError('must be a percentage below 100, such as "20%"')
    return text


Part = Annotated[str, BeforeValidator(_part), WithJsonSchema({"type": "string", "pattern": f"^{_PART}$"})]
