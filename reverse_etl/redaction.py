"""The one place that takes secrets out of texts: API keys, credentials of stores, the key of saved plans.

keep_secret(value)    from here on, no text of this process contains it
redact(text)          the text without the secrets, in any form in which libraries and servers repeat them

Every error is redacted when it is created, every response when it is received, and whatever is printed, logged or
written to target/ once more. A secret is recognized by its first characters, so it may be cut anywhere after them.
"""

import base64
import html
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from typing import Any, Protocol
from urllib.parse import parse_qs, quote, quote_plus

# Braze's keys have 36 characters. A shorter secret is one of a sandbox, and may be a part of any word.
SHORTEST_SECRET = 16
MASK = "***"
_HEAD = 8  # characters that a cut secret is recognized by
_IN_JSON = ("private_key", "private_key_id", "client_secret", "refresh_token")  # of a Google account
_PUBLIC_START = "AGE-SECRET-KEY-1"  # every such key begins so, and messages explain it

_secrets: frozenset[str] = frozenset()
_forms: dict[str, tuple[str, ...]] = {}  # by their first characters


def keep_secret(value: str) -> None:
    """Redact `value`, and the secrets inside it, from here on. One that is too short to be told from words is not."""
    global _secrets, _forms
    new = frozenset(_parts(value.strip())) - _secrets
    if new:
        _secrets |= new
        forms: dict[str, set[str]] = {}
        for form in {form for secret in _secrets for form in _written(secret)}:
            forms.setdefault(form[:_HEAD], set()).add(form)
        _forms = {head: tuple(found) for head, found in forms.items()}


def redact(text: str) -> str:
    """`text` with every secret, or the beginning of one, replaced by ***."""
    for head, forms in _forms.items():
        at = text.find(head)
        while at >= 0:
            length = max(_common(text, at, form) for form in forms)
            text = f"{text[:at]}{MASK}{text[at + length :]}"
            at = text.find(head, at + len(MASK))
    return text


def redact_bytes(data: bytes) -> bytes:
    """The same for bytes of any encoding that contains ASCII."""
    return redact(data.decode("latin-1")).encode("latin-1") if _forms else data


@contextmanager
def without_secrets() -> Iterator[None]:
    """Redact the exceptions that leave the block, and their causes: others print them with their traceback."""
    try:
        yield
    except Exception as raised:
        error: BaseException | None = raised
        while error is not None:
            with suppress(Exception):  # some libraries' exceptions cannot be changed
                error.args = tuple(redact(one) if isinstance(one, str) else one for one in error.args)
            error = error.__cause__ or error.__context__
        raise


class _Writes(Protocol):
    def write(self, text: str, /) -> int: ...


class Redacted:
    """A stream of text that writes no secret."""

    def __init__(self, stream: _Writes) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(redact(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _common(text: str, at: int, form: str) -> int:
    """How many characters of `form` the text has at this place, where its first ones are."""
    rest = zip(text[at + _HEAD : at + len(form)], form[_HEAD:], strict=False)
    return _HEAD + sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], rest))


def _parts(value: str) -> Iterator[str]:
    """The secrets in a value: itself, the lines of the private key in JSON or PEM, the signature of a SAS token."""
    texts = [value]
    with suppress(ValueError, AttributeError):
        texts = [str(text) for name, text in json.loads(value).items() if name in _IN_JSON] or texts
    if "sig=" in value:
        texts = parse_qs(value.lstrip("?")).get("sig", texts)
    for text in texts:
        for line in text.splitlines():
            part = line.strip().removeprefix(_PUBLIC_START)
            if len(part) >= SHORTEST_SECRET and not part.startswith("-----"):
                yield part


def _written(secret: str) -> Iterator[str]:
    """How a secret may be written: as it is, quoted, in a URL, in HTML and XML, in hexadecimal and in base64."""
    yield from (secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1])
    for encoded in (quote(secret, safe=""), quote(secret), quote_plus(secret)):
        yield from (encoded, encoded.replace("%2F", "%2f").replace("%2B", "%2b").replace("%3D", "%3d"))
    yield from (html.escape(secret), html.escape(secret, quote=False))
    data = secret.encode()
    yield from (data.hex(), data.hex().upper())
    for before in range(3):  # characters such as "user:" in front of it move the bits
        encode = base64.b64encode(bytes(before) + data).decode()
        whole = encode[(0, 2, 3)[before] : (before + len(data)) * 8 // 6]
        yield from (whole, whole.replace("+", "-").replace("/", "_"))
