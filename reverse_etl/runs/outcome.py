"""The options of a run, its result, and its listener: values only."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, Protocol

from reverse_etl.delivery.retry import RetryPolicy
from reverse_etl.delivery.sender import Sender
from reverse_etl.delivery.silent_drops import SilentDrop
from reverse_etl.errors import Problem
from reverse_etl.plan.actions import Intent
from reverse_etl.plan.alike import AlikeRows
from reverse_etl.plan.guards import Skipped
from reverse_etl.plan.outbox import InvalidReason, InvalidRow
from reverse_etl.plan.plan import Plan
from reverse_etl.project.spec import Sync
from reverse_etl.runs.finish_by import FinishBy
from reverse_etl.state.outcomes import DeliveryCounts
from reverse_etl.system.clock import Clock

RUNNING, ALREADY_RUN = "running", "already_run"


@dataclass(frozen=True)
class Options:
    """How to run, in addition to syncs.yml. `show_values`: personal data in keys is not masked. `read_first`: Braze is
    asked who has opted out before anything is sent. `canary`: so many rows are sent first, and read back; with
    `canary_values`, what is said of them has their values.

    `create_catalog`: a catalog, or fields of one, that a sync needs and Braze lacks are created.

    `skip_guards`: the guards to skip, each with the number that was typed, which is an upper bound, or None.
    `finish_by`: no request starts from then on, and none at all if that would cut the run short.
    """

    full_refresh: bool = False
    read_first: bool = False
    canary: int = 0
    canary_values: bool = False
    create_catalog: bool = False
    accept_schema_change: bool = False
    skip_guards: Skipped = field(default_factory=dict)
    intent: Intent = Intent.SEND
    wait_s: float = 0.0
    fail_fast: bool = False
    threads: int = 160
    finish_by: FinishBy | None = None
    show_values: bool = False
    memory_limit: str | None = None
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    clock: Clock = field(default_factory=Clock)


@dataclass(frozen=True)
class Untaken:
    """What Braze has otherwise than it was sent, in how many of the rows that were read back; without values.

    `column` is None if it is about the user.
    """

    column: str | None
    what: str
    rows: int


@dataclass(frozen=True)
class CanaryResult:
    """What became of the rows that were sent first: `compared` of them were accepted, and read back from Braze, which
    has `as_sent` of them as they were sent.

    They have `covered` of the `kinds` of values that the run sends: a column and null, a string, a number ..., in a row
    that is new, changed or removed. `not_compared` are columns that cannot be read back.
    """

    rows: int
    compared: int
    as_sent: int
    covered: int
    kinds: int
    differences: Sequence[Untaken] = ()
    not_compared: Sequence[str] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class RunResult:
    """The result of one sync.

    status: success | incomplete (not every row of the model is in Braze) | blocked (before anything was sent)
            | failed | interrupted | skipped (a sync that it runs after did not succeed)
            | running (in another process) | already_run (by another process): for runs that were due
    scheduled_time: the scheduled time of the run; of a manual run, its start
    invalid: the first invalid rows, column by column; `reasons` why rows are invalid, and how many
    left_out: the first rows that were sent without some columns, or not at all if nothing else of them differs;
        `left_out_reasons` why, and of how many
    withheld: the first rows that this run did not send, or not whole
    alike: all of these rows, by reason
    silent_drops: what the sandbox accepted and did not store as sent
    canary: what became of the rows that were sent first, if there were some to be read back
    """

    sync: str
    mode: str
    target: str
    status: str
    exit_code: int
    errors: Sequence[Problem] = ()
    scheduled_time: datetime | None = None
    started_at: datetime | None = None
    duration_s: float = 0.0
    plan: Plan | None = None
    delivery: DeliveryCounts | None = None
    invalid: Sequence[InvalidRow] = ()
    reasons: Sequence[InvalidReason] = ()
    left_out: Sequence[InvalidRow] = ()
    left_out_reasons: Sequence[InvalidReason] = ()
    withheld: Sequence[InvalidRow] = ()
    alike: AlikeRows = field(default_factory=AlikeRows)
    silent_drops: Sequence[SilentDrop] = ()
    canary: CanaryResult | None = None
    planned_at: datetime | None = None

    @property
    def timing(self) -> list[tuple[Literal["plan", "execute"], datetime, datetime]]:
        """When each phase of the run started and ended."""
        if self.started_at is None or self.planned_at is None:
            return []
        ended_at = self.started_at + timedelta(seconds=self.duration_s)
        return [("plan", self.started_at, self.planned_at), ("execute", self.planned_at, ended_at)]


class Listener(Protocol):
    """Receives the progress of runs: from several threads if there are several syncs, by one of them at a time."""

    def notice(self, sync: Sync, text: str) -> None: ...
    def planning(self, sync: Sync) -> AbstractContextManager[None]: ...
    def planned(self, sync: Sync, plan: Plan) -> None: ...
    def sending(self, sync: Sync, plan: Plan, sender: Sender) -> AbstractContextManager[None]: ...


class Ended(Protocol):
    """The status and exit code of a sync that ran or was skipped."""

    @property
    def status(self) -> str: ...
    @property
    def exit_code(self) -> int: ...


def exit_code(results: Sequence[Ended]) -> int:
    """0: everything is in Braze. 2: the project is invalid, nothing was tried. 1: anything else."""
    codes = {result.exit_code for result in results if result.status != "skipped"} or {0}
    return codes.pop() if len(codes) == 1 else 1
