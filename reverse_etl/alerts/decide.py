"""What is told, from what is so of each sync and what was told of it last. Pure.

A result is read as a Condition: one that is as it should be is none at all. Whatever differs from what was told last is
a Change, however long ago it came about: so what could not be told is told by a later command, and a sync that failed
and recovered meanwhile is not told at all.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from reverse_etl.braze.modes import MAX_DELETES, MAX_MERGES
from reverse_etl.codes import CODES
from reverse_etl.errors import Problem
from reverse_etl.plan.guards import guard_of
from reverse_etl.plan.plan import Plan
from reverse_etl.project.spec_alerts import Alert
from reverse_etl.report.text import result_line
from reverse_etl.runs.outcome import RunResult

RECOVERED = "recovered"
# How a run may end that says nothing of the sync: it did not run, or somebody stopped it.
_SILENT = ("skipped", "running", "already_run", "interrupted")
_IN_NUMBERS = ("X001", "X002", "X005")  # errors whose messages have counts and names of retl and syncs.yml only
# What tells a wrong key from an outage, and has no value in it; what follows it is a server's, and may have some.
_ANSWERED = re.compile(r"[^:]+: (Braze returned \d{3}|no complete response(?: within [\d.e+]+ s)?)(?![0-9])")
_OF_BRAZE = ("X004", "S029")  # of these, retl says itself why Braze was not reached; see `network/faults.py`
_UNREACHED = re.compile(
    r"[^:]+: ((?:cannot reach|cannot agree on TLS|the certificate|the proxy|https?://\S+ does) [^;]+)"
)
_AT_ONCE = (MAX_DELETES, MAX_MERGES, "max_resubscribed")


@dataclass(frozen=True)
class Condition:
    """What is wrong with a sync: since when, how many runs in a row, and why, without values and keys.

    kind: failed | blocked | incomplete | in_doubt | withheld
    cause: which guards or errors block it; another cause is another condition
    at_once: it is about deletes or consent
    """

    kind: str
    cause: str
    since: datetime
    runs: int
    at_once: bool
    lines: tuple[str, ...]
    codes: tuple[str, ...]

    def is_as(self, told: "Condition | None") -> bool:
        return told is not None and (self.kind, self.cause) == (told.kind, told.cause)


@dataclass(frozen=True)
class Change:
    """What is to be told of a sync: `was` was told last, `now` is so. None: as it should be."""

    sync: str
    was: Condition | None
    now: Condition | None

    @property
    def event(self) -> str:
        return self.now.kind if self.now else RECOVERED


Conditions = Mapping[str, Condition]


def says_something(result: RunResult) -> bool:
    """Whether a result says how it is with the sync."""
    return result.status not in _SILENT


def condition_after(before: Condition | None, result: RunResult, matters: bool, now: datetime) -> Condition | None:
    """How it is with a sync after a run. `matters`: what the sync does cannot be undone, or it carries consent."""
    if result.exit_code == 0:
        return None
    kind, causes = _kind(result), _causes(result)
    return Condition(
        kind,
        ", ".join(causes),
        before.since if before else now,
        before.runs + 1 if before else 1,
        matters or kind == "withheld" or not set(_AT_ONCE).isdisjoint(causes),
        (result_line(result), *map(_said, result.errors)),
        tuple(dict.fromkeys(problem.code for problem in result.errors if problem.code)),
    )


def changes(told: Conditions, now: Conditions, alert: Alert) -> list[Change]:
    """What an alert has to tell, in the order of names."""
    return list(_changes(told, now, alert))


def after_telling(told: Conditions, now: Conditions, alert: Alert) -> dict[str, Condition]:
    """What was told last, once everything has been that was to be."""
    kept = {sync: was for sync, was in told.items() if sync in now}
    new = {change.sync: change.now for change in _changes(told, now, alert) if change.now}
    return {sync: replace(one, lines=()) for sync, one in {**kept, **new}.items()}


def _changes(told: Conditions, now: Conditions, alert: Alert) -> Iterator[Change]:
    for sync in sorted({*told, *now}):
        change = Change(sync, told.get(sync), now.get(sync))
        if change.event not in alert.when or (change.now and change.now.is_as(change.was)):
            continue
        if change.now and not change.was and change.now.runs < alert.after and not change.now.at_once:
            continue
        yield change


def _kind(result: RunResult) -> str:
    if result.status in ("failed", "blocked"):
        return result.status
    plan, delivery = result.plan or Plan("", 0, 0), result.delivery
    if plan.held or (delivery and delivery.in_doubt):
        return "in_doubt"
    return "withheld" if plan.withheld > plan.quarantined else "incomplete"


def _causes(result: RunResult) -> list[str]:
    if result.status != "blocked":
        return []
    return sorted({guard_of(problem) or problem.code for problem in result.errors})


def _said(problem: Problem) -> str:
    """An error in one line: what it counted, or what errors of its kind are about. A message may have values in it."""
    if problem.code in _IN_NUMBERS:
        return f"{problem.message.partition(': ')[2]} [{problem.code}]"
    title = CODES[problem.code].title if problem.code in CODES else "an error"
    if answered := _ANSWERED.match(problem.message):
        title += f": {answered[1]}"
    elif problem.code in _OF_BRAZE and (unreached := _UNREACHED.match(problem.message)):
        title += f": {unreached[1]}"
    return f"{title} [{problem.code}]" if problem.code else title
