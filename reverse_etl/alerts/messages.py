"""The texts of alerts. Names of syncs and targets, counts, times and codes only: no values and no keys. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from reverse_etl.alerts.decide import Change
from reverse_etl.words import count, moment

_MOST_SYNCS = 20  # of one message; the others are counted
_WORDS = {"in_doubt": "in doubt"}


@dataclass(frozen=True)
class Message:
    """What is told: one line for whoever only looks, and all of it."""

    target: str
    at: datetime
    title: str
    lines: tuple[str, ...]
    changes: tuple[Change, ...] = ()

    @property
    def text(self) -> str:
        return "\n".join([self.title, *self.lines])


def message(target: str, changes: Sequence[Change], at: datetime) -> Message:
    """What is told of these changes."""
    named = [f"{change.sync} {_word(change.event)}" for change in changes[:_MOST_SYNCS]]
    more = len(changes) - len(named)
    title = f"retl, target {target}: {', '.join(named)}" + (f", and {count(more, 'more sync')}" if more else "")
    lines = [line for change in changes[:_MOST_SYNCS] for line in _lines(change)]
    codes = sorted({code for change in changes if change.now for code in change.now.codes})
    if any(change.now for change in changes):
        explained = f", `retl explain {codes[0]}`" if codes else ""
        lines.append(f"more: `retl status --target {target}`{explained}")
    return Message(target, at, title, tuple(lines), tuple(changes))


def test_message(target: str, at: datetime) -> Message:
    """What `retl alert test` sends."""
    title = f"retl, target {target}: this is a test"
    return Message(target, at, title, ("Nothing is wrong. Alerts of this target arrive here.",))


def slack_payload(message: Message) -> dict[str, Any]:
    """As Slack takes it: https://docs.slack.dev/messaging/formatting-message-text says what to escape."""
    escaped = message.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return {"text": escaped}


def webhook_payload(message: Message) -> dict[str, Any]:
    """For programs; `text` for those that show what they get."""
    return {
        "text": message.text,
        "target": message.target,
        "at": message.at.isoformat(),
        "changes": [_change_json(change) for change in message.changes],
    }


def _change_json(change: Change) -> dict[str, Any]:
    one = change.now or change.was
    return {
        "sync": change.sync,
        "event": change.event,
        "before": change.was.kind if change.was else None,
        "cause": change.now.cause or None if change.now else None,
        "since": one.since.isoformat() if one else None,
        "runs": change.now.runs if change.now else 0,
        "codes": list(change.now.codes) if change.now else [],
        "lines": list(change.now.lines) if change.now else [],
    }


def _lines(change: Change) -> list[str]:
    now, was = change.now, change.was
    if now is None:
        return [f"{change.sync}: succeeded; until then {_word(was.kind)}, since {moment(was.since)}"] if was else []
    in_a_row = f"  {count(now.runs, 'run')} in a row without success, since {moment(now.since)}"
    first, *others = now.lines
    return [first, *(f"  {line}" for line in others), *([in_a_row] if now.runs > 1 else [])]


def _word(event: str) -> str:
    return _WORDS.get(event, event)
