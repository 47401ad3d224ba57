"""Responses of catalogs to invalid requests: one shape, the ids that the pages list, and a message for each.

The message is Braze's where a page shows it (marked), and otherwise ours. Which of several errors is reported is a
guess: the first kind, with all the items it concerns.
"""

from collections.abc import Mapping, Sequence
from typing import NoReturn

from reverse_etl.sandbox.catalogs.values import TYPES
from reverse_etl.sandbox.exact import Json
from reverse_etl.sandbox.http.answers import RefusedError

MESSAGES: Mapping[str, str] = {
    "catalog-array-invalid": "'catalogs' must be an array of objects",
    "too-many-catalog-atoms": "Only one catalog can be created per request",
    "invalid-catalog-name": "Catalog names can only include letters, numbers, hyphens, and underscores",
    "catalog-name-too-large": "Catalog names cannot be longer than 250 characters",
    "catalog-name-already-exists": "A catalog with that name already exists",  # as printed (cat-create)
    "catalog-not-found": "Could not find catalog",  # as printed (cat-delete)
    "description-too-long": "Descriptions cannot be longer than 250 characters",
    "id-not-first-column": "'id' must be the first field, and a string",
    "too-many-fields": "A catalog cannot have more than 500 fields",
    "invalid-field-names": "Field names can only include letters, numbers, hyphens, and underscores",
    "field-names-too-large": "Field names cannot be longer than 250 characters",
    "field-names-not-unique": "Field names must be unique",
    "invalid-field-types": f"Field types must be one of {', '.join(sorted(TYPES))}",
    "request-includes-too-many-fields": "A request cannot have more than 50 new fields",
    "catalog-exceeds-fields-limit": "A catalog cannot have more than 500 fields",
    "invalid-field-name": "Could not find field",
    "item-array-invalid": "'items' must be an array of objects",
    "request-includes-too-many-items": "The request has too many items",
    "ids-not-strings": "Item ids must be strings",
    "ids-too-large": "Item ids cannot be longer than 250 characters",
    "invalid-ids": "Item ids can only include letters, numbers, hyphens, and underscores",
    "ids-not-unique": "Item ids must be unique in the request",
    "id-in-body": "Item ids belong in the path only",
    "invalid-fields": "Some of the fields given do not exist in the catalog",  # as printed (cat-items)
    "invalid-keys-in-value-object": "Keys of objects cannot include '.' or '$'",
    "too-deep-nesting-in-value-object": "Objects cannot have more than 50 levels",
    "items-too-large": "Values of items cannot be longer than 5,000 characters",
    "unable-to-coerce-value": "Some of the values cannot be converted to the type of their field",
    "item-already-exists": "The item already exists in the catalog",
    "item-not-found": "Could not find item",  # as printed (cat-get)
    "invalid-cursor": "'cursor' is not valid",  # as printed (cat-list-items)
}


def refuse(
    id: str, parameters: Sequence[str] = (), values: Sequence[Json] = (), *, status: int = 400, message: str = ""
) -> NoReturn:
    """End the request with one error, in the shape that all pages of catalogs show. `message`: another than usual."""
    error = {
        "id": id,
        "message": message or MESSAGES[id],
        "parameters": list(parameters),
        "parameter_values": list(values),
    }
    raise RefusedError("Invalid Request", [error], status)
