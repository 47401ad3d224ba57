"""Several syncs of one command: while one sends, the next is planned. `turns.py` decides which may do what.

    this thread      plans, one sync after the other, and yields results, in the order of the command
    other threads    one for each sync that sends: carry_out()

A plan is sent as it was made. So whatever it depends on is over before: syncs that it runs after, those that decide
which profile an identifier means, and, where it reads the states of others, all that are under way
(`Job.await_others`). One may wait until Braze has applied what those before it have sent.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from functools import partial
from types import TracebackType

from reverse_etl.delivery.sender import Sender
from reverse_etl.delivery.session import Session, windows
from reverse_etl.errors import AtWorkError, Problem, RetlError
from reverse_etl.plan.outbox import may_withhold
from reverse_etl.plan.plan import Plan
from reverse_etl.plan.workbench import connect_ahead, drop_ahead, limit_memory, part_of
from reverse_etl.project.spec import Sync
from reverse_etl.runs.interrupts import Interrupted, Interrupts
from reverse_etl.runs.job import Job, Ready
from reverse_etl.runs.outcome import RUNNING, Listener, RunResult
from reverse_etl.runs.run import carry_out
from reverse_etl.runs.turns import CONSENT, Stage, Turn, may_send, next_to_plan
from reverse_etl.state.tries import note_run, note_skip
from reverse_etl.words import duration

DEPENDENT_CALLS_S = 300  # Braze may take this long until a request sees the effect of another (api_limits)
TO_PLAN, TO_SEND = 1 / 2, 1 / 4  # of the memory limit, where a sync is planned beside two that send or are committed
_LOOK_S = 0.2  # a signal that another thread got is handled between two waits
_OUT_OF_MEMORY = {"D005", "S009"}  # codes of errors


def run_jobs(jobs: Sequence[Job], session: Session, interrupts: Interrupts | None = None) -> Iterator[RunResult]:
    """Run syncs in the order given, and yield their results in this order; after a failure, those that list it in
    `after` are skipped. An exception, or an end of the iteration, stops what is being sent, and waits for it."""
    command = _Command(jobs, session, interrupts or Interrupts())
    try:
        yield from command.results()
    finally:
        command.end()


class _Command:
    """The syncs of a command, by name, and what has become of each. `_changed` guards all that threads share."""

    def __init__(self, jobs: Sequence[Job], session: Session, interrupts: Interrupts) -> None:
        self._session, self._interrupts = session, interrupts
        self._changed, self._listening = threading.Condition(), threading.RLock()
        self._turns, threads = turns_of(jobs), threads_of(jobs)
        self._jobs = {
            job.sync.name: replace(
                job,
                listener=_Heard(job.listener, self._listening, self),
                options=replace(job.options, threads=threads[job.sync.name]),
                await_others=partial(self._await_others, job.sync.name),
            )
            for job in jobs
        }
        self._stages = dict.fromkeys(self._jobs, Stage.WAITING)
        self._ready: dict[str, Ready] = {}
        self._results: dict[str, RunResult] = {}
        self._finished_s: dict[str, float] = {}  # of those that have sent something
        self._begun: set[str] = set()  # those whose turn to send has come, until their result is yielded
        self._threadless: list[str] = []  # ... and for which there was no memory for a thread: this one sends them
        self._threads: list[threading.Thread] = []
        self._bug: BaseException | None = None
        self._is_ending = False
        self._identities = {job.sync.name for job in jobs if job.sync.mode.changes_identity}
        self._has_told = False

    def results(self) -> Iterator[RunResult]:
        for name in self._jobs:
            while name not in self._results:
                self._step()
            yield self._results[name]
            self._count(name, begins=False)

    def end(self) -> None:
        """Stop what is being sent, and wait for it; drop what was planned only. Does nothing if all are done."""
        with self._changed:
            self._is_ending = True
            left = [name for name, stage in self._stages.items() if stage is Stage.READY or name in self._threadless]
            self._stages.update(dict.fromkeys(left, Stage.DONE))
        if any(Stage.SENDING <= stage < Stage.DONE for stage in self._stages.values()):
            self._interrupts.stop()
        for name in left:
            with suppress(RetlError):
                self._ready.pop(name).drop()
        with self._changed:
            while any(Stage.SENDING <= stage < Stage.DONE for stage in self._stages.values()):
                self._changed.wait(_LOOK_S)
        for thread in self._threads:  # they have nothing more to do
            thread.join()
        for name in list(self._begun):
            self._count(name, begins=False)
        drop_ahead()

    # --- in the thread of the command --------------------------------------------------------------------------------

    def _step(self) -> None:
        """Plan a sync, or wait until something has changed."""
        with self._changed:
            if self._bug:
                raise self._bug
            name = next_to_plan(self._turns, self._stages)
            if name is None and not self._threadless:
                self._changed.wait(_LOOK_S)
                return
        if name is None:
            self._send(self._threadless.pop())
        else:
            self._plan(name)

    def _plan(self, name: str) -> None:
        job = self._jobs[name]
        found: Ready | RunResult
        try:
            with self._interrupts.planning():
                found = self._skipped(job, "started") or self._planned(job)
        except RetlError as error:
            status = RUNNING if isinstance(error, AtWorkError) else "failed"  # which says nothing of the sync
            found = job.not_run(status, error.exit_code, error.problems)
        except Interrupted:
            if not self._interrupts.under_way:
                raise
            why = f"{name}: interrupted: the command ended while this sync was running"
            found = job.not_run("interrupted", 1, [Problem(why, code="X005")])
        if not isinstance(found, Ready):
            self._done(name, found)
            return
        with self._changed:
            self._ready[name] = found
            self._stages[name] = Stage.READY
            withholds = not found.state.run.is_blank and may_withhold(found.state.connection)
            lanes = self._turns[name].lanes - (set() if withholds else {CONSENT})
            self._turns[name] = replace(self._turns[name], lanes=lanes)
            if Stage.WAITING in self._stages.values() and not found.state.run.is_blank:
                limit_memory(found.state.connection, part_of(job.options.memory_limit, TO_SEND))
            self._let_send()

    def _planned(self, job: Job) -> Ready | RunResult:
        """Plan a sync, in a part of the memory if others are under way; if that is not enough, once they are done."""
        _wait(job, self._finished_s)
        if not self._has_told:
            self._has_told = _tell(job, self._identities, self._finished_s)
        name, options = job.sync.name, job.options
        with self._changed:
            self._stages[name] = Stage.PLANNING
            is_beside = self._is_beside(name)
        if is_beside:
            with suppress(_LacksMemoryError), _lacking_memory():
                less = replace(options, memory_limit=part_of(options.memory_limit, TO_PLAN))
                return replace(job, options=less).plan(self._session)
            self._await_others(name)
        return job.plan(self._session)

    def _is_beside(self, name: str) -> bool:
        return any(Stage.WAITING < stage < Stage.DONE for one, stage in self._stages.items() if one != name)

    def _await_others(self, name: str) -> None:
        """Wait until no other sync is under way."""
        while not self._bug:
            with self._changed:
                if not self._is_beside(name):
                    return
                if not self._threadless:
                    self._changed.wait(_LOOK_S)
            while self._threadless:
                self._send(self._threadless.pop())

    def planning(self) -> None:
        """The model of a sync is about to run: the next sync needs a connection soon."""
        if Stage.WAITING in self._stages.values():
            connect_ahead()

    # --- in any thread -----------------------------------------------------------------------------------------------

    def _let_send(self) -> None:
        """Let those send whose turn it is. To be called with `_changed`."""
        for name in [name for name, stage in self._stages.items() if stage is Stage.READY]:
            if may_send(self._turns, self._stages, name, self._jobs[name].options.fail_fast):
                self._stages[name] = Stage.SENDING
                self._count(name, begins=True)
                try:
                    thread = threading.Thread(target=self._send, args=[name], name=f"retl-sync-{name}")
                    thread.start()
                    self._threads.append(thread)
                except RuntimeError:
                    self._threadless.append(name)
        self._changed.notify_all()

    def _send(self, name: str) -> None:
        ready = self._ready.pop(name)
        try:
            result = self._skipped(ready.job, "sent anything")
            if result:
                ready.drop()
            else:
                with ready.end:
                    result = carry_out(ready, self._session)
        except RetlError as error:
            result = ready.job.not_run("failed", error.exit_code, error.problems)
        except BaseException as error:  # noqa: BLE001  # a bug: raised where it is seen
            with self._changed:
                self._bug = error
                self._stages[name] = Stage.DONE
                self._changed.notify_all()
            return
        self._done(name, result)

    def _skipped(self, job: Job, what: str) -> RunResult | None:
        """The result of a sync that is not to be run, because of what has become of others."""
        with self._changed:
            results = dict(self._results)
        missed = [name for name in job.sync.predecessors if name in results and _holds_up(results[name])]
        has_failed = job.options.fail_fast and any(result.exit_code for result in results.values())
        if not (missed or has_failed or self._interrupts.signal or self._is_ending):
            return None
        why = f"the command ended before this sync {what}"
        if missed:
            why = f"its predecessors have not succeeded: {', '.join(missed)}"
            with suppress(OSError):
                note_skip(job.project, job.sync, job.now(), missed)
        return job.not_run("skipped", 1, [Problem(f"{job.sync.name}: skipped: {why}", code="X005")])

    @contextmanager
    def sending(self, name: str, sender: Sender) -> Iterator[None]:
        """Around what a sync sends; after it, the next that sends there may begin."""
        with self._interrupts.stopping(name, sender):
            if self._is_ending:
                sender.interrupt()
            yield
        with self._changed:
            self._stages[name] = Stage.SENT
            self._let_send()

    def _done(self, name: str, result: RunResult) -> None:
        job = self._jobs[name]
        if result.status != "skipped":
            note_end(job, result)
        with self._changed:
            if result.delivery and result.delivery.requests:
                self._finished_s[name] = job.options.clock.now_s()
            self._results[name] = result
            self._stages[name] = Stage.DONE
            self._let_send()

    def _count(self, name: str, begins: bool) -> None:
        """Count a sync as under way, from its turn to send until its result is yielded."""
        with self._changed:
            (self._begun.add if begins else self._begun.discard)(name)
            self._interrupts.under_way = len(self._begun)


class _Heard:
    """The listener of a command: it is called by one thread at a time. See `Listener`."""

    def __init__(self, listener: Listener, turn: threading.RLock, command: _Command) -> None:
        self._listener, self._turn, self._command = listener, turn, command

    def notice(self, sync: Sync, text: str) -> None:
        with self._turn:
            self._listener.notice(sync, text)

    def planning(self, sync: Sync) -> AbstractContextManager[None]:
        self._command.planning()
        return _InTurn(self._turn, self._listener.planning(sync))

    def planned(self, sync: Sync, plan: Plan) -> None:
        with self._turn:
            self._listener.planned(sync, plan)

    @contextmanager
    def sending(self, sync: Sync, plan: Plan, sender: Sender) -> Iterator[None]:
        with self._command.sending(sync.name, sender), _InTurn(self._turn, self._listener.sending(sync, plan, sender)):
            yield


class _InTurn:
    """A block that begins and ends while no other thread calls the listener."""

    def __init__(self, turn: threading.RLock, block: AbstractContextManager[None]) -> None:
        self._turn, self._block = turn, block

    def __enter__(self) -> None:
        with self._turn:
            self._block.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        with self._turn:
            return self._block.__exit__(kind, error, trace)


class _LacksMemoryError(Exception):
    pass


@contextmanager
def _lacking_memory() -> Iterator[None]:
    try:
        yield
    except RetlError as error:
        if error.problems[0].code in _OUT_OF_MEMORY:
            raise _LacksMemoryError from error
        raise


def turns_of(jobs: Sequence[Job]) -> dict[str, Turn]:
    """What the turn of each sync depends on, as far as that is known before it is planned."""
    before = {job.sync.name: set(job.sync.predecessors) for job in jobs}
    all_one_lane = _families(jobs) if _too_few_threads(jobs) else frozenset[str]()
    turns = {}
    for job in jobs:
        sync = job.sync
        lanes = {call.family for call in sync.calls} | all_one_lane
        if any(field.consent for field in sync.mode.fields):
            lanes.add(CONSENT)
        changes_identity = sync.mode.changes_identity or sync.deletion is not None
        is_alone = job.alone or changes_identity or job.options.read_first or job.options.canary > 0
        turns[sync.name] = Turn(_all_before(sync.name, before), frozenset(lanes), is_alone)
    return turns


def _all_before(name: str, before: Mapping[str, AbstractSet[str]]) -> frozenset[str]:
    """Whom a sync runs after, directly or not, as far as they are syncs of the command."""
    found, open_ = set[str](), set(before[name])
    while open_:
        one = open_.pop()
        if one not in found:
            found.add(one)
            open_ |= before.get(one, set())
    return frozenset(found)


def _families(jobs: Sequence[Job]) -> frozenset[str]:
    """The families of endpoints to which the syncs of a command send that are not alone."""
    return frozenset(job.sync.mode.call.family for job in jobs if not job.sync.mode.changes_identity)


def _too_few_threads(jobs: Sequence[Job]) -> bool:
    return any(job.options.threads < len(_families(jobs)) for job in jobs)


def threads_of(jobs: Sequence[Job]) -> dict[str, int]:
    """How many requests of each sync may be in flight: those of all families together as many as the options say.

    They are divided as the rate limits are: a request takes as long wherever it goes.
    """
    families = _families(jobs)
    if len(families) < 2 or _too_few_threads(jobs):
        return {job.sync.name: job.options.threads for job in jobs}
    rates = {
        family: min(window.requests / window.per_seconds for window in windows(jobs[0].project, family))
        for family in families
    }
    found = {}
    for job in jobs:
        family, most = job.sync.mode.call.family, job.options.threads
        part = 1.0 if job.sync.mode.changes_identity else rates[family] / sum(rates.values())
        found[job.sync.name] = min(max(1, int(most * part)), most)
    return found


def note_end(job: Job, result: RunResult) -> None:
    """Remember how a run ended, for its schedule: without that, it tries again at once."""
    with suppress(OSError):
        is_on_record = result.plan is not None  # blocked, or sent: its state has the run
        note_run(job.project, job.sync, result.status, job.now(), result.errors, is_on_record)


def _wait(job: Job, finished_s: Mapping[str, float]) -> None:
    """Wait as `after` of the sync says, unless the syncs before it have sent nothing. A signal ends it."""
    now_s = job.options.clock.now_s()
    waits = [(finished_s[one.sync] + one.wait_s - now_s, one.sync) for one in job.sync.after if one.sync in finished_s]
    wait_s, name = max(waits, default=(0.0, ""))
    if wait_s > 0:
        job.notice(f"waiting {duration(wait_s)} until Braze has applied what {name} has sent (after: wait)")
        job.options.clock.wait(wait_s, threading.Event())


def _tell(job: Job, identities: AbstractSet[str], finished_s: Mapping[str, float]) -> bool:
    """Point out that Braze may not have applied what a sync before it has sent, if one of both is in `identities`: they
    decide which profile an identifier means."""
    sync, now_s = job.sync, job.options.clock.now_s()
    for before in sync.after:
        is_new = before.sync in finished_s and now_s - finished_s[before.sync] < DEPENDENT_CALLS_S
        if is_new and not before.wait_s and not identities.isdisjoint((sync.name, before.sync)):
            how = f"to wait, write `{{sync: {before.sync}, wait: 5 minutes}}` in `after`"
            job.notice(f"{before.sync} has just sent requests, which Braze may take minutes to apply; {how}")
            return True
    return False


def _holds_up(result: RunResult) -> bool:
    """Whether syncs that run after it have to be skipped."""
    return bool(result.exit_code) or result.status == RUNNING
