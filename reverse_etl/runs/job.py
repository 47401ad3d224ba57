"""One sync of one command, as a value: what to run, how, with which clock and listener; and what is sent of it next."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime

from reverse_etl.delivery.session import Session
from reverse_etl.errors import Problem
from reverse_etl.plan.guards import FINISH_BY, of_saved_plan
from reverse_etl.plan.plan import Plan
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.spec import Sync
from reverse_etl.runs.finish_by import passed
from reverse_etl.runs.outcome import Listener, Options, RunResult
from reverse_etl.runs.writers import Known
from reverse_etl.state.state import State
from reverse_etl.system.clock import T, when_free


@dataclass(frozen=True)
class Job:
    """`start` plans it, in a session with the destination, when its turn comes; `started_at` is when that was.
    `known` is what all jobs of the command know of the attributes that the syncs of its target write. By `finish_by`,
    the run has to be done.

    `alone`: no other sync of the command is under way meanwhile. `await_others` returns as soon as none is: to be
    called before the states of others are read, which then are as if each sync had run after the one before.
    `applies`: what it plans is saved, and applied, or was.
    """

    project: LoadedProject
    sync: Sync
    options: Options
    listener: Listener
    start: Callable[["Job", Session], "Ready | RunResult"]
    started_at: datetime
    known: Known = field(default_factory=Known, compare=False)
    finish_by: datetime | None = None
    alone: bool = False
    applies: bool = False
    await_others: Callable[[], None] = field(default=lambda: None, compare=False)

    def said(self, problems: Iterable[Problem]) -> list[Problem]:
        """The errors of guards, with the way out for what it applies, if it does that."""
        return [of_saved_plan(one, self.sync) if self.applies else one for one in problems]

    def notice(self, text: str) -> None:
        self.listener.notice(self.sync, text)

    def now(self) -> datetime:
        return self.options.clock.utc()

    def plan(self, session: Session) -> "Ready | RunResult":
        """The sync, ready to be sent; its result, if there is nothing to send."""
        problems = self.said(passed(self.sync, self.finish_by, self.now()))
        if problems and FINISH_BY not in self.options.skip_guards:
            return self.not_run("blocked", 1, problems)
        return self.start(replace(self, started_at=self.now()), session)

    def when_free(self, attempt: Callable[[], T]) -> T:
        """The result of `attempt`, as soon as no other process has what it needs locked. See `clock.when_free`."""
        return when_free(attempt, self.options.wait_s, self.options.clock, self.notice)

    def not_run(self, status: str, exit_code: int, problems: Sequence[Problem] = ()) -> RunResult:
        """The result of a sync that was not run."""
        sync, project = self.sync, self.project
        return RunResult(
            sync.name, sync.mode.label, project.target_name, status, exit_code, problems, project.scheduled_time
        )


@dataclass(frozen=True)
class Ready:
    """A sync that is planned: `run.carry_out` sends it. Its state is open, and locked, until `end` is closed."""

    job: Job
    state: State
    plan: Plan
    end: ExitStack
    planned_at: datetime

    def drop(self) -> None:
        """Send nothing after all."""
        with self.end:
            self.state.run.drop()
