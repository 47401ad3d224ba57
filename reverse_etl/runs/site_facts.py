"""What the page of a project shows, as values. Pure: `site.py` collects them, `report/site/` makes a page of them.

No value of a row and no key is among them: names of columns, counts, times, and texts of the project.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class SiteColumn:
    """A column that a sync sends: an attribute, a property, a field.

    `filled` of the sync's acknowledged rows have a value; None if that is not known. `changes` are those of cells of
    rows that were there, in the last days, `data_points` what they cost, `changed_at` when the last one was. `flaps` is
    why it changes, in words, where that can be told. `gone` is what there is to say of a column that is no longer sent,
    and empty of others; its type may be unknown. `accepted` are the values that a data test of the sync accepts,
    `values` those that it has, with in how many rows, if the sync says that they may be shown; "" is all others.
    `unshown` is why there are none although the sync says so.
    """

    name: str
    type: str
    description: str = ""
    owner: str = ""
    filled: int | None = None
    changes: int = 0
    data_points: int = 0
    changed_at: datetime | None = None
    flaps: str = ""
    accepted: Sequence[str] = ()
    values: Sequence[tuple[str, int]] = ()
    gone: str = ""
    unshown: str = ""


@dataclass(frozen=True)
class SiteField:
    """A column that is sent beside those that are attributes, properties or fields of a catalog: an identifier, or a
    field that Braze defines. `type` says which."""

    name: str
    type: str
    description: str = ""
    owner: str = ""


@dataclass(frozen=True)
class SiteRun:
    """A run that has ended. `planned` records were to be sent; `did` is what it did to whole rows, with how many;
    `changed` are the cells of other rows that it changed, by column."""

    run_id: str
    started_at: datetime
    seconds: float
    status: str
    rows: int
    planned: int
    invalid: int
    accepted: int
    rejected: int
    in_doubt: int
    unsent: int
    requests: int
    attributes: int
    message: str = ""
    commit: str = ""
    is_dirty: bool = False
    started_by: str = ""
    did: Sequence[tuple[str, int]] = ()
    changed: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class SiteTry:
    """A try of a sync that left no run in its state, as it failed before it had a plan, or was skipped; `times` times,
    for the same reason, the first at `at`, the last at `until`."""

    status: str
    at: datetime
    until: datetime
    times: int
    why: str


@dataclass(frozen=True)
class SiteReject:
    """Why rows are not in Braze as the model has them, and how many."""

    status: str
    column: str
    reason: str
    hint: str
    rows: int


@dataclass(frozen=True)
class SiteSync:
    """A sync, and what its state knows. `sends` is what its columns are: attribute, property, field or column.

    `fields` are what it sends beside its columns. `ends` is what it does to users or items for good, in words, `lasts`
    what else cannot be taken back, and `ended` is what its acknowledged rows are then, if
    they are about nothing that is there any more. `written` are the attributes that Braze has accepted in
    the last days, also of new rows. These, and the numbers of rows, are None if they are not known. `due_since` is set
    if it is due and has not run, and it `is_overdue` if it has missed more than one of its times. `lost` is how many
    rows are `rejected`, by status. `message` is a cause, and what else there is to say, on lines of their own;
    `tried_at` is when it was tried last, if that is not among its runs, and `tries` are all such tries that are known,
    the latest first. `runs` are the last ones, the latest first, then earlier ones that did not succeed.
    `notes` is what is not known, and why.
    """

    name: str
    description: str
    owner: str
    mode: str
    about: str
    sends: str
    model: str
    file: str
    line: int
    tags: Sequence[str]
    after: Sequence[str]
    ends: str
    ended: str
    schedule: str
    next_due: datetime | None
    due_since: datetime | None
    status: str
    message: str
    tried_at: datetime | None
    rows: int | None
    rejected: int | None
    in_doubt: int | None
    to_send: int | None
    written: int | None
    columns: Sequence[SiteColumn]
    runs: Sequence[SiteRun]
    rejects: Sequence[SiteReject]
    notes: Sequence[str]
    tries: Sequence[SiteTry] = ()
    is_overdue: bool = False
    lasts: str = ""
    fields: Sequence[SiteField] = ()
    lost: Sequence[tuple[str, int]] = ()


@dataclass(frozen=True)
class SiteEvent:
    """An event of braze.lock.yml or of a model that writes its name down: the types of its properties, and the syncs
    that may send it. `sent_at` is when these sent it last, where their states know that of each event; `only` are those
    whose models write down no other."""

    name: str
    properties: Mapping[str, str]
    syncs: Sequence[str]
    sent_at: Mapping[str, datetime] = field(default_factory=dict)
    only: Collection[str] = ()


@dataclass(frozen=True)
class SiteNode:
    """A model, seed, source, table or dbt resource. `sql` is the text of a model's file, or empty."""

    id: str
    parents: Sequence[str]
    file: str = ""
    description: str = ""
    sql: str = ""


@dataclass(frozen=True)
class Site:
    """All that the page shows. `orphans` are states that no sync claims, in words; `days` is how far back it counts.
    `most_runs` of each sync are listed whatever came of them."""

    project: str
    target: str
    version: str
    generated_at: datetime
    days: int
    syncs: Sequence[SiteSync]
    events: Sequence[SiteEvent]
    nodes: Sequence[SiteNode]
    orphans: Sequence[str]
    most_runs: int = 30
