"""Asks Braze to delete users at once, as `retl forget --delete-in-braze` does; syncs use an outbox."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

from reverse_etl.braze.answers import Answer, Outcome, hint_for, judge
from reverse_etl.braze.client import Connection, Deadlines
from reverse_etl.braze.modes import DELETE
from reverse_etl.delivery.retry import RetryPolicy, next_wait_s
from reverse_etl.delivery.session import open_session
from reverse_etl.errors import StateError
from reverse_etl.project.project import LoadedProject
from reverse_etl.system.clock import Clock

_ARRAYS = {"external_id": "external_ids", "user_alias": "user_aliases", "braze_id": "braze_ids"}
_TRIES = RetryPolicy(tries=4)
_JITTER = 0.5
_AGAIN = (Outcome.NOT_SENT, Outcome.THROTTLED, Outcome.UNKNOWN)


def delete_users(project: LoadedProject, texts: Sequence[str], clock: Clock) -> int:
    """Ask Braze to delete the users with these ids and aliases; returns how many it was asked for.

    Sending it twice does no harm. Raises StateError if Braze does not take it.
    """
    asked = 0
    with (
        open_session(project) as session,
        closing(Deadlines()) as deadlines,
        closing(Connection(session.workspace(), deadlines)) as connection,
    ):
        for array, users in _batches(texts):
            _send(connection, json.dumps({array: users}).encode(), len(users), clock)
            asked += len(users)
    return asked


def _batches(texts: Sequence[str]) -> Iterator[tuple[str, list[Any]]]:
    """One kind of identifier per request (post_user_delete)."""
    for kind, array in _ARRAYS.items():
        values = [text.partition(":")[2] for text in texts if text.startswith(f"{kind}:")]
        users: list[Any] = [_alias(value) for value in values] if kind == "user_alias" else list(values)
        for start in range(0, len(users), DELETE.rows_per_request):
            yield array, users[start : start + DELETE.rows_per_request]


def _alias(value: str) -> dict[str, str]:
    label, _, name = value.partition("\x1f")
    return {"alias_name": name, "alias_label": label}


def _send(connection: Connection, body: bytes, records: int, clock: Clock) -> None:
    began_s, attempt = clock.now_s(), 0
    while True:
        answer, attempt = connection.send(DELETE.path, body), attempt + 1
        verdict = judge(answer, records, ())
        if verdict.outcome is Outcome.ACCEPTED and not verdict.rejected:
            return
        # Without the message of Braze, which may name the person.
        why = f"Braze returned {answer.status}" if isinstance(answer, Answer) else answer.why
        wait_s = next_wait_s(attempt, clock.now_s() - began_s, _TRIES, _JITTER)
        if verdict.outcome not in _AGAIN or wait_s is None:
            raise _not_deleted(why, verdict.hint or hint_for(verdict.status, DELETE.permission))
        clock.wait(max(wait_s, verdict.pause_s), threading.Event())


def _not_deleted(why: str, hint: str | None) -> StateError:
    again = "run this again: no sync sends the person any more, and the states still have it, so nothing is lost"
    return StateError(f"not deleted in Braze: {why}", hint=f"{hint}; then {again}" if hint else again, code="S028")
