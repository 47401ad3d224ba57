"""Plans and results as text for people. Pure; `cli` prints it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from reverse_etl.braze.modes import USER, Kind
from reverse_etl.delivery.silent_drops import SilentDrop
from reverse_etl.masking import MASK
from reverse_etl.plan.alike import SHOWN_KEYS, Alike, named, which
from reverse_etl.plan.data_tests import warnings
from reverse_etl.plan.outbox import SHOWN_NAMES, SampleChange
from reverse_etl.plan.plan import Plan, about_uncertain
from reverse_etl.report.tables import table_lines
from reverse_etl.runs.outcome import RunResult
from reverse_etl.words import count, duration, one_line, rate

if TYPE_CHECKING:
    from reverse_etl.runs.preview import Preview
    from reverse_etl.runs.reverting import Reverted

SHOWN_REASONS = 20


def change_line(plan: Plan) -> str:
    """What is sent of the differences between the model and what Braze has acknowledged, and how many are not."""
    changes = ", ".join([*(f"{plan.sends(kind):,} {kind}" for kind in Kind), *_left_back(plan)])
    changes += f", {plan.unchanged:,} unchanged"
    since = f" since {plan.since}" if plan.since is not None else ""
    left = f"; {plan.absent:,} left it, which Braze keeps" if plan.absent else ""
    return f"{count(plan.rows, 'row')} in the model{since}: {changes}{left}"


def result_line(result: RunResult) -> str:
    """The result of a sync in one line."""
    return f"{result.sync}: {result.status}{_outcome(result)}"


def _outcome(result: RunResult) -> str:
    plan, delivery = result.plan, result.delivery
    if plan is None or delivery is None:
        return ""
    took = f" ({duration(result.duration_s) if result.duration_s >= 0 else 'duration unknown'})"
    short = [
        (plan.invalid, "invalid"),
        (plan.left_out, "not whole: columns left out"),
        (delivery.rejected, "rejected by Braze"),
        (plan.previously_rejected, "rejected earlier, not resent"),
        (plan.withheld - plan.quarantined, "withheld"),
        (plan.quarantined, "in quarantine"),
        (plan.held, "held, in doubt since an earlier run"),
        (plan.given_up, "given up"),
        (plan.marked_accepted, "recorded as accepted, as `retl resolve` has marked them"),
        (plan.suppressed, "suppressed: the user was erased"),
        (plan.uncertain if delivery.requests else 0, "for users that no sync of this target has sent"),
        (delivery.in_doubt, "in doubt"),
        (delivery.possible_duplicates, "possibly duplicated in Braze (on_in_doubt: resend)"),
        (delivery.unsent if result.status != "blocked" else 0, "still to be sent"),
    ]
    problems = "; ".join(f"{number:,} {what}" for number, what in short if number)
    problems = f"; {problems}" if problems else ""
    if result.status == "blocked" and not delivery.requests:
        return f", 0 requests{problems}{took}"
    if not plan.to_send:
        return f", nothing to send, 0 requests{problems}{took}"
    attributes = f", {count(delivery.attributes, 'attribute')} written" if delivery.attributes else ""
    sent = f"{delivery.accepted:,} of {count(plan.to_send, 'row')} accepted in {count(delivery.requests, 'request')}"
    return f", {sent}{attributes}{problems}{took}"


def next_lines(result: RunResult) -> Iterator[str]:
    """What to do about rows that are not, or may not be, in Braze."""
    plan, delivery, name = result.plan, result.delivery, result.sync
    if plan is None or delivery is None:
        return
    if doubts := delivery.in_doubt + plan.held:
        look = f"`retl rejects {name}` says which; look for them in Braze, then `retl resolve {name}`"
        yield f"{name}: {count(doubts, 'row')} in doubt: {look}"
    if delivery.rejected:
        yield f"{name}: {count(delivery.rejected, 'row')} rejected: `retl rejects {name}` says why, and what to do"


_OF_RESULTS = ("sync", "status", "accepted", "of", "requests", "invalid", "rejected", "in doubt", "took")


def results_table(results: Sequence[RunResult]) -> list[Sequence[object]]:
    """The results of several syncs, one line each; columns of problems that none has are left out."""
    rows = [_result_cells(result) for result in results]
    shown = [n for n, name in enumerate(_OF_RESULTS) if name not in _PROBLEMS or any(row[n] != "0" for row in rows)]
    return [[row[n] for n in shown] for row in [_OF_RESULTS, *rows]]


_PROBLEMS = ("invalid", "rejected", "in doubt")


def _result_cells(result: RunResult) -> Sequence[str]:
    plan, delivery = result.plan, result.delivery
    sent = (delivery.accepted, plan.to_send, delivery.requests) if plan and delivery else (0, 0, 0)
    problems = (plan.invalid, delivery.rejected, delivery.in_doubt) if plan and delivery else (0, 0, 0)
    return result.sync, result.status, *(f"{number:,}" for number in (*sent, *problems)), duration(result.duration_s)


def summary_line(results: Sequence[RunResult], elapsed_s: float) -> str:
    """The results of several syncs, which ran side by side for so long, in one line."""
    statuses = Counter(result.status for result in results)
    delivery = [result.delivery for result in results if result.delivery]
    rows, requests = sum(f.accepted for f in delivery), sum(f.requests for f in delivery)
    counted = ", ".join(f"{number} {status}" for status, number in statuses.items())
    done = f"{count(rows, 'row')} accepted in {count(requests, 'request')}"
    return f"{count(len(results), 'sync')}: {counted}; {done} ({duration(elapsed_s)})"


def invalid_lines(rows: Sequence[Alike], width: int | None = None) -> Iterator[str]:
    """Why rows are invalid as a table, one line for each column and rule: how many rows, what to do, and the first of
    their keys. `width` is that of the terminal, here and below."""
    yield from _alike_lines("keys", rows, width)


def left_out_lines(rows: Sequence[Alike], width: int | None = None) -> Iterator[str]:
    """Why rows are sent without some columns as a table, as in `invalid_lines`."""
    yield from _alike_lines("left out of", rows, width)


def withheld_lines(rows: Sequence[Alike], width: int | None = None) -> Iterator[str]:
    """Why a run does not send rows yet as a table, as in `invalid_lines`."""
    yield from _alike_lines("withheld", rows, width)


def _alike_lines(keys: str, rows: Sequence[Alike], width: int | None) -> Iterator[str]:
    if not rows:
        return
    cells = ((f"{one.rows:,}", one.column, one.reason, one.hint, one.which) for one in rows[:SHOWN_REASONS])
    yield from table_lines([("rows", "column", "reason", "hint", keys), *cells], width)
    if len(rows) > SHOWN_REASONS:
        yield f"  ... and {count(len(rows) - SHOWN_REASONS, 'more reason', 'more reasons')}"


_OF_REJECTS = ("sync", "rows", "kind", "status", "resolution", "column", "code", "reason", "hint", "run")
_SAME = ("sync", "status", "resolution", "column", "code", "reason", "hint", "record")


def rejects_table(rows: Sequence[Mapping[str, Any]], of_several: bool) -> list[list[object]]:
    """Rows that are not in Braze as a table, one line for those of which the same is to be said: how many, and the
    first of their keys; the most frequent reason of a sync first. A row whose record is shown has a line of its own.
    Columns that no row has are left out; so is `sync`, unless they are `of_several`."""
    alike: dict[tuple[object, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        alike.setdefault(tuple(row.get(name) for name in _SAME), []).append(row)
    syncs = {row["sync"]: number for number, row in enumerate(reversed(rows))}
    found = sorted(alike.values(), key=lambda of_one: (-syncs[of_one[0]["sync"]], -len(of_one)))
    left_out = set[str]() if of_several else {"sync"}
    left_out |= {name for name in ("resolution", "record") if not any(row.get(name) for row in rows)}
    shown = [name for name in (*_OF_REJECTS, "keys", "record") if name not in left_out]
    return [[*shown], *([cells[name] for name in shown] for cells in map(_alike_cells, found))]


def _alike_cells(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, object]:
    keys = list(dict.fromkeys(named(row["key"], row["identifier"]) for row in rows))
    runs = {row["run"]: None for row in rows}
    return {
        **rows[0],
        "rows": f"{len(rows):,}",
        "kind": ", ".join(sorted({row["kind"] for row in rows})),
        "status": rows[0]["status"].replace("_", " "),
        "run": rows[0]["run"] if len(runs) == 1 else count(len(runs), "run"),
        "keys": which(keys[:SHOWN_KEYS], max(0, len(keys) - SHOWN_KEYS)),
    }


def silent_drop_lines(drops: Sequence[SilentDrop], width: int | None = None) -> Iterator[str]:
    """What the sandbox accepted and did not store as sent, one line per column and reason."""
    if drops:
        rows = [(f"{drop.count:,}", drop.column or "(whole row)", drop.reason) for drop in drops]
        yield from table_lines([("accepted, not stored as sent", "column", "reason"), *rows], width)


def preview_lines(preview: "Preview", show_values: bool, width: int | None = None) -> Iterator[str]:
    """A plan for people: counts, columns, a sample of old -> new, invalid rows, requests."""
    sync, plan = preview.sync, preview.plan
    yield f"{sync.name} ({sync.mode.label}, target {preview.target})"
    changes = "   ".join([*(f"{_SIGNS[kind]} {plan.sends(kind):,} {kind}" for kind in Kind), *_left_back(plan)])
    since = f" since {plan.since}" if plan.since is not None else ""
    yield f"  {changes}   {plan.unchanged:,} unchanged{since}"
    if preview.is_stopped:
        yield "  blocked: a run would send none of this"
    if plan.removed:
        yield f"  removed rows: on_removed: {sync.on_removed}"
    if plan.absent:
        yield f"  {_left_the_model(plan)}"
    if plan.deletes:
        yield f"  {_cannot_be_undone(preview)}"
    if preview.columns:
        yield "  columns: " + ", ".join(f"{name} {number:,}" for name, number in preview.columns.items())
    if preview.new_columns:
        yield f"  new columns: {', '.join(preview.new_columns)}"
    if preview.most_sent:
        yield _most_sent_line(preview)
    for change in preview.sample:
        yield from _sample_lines(change, show_values)
    if preview.sample and not show_values:
        yield "  (values masked; show them with --show-values)"
    yield from _data_test_lines(plan)
    for number, what in (
        (plan.invalid, "invalid"),
        (plan.left_out, f"not whole: columns left out{_of_them(plan.not_sent.get('left_out', 0))}"),
        (plan.withheld - plan.quarantined, f"withheld{_of_them(_withheld_whole(plan))}"),
        *_not_sent(plan),
    ):
        if number:
            yield f"  {count(number, 'row')} {what}"
    yield from invalid_lines(preview.alike.invalid, width)
    yield from left_out_lines(preview.alike.left_out, width)
    yield from withheld_lines(preview.alike.withheld, width)
    if plan.uncertain:
        yield f"  {about_uncertain(plan.uncertain)}"
    requests = ", ".join(f"{count(number, 'request')} to {path}" for path, number in plan.requests.items())
    took = f", {duration(preview.seconds)} at the rate limit{_left(preview)}" if preview.seconds >= 1 else ""
    size = f", {count(plan.bytes, 'byte')}" if plan.bytes else ""
    alone = f", {plan.opt_outs:,} of which only opt out" if plan.opt_outs else ""
    yield f"  {count(plan.to_send, 'record')}{alone}{size}: {requests or 'nothing to send, 0 requests'}{took}"
    if preview.finish_by and preview.forecast.loads:
        yield f"  {preview.forecast.in_words(preview.finish_by)} (--finish-by)"
    if plan.data_points:
        cost = f"{count(plan.data_points, 'data point')} on contracts billed by data points"
        yield f"  writes {written(preview)}: {cost}{_why_other_cost(preview)}"
    if preview.not_whole:
        yield f"  {_incomplete(preview)}"


def _not_sent(plan: Plan) -> Iterator[tuple[int, str]]:
    """Rows that a run does not send, other than for what they have."""
    yield plan.previously_rejected, "rejected by Braze earlier and unchanged: not resent"
    yield plan.quarantined, "in quarantine: not deleted yet"
    yield plan.held, "in doubt since an earlier run: held"
    yield plan.given_up, "given up: not sent until they change"
    yield plan.suppressed, "suppressed: the user was erased, see docs/erasure.md"
    yield plan.marked_accepted, "marked as accepted by `retl resolve`: recorded, not sent"
    yield plan.not_sent.get("blocked", 0), "valid, and blocked by others: nothing but opt-outs is sent"
    yield plan.not_sent.get("later", 0), "that opt in: not sent while nothing but opt-outs is"
    yield plan.not_sent.get("forget", 0), "removed, with nothing to send: the state forgets them"


def _left_back(plan: Plan) -> Iterator[str]:
    if number := sum(plan.not_sent.values()):
        yield f"{number:,} not sent"


def _of_them(not_sent: int) -> str:
    return f"; {not_sent:,} of them not sent at all" if not_sent else ""


def _withheld_whole(plan: Plan) -> int:
    return plan.not_sent.get("withheld", 0) - plan.quarantined


def _incomplete(preview: "Preview") -> str:
    return f"a run would be incomplete, and exit with 1: {count(preview.not_whole, 'row')} not sent, or not whole"


def _left_the_model(plan: Plan) -> str:
    which, them = ("row has", "it") if plan.absent == 1 else ("rows have", "them")
    return f"{plan.absent:,} {which} left the model (on_removed: ignore): Braze keeps {them}"


def _cannot_be_undone(preview: "Preview") -> str:
    """What of a plan ends what it is about."""
    ends, number, about = preview.sync.ends, preview.plan.deletes, preview.sync.mode.about
    what = f"{ends.does if ends else 'delete'}s {count(number, ends.of if ends else 'user')}: this cannot be undone"
    where = "the target's states" if about == USER else "the state"
    return f"{what} ({count(preview.known, about)} in {where})" if preview.known else what


def _most_sent_line(preview: "Preview") -> str:
    what = "products" if preview.sync.mode.record_type == "purchases" else "events"
    shown = [f"{one_line(name)} {number:,}" for name, number in islice(preview.most_sent.items(), SHOWN_NAMES)]
    return f"  {what}: {', '.join([*shown, *['...'] * (len(preview.most_sent) > SHOWN_NAMES)])}"


def revert_lines(
    run: str, preview: "Preview", reverted: "Reverted", pins: bool, show_values: bool, width: int | None = None
) -> Iterator[str]:
    """The plan of a revert for people: what it takes back, what it does not, and what is sent."""
    held = ", pinned until the model returns others" if pins else ""
    yield f"{preview.sync.name}: {count(reverted.cells, 'value')} of {run} to be reverted{held}"
    for why in reverted.left:
        yield f"  not reverted: {why}"
    yield from preview_lines(preview, show_values, width)


def _left(preview: "Preview") -> str:
    """What a run leaves to others while it sends; nothing if it is to leave nothing."""
    left = [rate(load.left_per_second) for load in preview.forecast.loads if load.left_per_second]
    return f", which leaves {' and '.join(left)} requests/s to others" if left else ""


def _data_test_lines(plan: Plan) -> Iterator[str]:
    """Data tests that do not pass; those that block the run are reported at the end."""
    statuses = Counter(result.status for result in plan.data_tests)
    if statuses.total() > statuses["pass"]:
        yield "  data tests: " + ", ".join(f"{statuses[s]} {s}" for s in ("pass", "warn", "fail") if statuses[s])
    for warning in warnings(plan.data_tests):
        yield f"  {warning}"


def written(preview: "Preview") -> str:
    """What the records of a plan write: `6 attributes`, `2 events`; nothing for endpoints that write neither."""
    plan, record_type = preview.plan, preview.sync.mode.record_type
    # A purchase with a quantity counts as that many purchases, and costs that many data points.
    numbers = {"attributes": plan.attributes, "events": plan.to_send, "purchases": plan.data_points}
    return count(numbers[record_type], record_type.removesuffix("s")) if record_type else ""


def _why_other_cost(preview: "Preview") -> str:
    """Why a plan does not cost a data point for each attribute. Source: Braze, Data points."""
    plan = preview.plan
    if preview.sync.mode.record_type == "purchases" and plan.data_points != plan.to_send:
        return " (each counts as many times as its quantity says)"
    if preview.sync.mode.record_type != "attributes" or plan.data_points == plan.attributes:
        return ""
    more, less = "an object costs 1 for each key, an array 1 for each value added or removed", "some fields are free"
    return f" ({more if plan.data_points > plan.attributes else less})"


def preview_markdown(previews: "Sequence[Preview]") -> Iterator[str]:
    """Plans as a comment on a pull request: counts, columns, reasons, what would block them. No values and no keys."""
    yield "| sync | mode | added | changed | removed | invalid | requests | at the rate limit | writes | data points |"
    yield f"|{'---|' * 10}"
    for preview in previews:
        plan, requests = preview.plan, sum(preview.plan.requests.values())
        rows = [f"{n:,}" for n in (*map(plan.sends, Kind), plan.invalid, requests)]
        cost = (duration(preview.seconds), written(preview), f"{plan.data_points:,}")
        yield f"| {' | '.join([preview.sync.name, preview.sync.mode.label, *rows, *cost])} |"
    for preview in previews:
        if preview.plan.deletes:
            yield f"\n**{preview.sync.name} {_cannot_be_undone(preview)}**"
        if preview.plan.absent:
            yield f"\n**{preview.sync.name}**: {_left_the_model(preview.plan)}"
        if preview.plan.dropped:
            names = ", ".join(f"`{name}`" for name in preview.plan.dropped)
            yield f"\n**{preview.sync.name}**: no longer sent: {names}; Braze keeps the values"
        if preview.new_columns:
            names = ", ".join(f"`{name}`" for name in preview.new_columns)
            yield f"\n**{preview.sync.name}**: new {'column' if len(preview.new_columns) == 1 else 'columns'}: {names}"
        if preview.columns:
            yield f"\n**{preview.sync.name}**: " + ", ".join(f"`{name}` {n:,}" for name, n in preview.columns.items())
        for why in preview.reasons:
            yield f"\n**{preview.sync.name}**: {count(why.rows, 'row')} invalid: `{why.column}` {why.reason}"
        for why in preview.left_out_reasons:
            yield f"\n**{preview.sync.name}**: left out of {count(why.rows, 'row')}: `{why.column}` {why.reason}"
        if withheld := preview.plan.withheld - preview.plan.quarantined:
            yield f"\n**{preview.sync.name}**: {count(withheld, 'row')} withheld"
        for why in preview.withheld_reasons:
            yield f"\n**{preview.sync.name}**: withheld of {count(why.rows, 'row')}: `{why.column}` {why.reason}"
        for number, what in _not_sent(preview.plan):
            if number:
                yield f"\n**{preview.sync.name}**: {count(number, 'row')} {what}"
        if preview.not_whole:
            yield f"\n**{preview.sync.name}**: {_incomplete(preview)}"
        for result in preview.plan.data_tests:
            if result.status == "warn":
                yield f"\n> warning: {preview.sync.name}: {result}"
        for problem in preview.blocked_by:
            yield f"\n> {problem.message}" + (f" ({problem.location})" if problem.location else "")


_SIGNS: Mapping[str, str] = {"added": "+", "changed": "~", "removed": "-"}


def _sample_lines(change: SampleChange, show_values: bool) -> Iterator[str]:
    yield f"  {_SIGNS[change.kind]} {change.key}" + (f" ({change.identifier})" if change.identifier else "")
    for name, (old, new) in change.columns.items():
        before, after = (_shown(value, show_values) for value in (old, new))
        if change.kind == "removed":
            yield f"      {name}: {before} -> NULL"
        else:
            yield f"      {name}: {after}" if change.kind == "added" else f"      {name}: {before} -> {after}"


def _shown(value: str | None, show_values: bool) -> str:
    if value is None:
        return "NULL"
    return value if show_values else MASK
