"""JSON without loss: every number keeps its digits on the way in, through the file and out again.

Decimals are read as `Decimal`. The C encoder cannot write those bare, so they leave as marked strings whose marks
and quotes are then cut off. The mark is drawn when the process starts: no text of a client can contain it.
"""

import json
import re
import secrets
from decimal import Decimal, InvalidOperation
from typing import Any

Json = Any  # what json.loads can make, with Decimal for a number that has a point or an exponent

_MARK = secrets.token_hex(16)
_MAYBE_SURROGATE = re.compile(r"\\u[dD]")


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as error:  # an exponent that needs more than 18 digits
        raise ValueError("number out of range") from error


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def _default(value: object) -> str:
    if isinstance(value, Decimal):
        return f"{_MARK}{value}{_MARK}"
    raise TypeError(f"{type(value).__name__} is not JSON")


_decoder = json.JSONDecoder(parse_float=_decimal, parse_constant=_refuse_constant)
_ascii = json.JSONEncoder(separators=(",", ":"), default=_default, allow_nan=False)
_unicode = json.JSONEncoder(separators=(",", ":"), default=_default, allow_nan=False, ensure_ascii=False)


def loads(text: str) -> Json:
    """The value of JSON written by `dumps`."""
    return _decoder.raw_decode(text)[0]


def parse(text: str) -> Json:
    """The value of a client's JSON.

    Raises ValueError for anything else: NaN and Infinity, half a surrogate pair, nesting beyond Python's stack.
    """
    try:
        value = _decoder.decode(text)
        if _MAYBE_SURROGATE.search(text):
            _unicode.encode(value).encode()
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    return value


def dumps(value: Json) -> str:
    """Compact ASCII text, numbers digit for digit as they were read."""
    return _unmarked(_ascii.encode(value))


def size_bytes(value: Json) -> int:
    """Length of the compact text in UTF-8, the measure for limits such as 100 KB."""
    return len(_unmarked(_unicode.encode(value)).encode("utf-8", "surrogatepass"))


def _unmarked(text: str) -> str:
    return text.replace(f'"{_MARK}', "").replace(f'{_MARK}"', "") if _MARK in text else text
