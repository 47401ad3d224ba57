"""Types of keys of syncs.yml. Pure."""

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, WithJsonSchema


class Strict(BaseModel):
    """A mapping that rejects unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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
