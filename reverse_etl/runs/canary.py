"""`--canary N`: some rows are sent first and read back; if Braze does not have them as sent, nothing more is.

    begun()    before anything is sent: which records they are, and what Braze has of their users   plan/canary.py
    check()    between two phases of the sender: reads back until Braze has all of it, or for long enough

Rows that Braze does not have as sent are no accepted ones: the journal says so, before anything relies on it. They are
sent again by the next run, or in doubt if that is not safe.
"""

import json
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from reverse_etl.braze.comparing import (
    USER_IS_THERE,
    Difference,
    Expected,
    differences,
    expected,
    not_compared,
    shown,
)
from reverse_etl.braze.subscriptions import User
from reverse_etl.delivery.journal import Journal
from reverse_etl.delivery.reading import NOTHING_SENT, HowToRead
from reverse_etl.delivery.sender import Stop
from reverse_etl.delivery.session import Session
from reverse_etl.errors import StateError
from reverse_etl.plan.canary import Chosen, choose
from reverse_etl.plan.tables import OUTBOX
from reverse_etl.records.consent import AFTER_OPT_OUTS
from reverse_etl.records.mapping import closing
from reverse_etl.runs.job import Job
from reverse_etl.runs.outcome import CanaryResult, Untaken
from reverse_etl.runs.read_back import CANARY, Profiles, refuse_unreadable
from reverse_etl.state.contents import types_of
from reverse_etl.state.outcomes import WITH_OUTCOMES, find_outcomes
from reverse_etl.state.state import State
from reverse_etl.words import count, duration

LAG_S, LAG_OF_IDENTITIES_S = 60.0, 300.0  # until then Braze shows what it has taken: half a minute, and five of deletes
READ_OTHERWISE = "read back from Braze, and not as it was sent"
_SHOWN = 5


def refuse_canary(job: Job) -> None:
    """Raises ProjectError if a canary is asked for, and Braze does not tell what became of records of the mode."""
    if job.options.canary:
        refuse_unreadable(job.sync, CANARY)


@dataclass(frozen=True)
class _Sent:
    """A record of the canary; `row` is its number in the outbox."""

    row: int
    key: str
    expected: Expected


class Canary:
    """The canary of one run. `result` is there once its rows have been read back; `has_stopped`: it ended the run."""

    def __init__(self, job: Job, state: State, profiles: Profiles, sent: Sequence[_Sent], chosen: Chosen) -> None:
        self.result: CanaryResult | None = None
        self.has_stopped = False
        self._job, self._state, self._profiles, self._sent, self._chosen = job, state, profiles, sent, chosen
        self._before = profiles.of(_people(sent))

    def check(self, journal: Journal, phase: int, stop: threading.Event) -> Stop | None:
        """Why nothing more is to be sent; None to go on. See `Checks` of the sender."""
        if self.result is not None or phase != AFTER_OPT_OUTS:
            return None
        stopped = self._check(journal, stop)
        self.has_stopped = stopped is not None
        return stopped

    def _check(self, journal: Journal, stop: threading.Event) -> Stop | None:
        accepted = self._accepted(journal)
        if not accepted:
            self._conclude([], {}, 0.0)
            return Stop(f"Braze rejected all of the canary: {count(len(self._sent), 'row')}")
        self._job.notice(f"canary: {count(len(accepted), 'row')} sent, {self._in_words()}: reading back")
        began_s = self._job.options.clock.now_s()
        try:
            found = self._read_back(accepted, stop)
        except StateError as error:
            return Stop(f"canary: cannot read back what was sent: {error.problems[0].message}", error.problems[0].hint)
        if stop.is_set():
            return None
        self._conclude(accepted, found, self._job.options.clock.now_s() - began_s)
        if not found:
            return None
        try:
            journal.untaken(dict.fromkeys(found, READ_OTHERWISE))
        except OSError as error:
            hint = (
                f"what Braze has otherwise than sent counts as accepted: `retl verify {self._job.sync.name} --repair`"
            )
            return Stop(f"cannot write the journal: {error.strerror}", hint)
        return self._stop(accepted, found)

    def _in_words(self) -> str:
        covered, kinds = self._chosen.covered, self._chosen.kinds
        return f"which have {'all' if covered == kinds else f'{covered:,} of {kinds:,}'} kinds of values"

    def _accepted(self, journal: Journal) -> list[_Sent]:
        find_outcomes(self._state.connection, journal.path, sends=True)
        rows = f"SELECT o.rowid FROM {WITH_OUTCOMES} WHERE outcome = 'accepted' AND o.rowid IN ({_rows(self._sent)})"
        accepted = {row for (row,) in self._state.connection.execute(rows).fetchall()}
        return [one for one in self._sent if one.row in accepted]

    def _read_back(self, sent: Sequence[_Sent], stop: threading.Event) -> dict[int, list[Difference]]:
        """What Braze still has otherwise, when it has had time enough, by the number of the record."""
        clock = self._job.options.clock
        deletes = any(one.expected.is_gone for one in sent)
        patience_s = LAG_OF_IDENTITIES_S if deletes or self._job.sync.mode.changes_identity else LAG_S
        began_s, wait_s, left = clock.now_s(), 1.0, list(sent)
        while True:
            users = self._profiles.of(_people(left))
            found = {one.row: self._differing(one, users) for one in left}
            left = [one for one in left if found[one.row]]
            rest_s = began_s + patience_s - clock.now_s()
            if not left or rest_s <= 0 or stop.is_set():
                return {row: differing for row, differing in found.items() if differing}
            clock.wait(min(wait_s, rest_s), stop)
            wait_s *= 2

    def _differing(self, one: _Sent, users: Mapping[str, list[User]]) -> list[Difference]:
        of = one.expected
        if of.former and users[of.former]:
            return [Difference("", USER_IS_THERE)]
        return differences(of, users[of.person], self._before[of.person])

    def _conclude(self, accepted: Sequence[_Sent], found: Mapping[int, Sequence[Difference]], seconds: float) -> None:
        columns = {name for one in self._sent for name in one.expected.attributes}
        left = not_compared(columns, self._profiles.tells_groups)
        times = Counter((one.column or None, one.what) for row in found.values() for one in row)
        differing = [Untaken(column, what, rows) for (column, what), rows in times.most_common()]
        numbers = len(self._sent), len(accepted), len(accepted) - len(found), self._chosen.covered, self._chosen.kinds
        self.result = CanaryResult(*numbers, differing, left, round(seconds, 3))
        if left:
            self._job.notice(f"canary: not compared, as Braze does not tell: {', '.join(left)}")
        if accepted and not found:
            rows = count(len(accepted), "row")
            self._job.notice(f"canary: Braze has {rows} as sent, after {duration(seconds)}")

    def _stop(self, accepted: Sequence[_Sent], found: Mapping[int, Sequence[Difference]]) -> Stop:
        job = self._job
        keys = self._state.keys(self._state.run.key(), job.options.canary_values)
        whose = {one.row: keys.shown(one.key) for one in accepted}
        said = [(whose[row], one) for row, of_row in found.items() for one in of_row]
        for key, one in said[:_SHOWN]:
            values = f": {shown(one.sent)} became {shown(one.read)}" if job.options.canary_values and one.column else ""
            job.notice(f"canary: {one.column or 'user'} of {key}: {one.what}{values}")
        if len(said) > _SHOWN:
            job.notice(f"canary: and {len(said) - _SHOWN:,} more")
        columns = dict.fromkeys(one.column or "user" for _, one in said)
        rows = f"{len(found):,} of {count(len(accepted), 'row')} of the canary"
        hint = "correct the model, or the attribute in Braze, then run it again: these rows are sent again"
        return Stop(f"Braze has {rows} otherwise than sent, so nothing more was: {', '.join(columns)}", hint)


def begun(job: Job, session: Session, state: State) -> Canary:
    """Choose the rows of a canary of a run that is about to be sent, and read their users as they are.

    Raises StateError, and sends nothing, if Braze does not tell of users.
    """
    connection, options = state.connection, job.options
    chosen = choose(connection, types_of(connection, OUTBOX), job.sync.pre_formatted_fields, options.canary)
    listed = ", ".join(map(str, chosen.records))
    rows = connection.execute(
        f"SELECT rowid, key, call, envelope, body FROM {OUTBOX} WHERE rowid IN ({listed}) ORDER BY rowid"
    ).fetchall()
    sent = []
    for row, key, call, envelope, body in rows:
        of = expected(call.split()[-1], json.loads(f"{envelope}{body}{closing(job.sync.mode)}"))
        if of is not None:
            sent.append(_Sent(row, key, of))
    how = HowToRead(options.threads, options.clock, options.policy, NOTHING_SENT)
    profiles = Profiles(session, how, [one.expected for one in sent])
    return Canary(job, state, profiles, sent, chosen)


def _people(sent: Iterable[_Sent]) -> list[str]:
    return list(dict.fromkeys(person for one in sent for person in one.expected.people))


def _rows(sent: Iterable[_Sent]) -> str:
    return ", ".join(str(one.row) for one in sent)
