"""Writes to stderr: text for people, or JSON Lines for programs (`--log-format json`).

What looks like personal data is masked in all of it, unless the command has --show-values; see `masking.py`.

A line has "ts", "level", "event", "message", "invocation_id", "command", "target" and the fields of its event.
"""

import json
import os
import re
import sys
import threading
import traceback
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, TextIO

from reverse_etl.errors import Problem
from reverse_etl.masking import all_masked, of_warehouse
from reverse_etl.redaction import redact
from reverse_etl.report import terminal
from reverse_etl.system.clock import Clock
from reverse_etl.system.streams import printable_json


@dataclass
class Invocation:
    """One command: what all its log lines and artifacts have in common."""

    command: str = ""
    target: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    options: str = ""  # that chose project and target, as they are typed
    is_json: bool = False
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def shows_values(self) -> bool:
        """Whether the user has asked for personal data."""
        return bool(self.arguments.get("show_values"))


invocation = Invocation()
saying = threading.RLock()  # several syncs are told of at once; reentrant, as a signal may come in between


def begin(command: str, is_json: bool) -> None:
    """Start a command."""
    global invocation
    invocation = Invocation(command, is_json=is_json)


def shown(value: Any) -> Any:
    """A text, or the texts in a value of JSON, as this command may show them; commands in them are for its project."""
    value = with_options(value) if invocation.options else value
    return value if invocation.shows_values else all_masked(value)


_COMMAND = re.compile(r"`(retl (?!init|schema|explain|COMMAND)[a-z][^`]*)`")


def with_options(value: Any) -> Any:
    """A value of JSON in which commands that can be copied have the options that chose the project and the target."""
    if isinstance(value, str):
        return _COMMAND.sub(lambda found: f"`{found[1]}{invocation.options}`", value)
    if isinstance(value, dict):
        return {key: with_options(item) for key, item in value.items()}
    return [with_options(item) for item in value] if isinstance(value, list | tuple) else value


def say_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Write the traceback of a bug. An error of DuckDB may contain a value."""
    text = "".join(traceback.format_exception(kind, error, trace))
    print(text if invocation.shows_values else of_warehouse(text), file=sys.stderr, end="", flush=True)


def say(text: str, event: str = "notice", level: str = "info", **fields: object) -> None:
    """Write a message; as JSON, with the fields of its event. A message without text is written as JSON only."""
    if not (invocation.is_json or text):
        return
    if invocation.is_json:
        _print(line(text, event, level, **fields))
        return
    _print(terminal.fitted(shown(text), sys.stderr, is_error=level == "error"))


def say_at_once(text: str, event: str, level: str) -> None:
    """Like `say`, before the process ends in a signal handler: whoever was interrupted may hold the lock, or write."""
    is_json = invocation.is_json
    said = line(text, event, level) if is_json else terminal.fitted(shown(text), sys.stderr)
    with suppress(OSError, ValueError):
        os.write(sys.stderr.fileno(), redact(f"{said}\n").encode())


def _print(text: str) -> None:
    print_whole(text, sys.stderr)


def print_whole(text: str, stream: TextIO) -> None:
    """Print lines at once, and none of another thread between them and their end."""
    with saying:
        stream.write(f"{text}\n")
        stream.flush()


def line(text: str, event: str, level: str, **fields: object) -> str:
    """An event as one line of JSON."""
    entry = {
        "ts": Clock().utc().isoformat(timespec="milliseconds"),
        "level": level,
        "event": event,
        "message": shown(text),
        "invocation_id": invocation.id,
        "command": invocation.command,
        "target": invocation.target,
        **{name: shown(value) for name, value in fields.items()},
    }
    return printable_json(json.dumps(entry, ensure_ascii=False, default=str), sys.stderr.encoding)


def say_error(problem: Problem, **fields: object) -> None:
    """Report an error: message, location, hint and code."""
    if not invocation.is_json:
        say(problem.with_code, level="error")
        return
    _say_in_json(problem, "error", "error", fields)


def say_warning(problem: Problem) -> None:
    """Report what is valid, and probably not meant."""
    if not invocation.is_json:
        say(f"warning: {problem}")
        return
    _say_in_json(problem, "notice", "warning", {})


def say_note(problem: Problem) -> None:
    """Report what is meant, and could be written otherwise."""
    if not invocation.is_json:
        say(f"note: {problem}")
        return
    _say_in_json(problem, "notice", "info", {})


def _say_in_json(problem: Problem, event: str, level: str, fields: Mapping[str, object]) -> None:
    location = asdict(problem.location) if problem.location else None
    say(problem.message, event, level, location=location, hint=problem.hint, code=problem.code or None, **fields)
