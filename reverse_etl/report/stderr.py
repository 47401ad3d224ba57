"""Writes to stderr: text for people, or JSON Lines for programs (`--log-format json`).

A line has "ts", "level", "event", "message", "invocation_id", "command", "target" and the fields of its event.
"""

import json
import sys
import uuid
from dataclasses import asdict, dataclass, field
from typing import Any

from reverse_etl.errors import Problem
from reverse_etl.system.clock import Clock


@dataclass
class Invocation:
    """One command: what all its log lines and artifacts have in common."""

    command: str = ""
    target: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    is_json: bool = False
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


invocation = Invocation()


def begin(command: str, is_json: bool) -> None:
    """Start a command."""
    global invocation
    invocation = Invocation(command, is_json=is_json)


def say(text: str, event: str = "notice", level: str = "info", **fields: object) -> None:
    """Write a message; as JSON, with the fields of its event. A message without text is written as JSON only."""
    if invocation.is_json:
        print(line(text, event, level, **fields), file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)


def line(text: str, event: str, level: str, **fields: object) -> str:
    """An event as one line of JSON."""
    entry = {
        "ts": Clock().utc().isoformat(timespec="milliseconds"),
        "level": level,
        "event": event,
        "message": text,
        "invocation_id": invocation.id,
        "command": invocation.command,
        "target": invocation.target,
        **fields,
    }
    return json.dumps(entry, ensure_ascii=False, default=str)


def say_error(problem: Problem, **fields: object) -> None:
    """Report an error: message, location and hint."""
    if not invocation.is_json:
        say(str(problem))
        return
    location = asdict(problem.location) if problem.location else None
    say(problem.message, "error", "error", location=location, hint=problem.hint, **fields)
