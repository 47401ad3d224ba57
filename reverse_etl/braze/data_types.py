"""The types that attributes and properties have in Braze. Pure.

Braze keeps the type of the first value that an attribute gets (user_guide: custom attributes, managing custom data).
"""

from collections.abc import Mapping
from enum import StrEnum


class DataType(StrEnum):
    """What Braze calls a type; `any` where only the values tell: JSON text, or a type that nobody has set."""

    BOOLEAN = "boolean"
    NUMBER = "number"
    STRING = "string"
    TIME = "time"
    ARRAY = "array"
    OBJECT = "object"
    OBJECTS = "object array"
    ANY = "any"


# How GET /custom_attributes spells them: only "Number" is printed (get_custom_attributes); others are the dashboard's.
_SPELLED: Mapping[str, DataType] = {
    **{str(one): one for one in DataType},
    "date": DataType.TIME,
    "datetime": DataType.TIME,
    "integer": DataType.NUMBER,
    "float": DataType.NUMBER,
    "array of objects": DataType.OBJECTS,
}


def of_braze(spelled: object) -> DataType:
    """The type that a response of Braze names; `any` if it is another word than those that are known."""
    words = spelled.casefold().replace("_", " ").strip() if isinstance(spelled, str) else ""
    return _SPELLED.get(words, DataType.ANY)


def fits(one: DataType, other: DataType) -> bool:
    """Whether two types may be the same one."""
    return one is other or DataType.ANY in (one, other)
