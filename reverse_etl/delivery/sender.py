"""Outbox -> batches -> worker threads -> journal.

The calling thread cuts the outbox into batches, and hands each one out when a worker is free and the rate limit allows
a request: so one thread alone wakes up by the clock. Workers, started as needed, each with its own connection, deliver
them. The outcome of a request is written to the journal before it is counted; the state is updated later, from the
journal alone.

    batch ── free worker ── wait for the limit ──> journal: sent ── POST ── judge ── journal: answered ──> done
                                                    ▲                          │
                             wait for the limit ── retry ── find the bad records in it    (or: in doubt, stop)

Before a batch of the next phase is handed out, all batches of the phase before are done: with it, each of their records
has been accepted or rejected, or the run ends.
"""

import errno
import json
import queue
import random
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from reverse_etl.braze.answers import Answer, NamedErrors, Outcome, Verdict, hint_for, judge
from reverse_etl.braze.modes import Call
from reverse_etl.braze.workspace import Workspace
from reverse_etl.delivery.batches import Batch, Row
from reverse_etl.delivery.journal import Journal
from reverse_etl.delivery.pacing import Pacer
from reverse_etl.delivery.retry import RetryPolicy, next_wait_s
from reverse_etl.delivery.waiting import NOTED_FROM_S, UNANSWERED_FROM_S, Waiting, Waits
from reverse_etl.masking import of_request
from reverse_etl.records.consent import OPT_OUTS_FIRST
from reverse_etl.system.clock import Clock
from reverse_etl.words import count

if TYPE_CHECKING:
    from reverse_etl.braze.client import Connection

_LOOK_S = 0.2  # how often it is looked whether the run is to stop
MAX_CONSECUTIVE_DOUBTS = 3  # batches in a row that end in doubt before the run stops
REFUSED_IN_A_ROW = 75  # records in a row, sent one by one, that Braze rejects before the run stops


@dataclass(frozen=True)
class Stop:
    """Why nothing more is to be sent."""

    why: str
    hint: str | None = None


Checks = Callable[[int, threading.Event], Stop | None]


@dataclass
class Delivery:
    """The result of sending, counted as responses arrive.

    `stopped` is the reason why sending ended early, if it did, and `hint` what to do about it. `out_of_time`: the next
    request would have started too late.
    """

    requests: int = 0
    accepted: int = 0
    rejected: int = 0
    in_doubt: int = 0
    stopped: str | None = None
    hint: str | None = None
    interrupted: bool = False
    out_of_time: bool = False


@dataclass(frozen=True)
class Route:
    """How to send to one endpoint, and how to read its responses."""

    call: Call
    closing: str
    arrays: Collection[str]
    pacer: Pacer


class _Next(Enum):
    DONE = 1
    SPLIT = 2
    AGAIN = 3
    DOUBT = 4
    STOP = 5


# What to do after each outcome: if the batch is idempotent, and if not (retry table of the errors page).
_NEXT: Mapping[Outcome, tuple[_Next, _Next]] = {
    Outcome.ACCEPTED: (_Next.DONE, _Next.DONE),
    Outcome.REFUSED: (_Next.SPLIT, _Next.SPLIT),
    Outcome.TOO_LARGE: (_Next.SPLIT, _Next.SPLIT),
    Outcome.THROTTLED: (_Next.AGAIN, _Next.AGAIN),
    Outcome.NOT_SENT: (_Next.AGAIN, _Next.AGAIN),
    Outcome.UNKNOWN: (_Next.AGAIN, _Next.DOUBT),
    Outcome.UNPLACED: (_Next.DOUBT, _Next.DOUBT),
    Outcome.FORBIDDEN: (_Next.STOP, _Next.STOP),
    Outcome.UNREACHABLE: (_Next.STOP, _Next.STOP),
}
_IN_JOURNAL = {
    Outcome.ACCEPTED: "accepted",
    Outcome.UNKNOWN: "in_doubt",
    Outcome.UNPLACED: "in_doubt",
    Outcome.NOT_SENT: "not_sent",
    Outcome.UNREACHABLE: "not_sent",
}


@dataclass(frozen=True)
class SenderOptions:
    """How to deliver. `may_repeat`: retry requests without a response even if it is not safe to send them twice.
    `until_s` of the clock: no request starts from then on. `before` is called before anything of a phase is sent, when
    each record of those before has been answered, with an event that is set if the run is to stop.
    """

    threads: int
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    clock: Clock = field(default_factory=Clock)
    may_repeat: bool = False
    until_s: float = inf
    before: Checks = lambda phase, stop: None


class Sender:
    """Delivers batches; call `send` once, and `interrupt` from any thread."""

    def __init__(
        self,
        workspace: Workspace,
        routes: Mapping[str, Route],
        journal: Journal,
        options: SenderOptions,
    ) -> None:
        from reverse_etl.braze.client import Deadlines

        self.delivery = Delivery()
        self._workspace, self._routes, self._journal = workspace, routes, journal
        self._threads, self._policy, self._clock = options.threads, options.policy, options.clock
        self._may_repeat, self._until_s, self._random = options.may_repeat, options.until_s, random.Random()
        self._before = options.before
        self._deadlines, self._waits = Deadlines(), Waits()
        self._free = queue.SimpleQueue[None]()  # an item for each worker that waits for a batch
        self._handed_out = queue.SimpleQueue[Batch | None]()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._doubts_in_a_row = 0
        self._refused_in_a_row = 0
        self._workers: list[threading.Event] = []  # each set when its worker has ended
        self._ends_queued = 0
        self._bug: BaseException | None = None

    @property
    def in_flight(self) -> int:
        """How many requests are in flight, once nothing new is started."""
        return sum(not ended.is_set() for ended in self._workers)

    def waiting(self, unanswered_from_s: float = UNANSWERED_FROM_S) -> Waiting | None:
        """What is waited for, if it is for long; from any thread."""
        return self._waits.now(self._clock.now_s(), self._deadlines.unanswered(unanswered_from_s))

    def interrupt(self) -> None:
        """Start no more requests; those in flight are completed and journaled."""
        self.delivery.interrupted = True
        self._stop.set()

    def stop(self, why: str, hint: str | None = None) -> None:
        """Like `interrupt`, but the run has failed; `why` is the reason."""
        self._stop_run(why, hint)

    def send(self, batches: Iterable[Batch]) -> Delivery:
        """Deliver all batches, or as many as possible. Returns when no request is in flight any more.

        An exception raised meanwhile, as by a signal handler of the calling program, has the effect of `interrupt`.
        """
        phase: int | None = None
        try:
            for batch in batches:
                if phase is not None and batch.place.phase != phase and not self._may_begin(batch.place.phase, phase):
                    break
                phase = batch.place.phase
                if not (self._await_worker() and self._wait_for_turn(batch)):
                    break
                self._handed_out.put(batch)
            self._await_workers()
        except BaseException:
            self._stop.set()
            raise
        finally:
            self._await_workers()
            self._deadlines.close()
        if self._bug:
            raise self._bug
        return self.delivery

    def _await_workers(self) -> None:
        """Wait until all workers have ended. Can be called again if a call was interrupted."""
        while self._ends_queued < len(self._workers):
            self._handed_out.put(None)
            self._ends_queued += 1
        for ended in self._workers:  # not join(): after an exception in it, it takes the thread for ended
            while not ended.wait(timeout=_LOOK_S):  # a signal that another thread got is handled between two waits
                pass

    def check(self, phase: int) -> None:
        """Call `before` as if something of that phase were still to be sent, unless the run was stopped."""
        if not self._stop.is_set() and (stop := self._before(phase, self._stop)):
            self._stop_run(stop.why, stop.hint)

    def _may_begin(self, phase: int, after: int) -> bool:
        """Wait until all batches handed out are done; False if the run ends here, as one of them has no answer, or as
        `before` says so."""
        for _ in self._workers:
            if not self._take_free():
                break
        for _ in self._workers:
            self._free.put(None)
        if not self._stop.is_set() and self.delivery.in_doubt:
            what = "an opt-out"
            hint = "run again: opt-outs without a clear response are sent again, before everything else"
            if after != OPT_OUTS_FIRST:
                what = "a row of the canary"
                hint = "run again: it sends what is not in doubt"
            self._stop_run(f"{what} has no clear response, so nothing that comes after it is sent", hint)
        self.check(phase)
        return not self._stop.is_set()

    def _await_worker(self) -> bool:
        """Wait until a worker is free, and take it; False if the run was stopped."""
        if self._free.empty():
            self._start_worker()
        return self._take_free()

    def _take_free(self) -> bool:
        while not self._stop.is_set():
            with suppress(queue.Empty):
                self._free.get(timeout=_LOOK_S)
                return True
        return False

    def _start_worker(self) -> None:
        if len(self._workers) >= self._threads:
            return
        self._deadlines.start()
        ended, name = threading.Event(), f"retl-sender-{len(self._workers) + 1}"
        worker = threading.Thread(target=self._work, args=[ended], name=name)
        self._workers.append(ended)
        try:
            worker.start()
        except RuntimeError:  # there is no memory for its stack: those that are there do the work
            self._workers.pop()
            if not self._workers:
                raise
            self._threads = len(self._workers)
        except BaseException:
            ended.set()
            raise

    def _work(self, ended: threading.Event) -> None:
        try:
            self._deliver_all()
        finally:
            ended.set()

    def _deliver_all(self) -> None:
        from reverse_etl.braze.client import Connection

        connection = Connection(self._workspace, self._deadlines)
        while (batch := self._next()) is not None:
            try:
                if not self._stop.is_set():  # otherwise it is unsent, and not in the journal
                    self._deliver(connection, batch, has_turn=True)
            except BaseException as error:  # noqa: BLE001  # a bug: raised where it is seen, in `send`
                self._bug = error
                self._stop.set()
        connection.close()

    def _next(self) -> Batch | None:
        self._free.put(None)
        return self._handed_out.get()

    # --- one batch ---------------------------------------------------------------------------------------------------

    def _deliver(self, connection: "Connection", batch: Batch, has_turn: bool = False) -> None:
        """Deliver a batch: every record ends up accepted, rejected, in doubt, or unsent because the run stops."""
        verdict = self._attempt(connection, batch, has_turn)
        if verdict:
            self._follow_up(connection, batch, verdict)

    def _attempt(self, connection: "Connection", batch: Batch, has_turn: bool = False) -> Verdict | None:
        """Send a batch until it has a final verdict; None if the run was stopped before. `has_turn`: it may go now."""
        try:
            return self._until_final(connection, batch, has_turn)
        finally:
            self._waits.done()

    def _until_final(self, connection: "Connection", batch: Batch, has_turn: bool) -> Verdict | None:
        began_s, attempt = self._clock.now_s(), 0
        while has_turn or self._wait_for_turn(batch):
            has_turn = False
            attempt += 1
            try:
                verdict = self._request(connection, batch)
            except OSError as error:  # from the journal: a connection raises none
                room = "free disk space: " if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
                first = f"{room}retl sends nothing that it cannot record first"
                hint = f"{first}; rows sent without a recorded response are in doubt"
                self._stop_run(f"cannot write the journal: {error.strerror}", hint)
                return None
            idempotent, not_idempotent = _NEXT[verdict.outcome]
            following = idempotent if batch.is_idempotent or self._may_repeat else not_idempotent
            if following is _Next.STOP:
                remedy = verdict.hint or hint_for(verdict.status, self._routes[batch.place.call].call.permission)
                self._stop_run(verdict.why, remedy)
                return None
            if following is _Next.DOUBT:
                self._note_doubt(verdict, len(batch.rows) - len(verdict.rejected))
            if following is not _Next.AGAIN:
                return verdict
            self._waits.failed(verdict)
            if not self._wait_to_retry(batch, verdict, attempt, self._clock.now_s() - began_s):
                return None
        return None

    def _follow_up(self, connection: "Connection", batch: Batch, verdict: Verdict) -> None:
        """After a batch of which nothing was accepted: resend the records in it that may be valid."""
        if verdict.outcome is Outcome.TOO_LARGE:
            for half in batch.halves():
                self._deliver(connection, half)
        elif verdict.outcome is Outcome.REFUSED and self._refused_in_a_row >= REFUSED_IN_A_ROW:
            what = f"Braze rejected {count(self._refused_in_a_row, 'row')} in a row, one by one"
            self._stop_run(f"{what}; last response: {verdict.why}")
        elif verdict.outcome is Outcome.REFUSED and verdict.rejected:
            rest = [row for place, row in enumerate(batch.rows) if place not in verdict.rejected]
            if rest:
                self._deliver(connection, batch.of(rest))
        elif verdict.outcome is Outcome.REFUSED:
            self._find_bad_record(connection, batch)

    def _find_bad_record(self, connection: "Connection", batch: Batch) -> None:
        """Send a batch with a bad record that the response did not identify: at most nine requests per bad record.

        The first half is sent. If it is rejected, the bad record is in it, and the second half waits; if it is
        accepted, the bad record is in the second half. What waits is sent together once the bad record is found. It
        always follows the suspects, so that every request contains neighbors of the outbox, as the journal requires.
        """
        suspects, waiting = batch, list[Row]()
        while len(suspects.rows) > 1:
            first, second = suspects.halves()
            verdict = self._attempt(connection, first)
            if verdict is None:
                return
            if verdict.outcome is Outcome.ACCEPTED:
                suspects = second
            elif verdict.outcome is Outcome.REFUSED and not verdict.rejected:
                suspects, waiting = first, [*second.rows, *waiting]
            else:  # the response identifies bad records, or there is none: the second half may be valid as a whole
                self._follow_up(connection, first, verdict)
                suspects, waiting = batch.of([*second.rows, *waiting]), []
                break
        self._deliver(connection, suspects)
        if waiting:
            self._deliver(connection, batch.of(waiting))

    def _wait_for_turn(self, batch: Batch) -> bool:
        """Wait until the rate limit allows a request; False if the run was stopped, or is out of time."""
        pacer = self._routes[batch.place.call].pacer
        with self._lock:
            now_s = self._clock.now_s()
            wait_s = pacer.reserve(now_s)
        while self._may_start(now_s + wait_s):
            if wait_s > 0:
                self._wait(wait_s, pacer)
            with self._lock:
                now_s = self._clock.now_s()
                wait_s = pacer.reserve(now_s) if pacer.is_paused(now_s) else pacer.start(now_s)
            if wait_s <= 0:
                return self._may_start(now_s)
        return False

    def _wait(self, wait_s: float, pacer: Pacer) -> None:
        if wait_s < NOTED_FROM_S:
            self._clock.wait(wait_s, self._stop)
            return
        with self._waits.until(self._clock.now_s() + wait_s, pacer):
            self._clock.wait(wait_s, self._stop)

    def _may_start(self, at_s: float) -> bool:
        if at_s >= self._until_s and not self._stop.is_set():
            self.delivery.out_of_time = True
            self._stop.set()
        return not self._stop.is_set()

    def _request(self, connection: "Connection", batch: Batch) -> Verdict:
        route, records, now = self._routes[batch.place.call], len(batch.rows), self._clock.utc
        body = batch.body(route.closing)
        request = self._journal.sent(*batch.ends, durable=not batch.is_idempotent, objects=records, at=now())
        result = connection.send(route.call.path, body, route.call.method)
        call, form = route.call, route.call.errors
        named = NamedErrors(form, partial(_names, batch, form.names_by)) if form else None
        arrays = route.arrays if batch.is_of_one_place else ()  # of several groups, an index means no record
        verdict = judge(result, records, arrays, call.counters, named, call.refused, call.done)
        rejected = {batch.seq(place): reason for place, reason in verdict.rejected.items()}
        outcome = _IN_JOURNAL.get(verdict.outcome, "not_taken")
        why = verdict.why if outcome == "in_doubt" else None
        self._journal.answered(request, outcome, rejected, why, verdict.status, now())
        if verdict.outcome is not Outcome.ACCEPTED:  # the journal alone has what Braze said of values
            verdict = verdict._replace(why=of_request(verdict.why, batch.bodies))
        with self._lock:
            self._count(verdict, records)
            if verdict.pause_s:
                route.pacer.pause(self._clock.now_s(), verdict.pause_s)
            if route.pacer.keeps_free and isinstance(result, Answer):
                route.pacer.heed(self._clock.now_s(), result.headers)
        return verdict

    def _count(self, verdict: Verdict, records: int) -> None:
        delivery = self.delivery
        delivery.requests += verdict.outcome not in (Outcome.NOT_SENT, Outcome.UNREACHABLE)
        delivery.rejected += len(verdict.rejected)
        self._refused_in_a_row += len(verdict.rejected) if verdict.outcome is Outcome.REFUSED and records == 1 else 0
        if verdict.outcome is Outcome.ACCEPTED:
            delivery.accepted += records - len(verdict.rejected)
            self._doubts_in_a_row = 0
            self._refused_in_a_row = 0

    def _wait_to_retry(self, batch: Batch, verdict: Verdict, attempt: int, elapsed_s: float) -> bool:
        """Wait before the next attempt; False if there is to be none."""
        if verdict.outcome is Outcome.THROTTLED:
            if elapsed_s < self._policy.throttled_give_up_after_s:
                return True  # the shared pause does the waiting
            self._stop_run(f"{verdict.why}; still so after {elapsed_s:,.0f} s")
            return False
        with self._lock:
            jitter = self._random.random()
        wait_s = next_wait_s(attempt, elapsed_s, self._policy, jitter)
        if wait_s is None:
            what = f"{verdict.why}; gave up after {count(attempt, 'attempt')} in {elapsed_s:,.0f} s"
            self._stop_run(what, verdict.hint)
            return False
        self._wait(wait_s, self._routes[batch.place.call].pacer)
        return not self._stop.is_set()

    def _note_doubt(self, verdict: Verdict, records: int) -> None:
        with self._lock:
            self.delivery.in_doubt += records
            self._doubts_in_a_row += 1
            too_many = self._doubts_in_a_row >= MAX_CONSECUTIVE_DOUBTS
        if too_many:
            self._stop_run(f"{verdict.why}; {count(MAX_CONSECUTIVE_DOUBTS, 'request')} in a row ended this way")

    def _stop_run(self, why: str, hint: str | None = None) -> None:
        with self._lock:
            if self.delivery.stopped is None:
                self.delivery.stopped, self.delivery.hint = why, hint
        self._stop.set()


def _names(batch: Batch, member: str) -> list[str]:
    """What the records of a request are called in its errors."""
    return [str(json.loads(body).get(member)) for body in batch.bodies]
