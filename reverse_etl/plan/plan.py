"""What a run is going to do: counted from its outbox, so that a dry run and a run cannot disagree."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import ceil
from typing import Any

from duckdb import DuckDBPyConnection

from reverse_etl.braze.modes import MAX_BODY_BYTES, Kind, deleting_pattern, groups_per_request
from reverse_etl.delivery.batches import Place, cut, together
from reverse_etl.plan.data_tests import DataTestResult
from reverse_etl.plan.given_up import GIVEN_UP
from reverse_etl.plan.outbox import HAS_LEFT_OUT, opt_ins_withheld, read_records, uncertain
from reverse_etl.plan.quarantine import WITHHELD
from reverse_etl.plan.tables import ABSENCES, NEXT, NOTE, OPEN_RUN, OUTBOX
from reverse_etl.records.consent import ONLY_OPTS_OUT
from reverse_etl.sql.quoting import literal

_GROUPS = "retl_groups"
_DONE = ("deleted",)  # actions of rows that Braze has as they are: no change
_SAID = ("send", "baseline", *_DONE)  # actions whose rows are not among those that are left unsent


@dataclass(frozen=True)
class Plan:
    """Counts of a planned run; model rows, unless stated otherwise.

    `invalid` rows break a rule; `previously_rejected` ones were rejected by Braze, and have not changed since; of
    `left_out` ones are sent without columns whose values Braze would drop, or not at all if nothing else differs; of
    `withheld` ones, this run does not send all: the `quarantined` ones of these would delete a user, and have to wait,
    the others would opt users in who have opted out. `held` ones are in doubt; `given_up` ones were one of these, and
    are not waited for any more; `baselined` ones were declared as in Braze, and `marked_accepted` ones, once in doubt,
    to have arrived there; `suppressed` ones are about users who were erased; `uncertain` ones are sent, and do nothing
    if their user does not exist, whom no sync of the target has sent.
    `in_state`, `removed` and `absent` are rows of the state: `on_removed` acts on `removed` ones, and leaves in Braze
    those that are `absent` since this run. `dropped` are columns that Braze has values of, and that the model does not
    return any more. `to_send` records are sent in `requests`, by endpoint, with this
    many `bytes`; `to_send_by_kind` says how many of them add, change, remove, or only opt out, and `not_sent` what
    becomes of how many of the other changes, by its action. The records write `attributes`, and cost `data_points` on
    contracts billed by them; `deletes` of them end what they are about, by deleting or merging it, and `opt_outs` only
    opt a user out, whose row is not sent, or not first. `since` is the cursor from which an incremental run reads.
    `data_tests` are the results of the sync's data tests.
    """

    run_id: str
    rows: int
    in_state: int
    added: int = 0
    changed: int = 0
    removed: int = 0
    absent: int = 0
    unchanged: int = 0
    invalid: int = 0
    left_out: int = 0
    previously_rejected: int = 0
    withheld: int = 0
    quarantined: int = 0
    held: int = 0
    given_up: int = 0
    baselined: int = 0
    marked_accepted: int = 0
    suppressed: int = 0
    uncertain: int = 0
    opt_outs: int = 0
    to_send: int = 0
    to_send_by_kind: Mapping[str, int] = field(default_factory=dict)
    not_sent: Mapping[str, int] = field(default_factory=dict)
    deletes: int = 0
    attributes: int = 0
    data_points: int = 0
    requests: Mapping[str, int] = field(default_factory=dict)
    bytes: int = 0
    since: str | None = None
    dropped: Sequence[str] = ()
    data_tests: Sequence[DataTestResult] = ()

    @property
    def kept_back(self) -> int:
        """Rows that should be in Braze according to the model, but that this run does not send, or not whole."""
        return self.invalid + self.left_out + self.previously_rejected + self.withheld - self.quarantined + self.held

    def sends(self, kind: Kind) -> int:
        """How many records of a kind are sent. A plan that an older retl saved has only the changes."""
        return self.to_send_by_kind.get(kind, getattr(self, kind))

    def with_taken(self, rows: int) -> "Plan":
        """The same with rows of a baseline that are in no outbox, as nothing is to be said of them."""
        added, baselined = self.added + rows, self.baselined + rows
        return replace(self, added=added, baselined=baselined, unchanged=self.unchanged - rows)

    @property
    def opts_out_only(self) -> bool:
        """Whether nothing but opt-outs is sent, as invalid rows block everything else."""
        return 0 < self.opt_outs == self.to_send

    @property
    def counts(self) -> dict[str, Any]:
        """What the state keeps of the plan after the run: nothing that identifies a row."""
        return asdict(replace(self, data_tests=[replace(result, keys=()) for result in self.data_tests]))


def about_uncertain(rows: int) -> str:
    """What is said of rows that need a user whom nobody has sent."""
    which = "row is for a user" if rows == 1 else "rows are for users"
    rest = "Braze responds success and does nothing if they do not exist"
    return f"{rows:,} {which} that no sync of this target has sent: {rest}"


def plan_from_json(values: Mapping[str, Any]) -> Plan:
    """The plan that `asdict` made `values` of."""
    return Plan(**{**values, "data_tests": [DataTestResult(**result) for result in values.get("data_tests", ())]})


def read_plan(connection: DuckDBPyConnection, run_id: str, rows: int, in_state: int, sizes: Mapping[str, int]) -> Plan:
    """Count the outbox. `sizes` are the records per request, by endpoint."""
    if not connection.execute(f"SELECT 1 FROM {OUTBOX} LIMIT 1").fetchall():
        nothing = dict.fromkeys((*Kind, ONLY_OPTS_OUT), 0)
        return Plan(run_id, rows, in_state, absent=_absent(connection), unchanged=rows, to_send_by_kind=nothing)
    deletes_sql = f"regexp_full_match(call, {literal(deleting_pattern())})"
    groups = f"""SELECT kind, action, count(*) AS n, CAST(sum(attributes) AS BIGINT) AS attributes,
            CAST(sum(data_points) AS BIGINT) AS data_points, CAST(coalesce(sum(strlen(body)), 0) AS BIGINT) AS bytes,
            {deletes_sql} AS deletes, call, envelope, phase, max(strlen(body)) AS heaviest
        FROM {OUTBOX} GROUP BY kind, action, call, envelope, phase"""
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {_GROUPS} AS {groups}")  # bodies are read once
    counted = connection.execute(
        f"""SELECT kind, action, CAST(sum(n) AS BIGINT), CAST(sum(attributes) AS BIGINT),
            CAST(sum(data_points) AS BIGINT), CAST(sum(bytes) AS BIGINT), deletes
        FROM {_GROUPS} GROUP BY kind, action, deletes"""
    ).fetchall()
    (left_out,) = connection.execute(f"SELECT count(*) FROM {OUTBOX} WHERE {HAS_LEFT_OUT}").fetchall()[0]
    deletes = {
        action: sum(n for _, a, n, *_, of_users in counted if a == action and of_users) for _, action, *_ in counted
    }
    of_rows = [one for one in counted if one[0] != ONLY_OPTS_OUT]
    changes = [(kind, n) for kind, action, n, *_ in counted if action not in _DONE]
    kinds = {kind: sum(n for k, n in changes if k == kind) for kind in ("added", "changed", "removed")}
    actions = {action: sum(n for _, a, n, *_ in of_rows if a == action) for _, action, *_ in of_rows}
    to_send = [one for one in counted if one[1] == "send"]
    by_kind = {kind: sum(n for k, _, n, *_ in to_send if k == kind) for kind in (*Kind, ONLY_OPTS_OUT)}
    others = sorted({action for kind, action, *_ in counted if kind in tuple(Kind) and action not in _SAID})
    not_sent = {one: sum(n for k, action, n, *_ in counted if k in tuple(Kind) and action == one) for one in others}
    return Plan(
        run_id,
        rows,
        in_state,
        **kinds,
        absent=_absent(connection),
        unchanged=rows - kinds["added"] - kinds["changed"],
        invalid=actions.get("invalid", 0),
        left_out=left_out,
        previously_rejected=actions.get("previously_rejected", 0),
        withheld=opt_ins_withheld(connection) + deletes.get(WITHHELD, 0),
        quarantined=deletes.get(WITHHELD, 0),
        held=actions.get("in_doubt", 0),
        given_up=actions.get(GIVEN_UP, 0),
        baselined=actions.get("baseline", 0),
        marked_accepted=actions.get("mark_accepted", 0),
        suppressed=actions.get("suppressed", 0),
        uncertain=uncertain(connection),
        opt_outs=sum(n for kind, _, n, *_ in to_send if kind == ONLY_OPTS_OUT),
        to_send=sum(n for _, _, n, *_ in to_send),
        to_send_by_kind=by_kind,
        not_sent=not_sent,
        deletes=deletes.get("send", 0),
        attributes=sum(written for _, _, _, written, *_ in to_send),
        data_points=sum(cost for _, _, _, _, cost, *_ in to_send),
        bytes=sum(weight for *_, weight, _ in to_send),
        requests=_requests(connection, sizes),
    )


def _absent(connection: DuckDBPyConnection) -> int:
    """How many rows of the state have left the model in the open run."""
    known = connection.execute(f"SELECT absences FROM {OPEN_RUN}").fetchall()
    if not known or not known[0][0]:
        return 0
    return int(connection.execute(f"SELECT count(*) FROM {ABSENCES} WHERE {NEXT} = '{NOTE}'").fetchall()[0][0])


def _requests(connection: DuckDBPyConnection, sizes: Mapping[str, int]) -> dict[str, int]:
    """Requests by endpoint: batches are cut by number, and by weight only where bodies are that heavy."""
    groups = connection.execute(
        f"""SELECT call, envelope, CAST(sum(n) AS BIGINT), max(heaviest) FROM {_GROUPS}
        WHERE action = 'send' GROUP BY call, envelope, phase ORDER BY ALL"""
    ).fetchall()
    requests = dict.fromkeys((call for call, *_ in groups), 0)
    if any(sizes[call] > 1 and call in groups_per_request() for call in requests):
        return {**requests, **_requests_of_groups(connection, sizes)}
    if any(heaviest * sizes[call] > MAX_BODY_BYTES for call, _, _, heaviest in groups):
        for batch in cut(read_records(connection), sizes):
            requests[batch.place.call] += 1
        return requests
    for call, _, records, _ in groups:
        requests[call] += ceil(records / sizes[call])
    return requests


def _requests_of_groups(connection: DuckDBPyConnection, sizes: Mapping[str, int]) -> dict[str, int]:
    """Requests by endpoint, where neighbors of several groups share one: by the runs of neighbors of one group, each in
    parts of as many records as its array may have."""
    place, size = "call, envelope, phase", min(sizes.values())
    number = "row_number() OVER (PARTITION BY {} ORDER BY row)"
    sent = f"SELECT {place}, rowid AS row, strlen(body) + 1 AS weight FROM {OUTBOX} WHERE action = 'send'"
    runs = f"SELECT *, {number.format('phase')} - {number.format(place)} AS run FROM ({sent})"
    parts = f"SELECT *, ({number.format(f'{place}, run')} - 1) // {size} AS part FROM ({runs})"
    found = connection.execute(
        f"""SELECT {place}, CAST(sum(weight) AS BIGINT) FROM ({parts}) GROUP BY {place}, run, part
        ORDER BY phase, min(row)"""
    ).fetchall()
    weighed = [(Place(call, envelope, phase), weight) for call, envelope, phase, weight in found]
    requests = together(weighed, sizes, lambda part: part[0], lambda part: part[1])
    return Counter(parts[0][0].call for parts in requests)
