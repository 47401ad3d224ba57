"""What the Python API returns: values that do not change when the inside of retl does.

SyncResult     the result of one sync                 SyncResults    of several, in the order in which they ran
PlanResult     what a sync would send                 SyncError      raised by raise_for_status()
RevertResult   what a revert would send               VerifyResult   what Braze has otherwise than it was sent

They can be pickled, as orchestrators do with what tasks return and raise.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from reverse_etl.errors import Problem, RetlError
from reverse_etl.masking import all_masked
from reverse_etl.plan.outbox import InvalidRow
from reverse_etl.plan.plan import Plan
from reverse_etl.report import as_json, text
from reverse_etl.runs.outcome import RunResult, exit_code
from reverse_etl.runs.preview import Preview
from reverse_etl.runs.reverting import Reverted
from reverse_etl.runs.verify import Verified
from reverse_etl.state.outcomes import DeliveryCounts


class SyncError(RetlError):
    """Not every row of a sync is in Braze. `results` has the details; `exit_code` is that of `retl sync`."""

    def __init__(self, results: "SyncResults") -> None:
        self.results = results
        failed = [result for result in results if not result.is_success]
        said = [problem for result in failed for problem in (Problem(result.summary, code="X006"), *result.errors)]
        super().__init__(said)
        self.exit_code = results.exit_code  # type: ignore[misc]  # of these results, not of the class

    def __reduce__(self) -> tuple[type["SyncError"], tuple["SyncResults"]]:
        return type(self), (self.results,)


@dataclass(frozen=True)
class SyncResult:
    """The result of one sync.

    status: success | incomplete (not every row of the model is in Braze) | blocked (before anything was sent)
            | failed | interrupted | skipped (a sync that it runs after did not succeed)
    exit_code: what `retl sync` would exit with: 0 | 1 | 2 (the project is invalid, nothing was tried)

    `accepted`, `rejected`, `in_doubt` and `unsent` count the rows that were to be sent, `invalid` those that break a
    rule, `left_out` those without some columns, `withheld` those of which an opt-in is not sent, or that wait.
    `errors` say what went wrong, where, and how to fix it; `invalid_rows`, `left_out_rows` and `withheld_rows` are
    the first ones, by key.
    `run_id` and `plan` are None if the run ended before it had a plan.
    """

    sync: str
    mode: str
    target: str
    status: str
    exit_code: int
    run_id: str | None
    started_at: datetime | None
    duration_s: float
    accepted: int
    rejected: int
    in_doubt: int
    unsent: int
    invalid: int
    left_out: int
    withheld: int
    requests: int
    attributes: int
    errors: tuple[Problem, ...]
    invalid_rows: tuple[InvalidRow, ...]
    left_out_rows: tuple[InvalidRow, ...]
    withheld_rows: tuple[InvalidRow, ...]
    plan: Plan | None
    summary: str
    _json: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def is_success(self) -> bool:
        return self.exit_code == 0

    def raise_for_status(self) -> Self:
        """This result, if the sync succeeded; raises SyncError otherwise."""
        SyncResults([self]).raise_for_status()
        return self

    def as_dict(self) -> dict[str, Any]:
        """What `retl sync --output json` prints: JSON types only, without column values."""
        return dict(self._json)

    def __str__(self) -> str:
        return self.summary


class SyncResults(tuple[SyncResult, ...]):
    """The results of several syncs, in the order in which they ran."""

    __slots__ = ()

    @property
    def exit_code(self) -> int:
        """0: everything is in Braze. 2: the project is invalid, nothing was tried. 1: anything else."""
        return exit_code(self)

    @property
    def is_success(self) -> bool:
        return self.exit_code == 0

    def raise_for_status(self) -> Self:
        """These results, if all syncs succeeded; raises SyncError otherwise."""
        if not self.is_success:
            raise SyncError(self)
        return self


@dataclass(frozen=True)
class PlanResult:
    """What a sync would send.

    `plan` has the counts; `columns` how often each column would be sent; `blocked_by` what would block a run; `seconds`
    how long its requests take under the rate limit. `text` shows a sample of changes with masked values.
    """

    sync: str
    mode: str
    target: str
    plan: Plan
    columns: Mapping[str, int]
    blocked_by: tuple[Problem, ...]
    invalid_rows: tuple[InvalidRow, ...]
    left_out_rows: tuple[InvalidRow, ...]
    withheld_rows: tuple[InvalidRow, ...]
    seconds: float
    text: str
    markdown: str
    _json: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def has_changes(self) -> bool:
        """Whether there is something to send."""
        return self.plan.to_send > 0

    def as_dict(self) -> dict[str, Any]:
        """What `retl plan --output json` prints."""
        return dict(self._json)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class RevertResult(PlanResult):
    """What the revert of `run` would send: how many `cells` go back to what they were before, and which do not, in
    words. `digest` is that of the saved plan, if it was to be saved: `Project.apply` sends that."""

    run: str
    cells: int
    not_reverted: tuple[str, ...]
    digest: str | None


@dataclass(frozen=True)
class VerifyResult:
    """What came of comparing `sampled` of `rows` acknowledged rows with Braze, which has `as_sent` of them as they were
    sent, `differing` of them otherwise, and among these `missing` without a user.

    With 95 %, between the shares `share[0]` and `share[1]` of all rows differ. `differences` say of which column, in
    what, and in how many rows. `repaired` rows are sent again by the next run. `not_compared` columns Braze does not
    tell, and `not_rendered` rows break a rule by now.
    """

    sync: str
    target: str
    seed: int
    rows: int
    sampled: int
    as_sent: int
    differing: int
    missing: int
    repaired: int
    not_rendered: int
    share: tuple[float, float]
    differences: tuple[tuple[str | None, str, int], ...]
    not_compared: tuple[str, ...]
    _json: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def is_success(self) -> bool:
        """Whether Braze has all rows of the sample as they were sent."""
        return self.differing == 0

    def as_dict(self) -> dict[str, Any]:
        """What `retl verify --output json` prints."""
        return dict(self._json)


def sync_result(result: RunResult) -> SyncResult:
    delivery = result.delivery or DeliveryCounts()
    return SyncResult(
        sync=result.sync,
        mode=result.mode,
        target=result.target,
        status=result.status,
        exit_code=result.exit_code,
        run_id=result.plan.run_id if result.plan else None,
        started_at=result.started_at,
        duration_s=result.duration_s,
        accepted=delivery.accepted,
        rejected=delivery.rejected,
        in_doubt=delivery.in_doubt,
        unsent=delivery.unsent,
        invalid=result.plan.invalid if result.plan else 0,
        left_out=result.plan.left_out if result.plan else 0,
        withheld=result.plan.withheld if result.plan else 0,
        requests=delivery.requests,
        attributes=delivery.attributes,
        errors=tuple(result.errors),
        invalid_rows=tuple(result.invalid),
        left_out_rows=tuple(result.left_out),
        withheld_rows=tuple(result.withheld),
        plan=result.plan,
        summary=text.result_line(result),
        _json=all_masked(as_json.result_json(result)),
    )


def plan_result(preview: Preview) -> PlanResult:
    return PlanResult(**_of_preview(preview, as_json.preview_json(preview)))


def revert_result(run: str, preview: Preview, reverted: Reverted, pins: bool, digest: str | None) -> RevertResult:
    said = _of_preview(preview, as_json.revert_json(run, preview, reverted))
    said["text"] = "\n".join(text.revert_lines(run, preview, reverted, pins, show_values=False))
    return RevertResult(**said, run=run, cells=reverted.cells, not_reverted=tuple(reverted.left), digest=digest)


def verify_result(found: Verified) -> VerifyResult:
    return VerifyResult(
        found.sync,
        found.target,
        found.seed,
        found.rows,
        found.sampled,
        found.as_sent,
        found.differing,
        found.missing,
        found.repaired,
        found.not_rendered,
        found.share,
        tuple((one.column, one.what, one.rows) for one in found.differences),
        tuple(found.not_compared),
        all_masked(as_json.verify_json(found)),
    )


def _of_preview(preview: Preview, in_json: dict[str, Any]) -> dict[str, Any]:
    return {
        "sync": preview.sync.name,
        "mode": preview.sync.mode.label,
        "target": preview.target,
        "plan": preview.plan,
        "columns": dict(preview.columns),
        "blocked_by": tuple(preview.blocked_by),
        "invalid_rows": tuple(preview.invalid),
        "left_out_rows": tuple(preview.left_out),
        "withheld_rows": tuple(preview.withheld),
        "seconds": preview.seconds,
        "text": "\n".join(text.preview_lines(preview, show_values=False)),
        "markdown": "\n".join(text.preview_markdown([preview])),
        "_json": all_masked(in_json),
    }
