"""The keys of syncs.yml, their types and their defaults. `reader.py` reads the file.

What depends on a model's columns is checked in `records/layout.py`, which asks `Sync.where()` for the location.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from reverse_etl.braze.modes import (
    CATALOG_NAME,
    DELETES,
    MAX_CATALOG_NAME,
    MODES,
    Call,
    Deletion,
    Ends,
    Mode,
    mode_names,
    record_types,
)
from reverse_etl.errors import Location, Problem
from reverse_etl.project.cron import Cron
from reverse_etl.project.fields import NAME, OneOf, Words
from reverse_etl.project.fields import Strict as _Strict
from reverse_etl.project.spec_alerts import Alert, Heartbeat, label
from reverse_etl.project.spec_collect import Collect, Keep
from reverse_etl.project.spec_targets import Target
from reverse_etl.project.spec_tests import DataTest, UnitTest
from reverse_etl.project.yaml_places import Positions, YamlPath

SPEC_FILE = "syncs.yml"

ModeName = Annotated[str, OneOf(mode_names)]
RecordType = Annotated[str, OneOf(record_types)]

_WAIT = r"^\d+ (second|minute|hour)s?$"
_DURATION = r"^\d+ (second|minute|hour|day|week|month|year)s?$"


def _lookback(value: Any) -> Any:
    text = str(value).strip()
    if isinstance(value, bool) or not (text.isdigit() or re.match(_DURATION, text)):
        raise ValueError('must be an interval such as "1 hour", or a number for an integer cursor')
    return text


def _each(value: Any) -> Any:
    """One sync, or a list of them, as a list of mappings."""
    names = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    return [{"sync": name.strip()} if isinstance(name, str) else name for name in names]


def _wait(value: Any) -> Any:
    text = str(value).strip()
    if isinstance(value, bool) or not (text == "0" or re.match(_WAIT, text)):
        raise ValueError('must be a time such as "5 minutes", or 0')
    return text


def _interval(value: Any) -> Any:
    text = str(value).strip()
    if isinstance(value, bool) or not (text == "0" or re.match(_DURATION, text)):
        raise ValueError('must be an interval such as "24 hours", or 0')
    return text


def _catalog(value: Any) -> Any:
    if not isinstance(value, str) or not re.fullmatch(CATALOG_NAME.regex, value) or len(value) > MAX_CATALOG_NAME:
        raise ValueError(f"must be the name of a catalog: up to {MAX_CATALOG_NAME} {CATALOG_NAME.allows}")
    return value


def _bound(value: Any) -> Any:
    text = str(value).strip()
    number = text.removesuffix("%")
    if isinstance(value, bool) or not number.replace(".", "", 1).isdigit() or ("." in number and number == text):
        raise ValueError('must be a number of rows, or a percentage such as "10%"')
    return text


M = TypeVar("M", bound=BaseModel)
Wait = Annotated[
    str, BeforeValidator(_wait), WithJsonSchema({"anyOf": [{"const": 0}, {"type": "string", "pattern": _WAIT}]})
]
Bound = Annotated[
    str,
    BeforeValidator(_bound),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^\d+(\.\d+)?%$"}]}),
]


class Source(_Strict):
    """Where the tables of `source('name', ...)` are, if not in the schema of the same name."""

    model_config = ConfigDict(populate_by_name=True)
    database: str | None = Field(None, description="database of the tables; default: the warehouse")
    schema_name: str | None = Field(
        None, alias="schema", description="schema of the tables; default: the name of the source"
    )


class DbtOwner(_Strict):
    """The owner of the exposures in dbt."""

    name: str | None = Field(None, description="name of the owner")
    email: str | None = Field(None, description="email of the owner")

    @model_validator(mode="after")
    def _says_who(self) -> Self:
        if not (self.name or self.email):
            raise ValueError("needs a name or an email")
        return self


class Dbt(_Strict):
    """The dbt project whose models, seeds, snapshots and sources models may refer to."""

    project_dir: str = Field(min_length=1, description="dbt project folder, relative to this project")
    target_path: str = Field("target", min_length=1, description="folder with manifest.json, relative to project_dir")
    owner: DbtOwner | None = Field(
        None, description="owner of the exposures that `retl exposures` generates: {name, email}"
    )


class Guards(_Strict):
    """Limits that block a run before its first request."""

    max_removed: Bound = Field(
        "10%",
        description="maximum rows that on_removed may affect: a number, or a percentage of the rows in the state",
    )
    max_deletes: Bound | None = Field(
        None,
        description="maximum users or items to delete: a number, or a percentage of those in the target's states; "
        "default: 50, or 0.1%",
    )
    max_merges: Bound | None = Field(
        None,
        description="maximum users to merge into others: a number, or a percentage of the users in the target's "
        "states; default: 50, or 0.1%",
    )
    max_changes: Bound | None = Field(
        None, description="maximum rows to send: a number, or a percentage of the model's rows"
    )
    max_requests: int | None = Field(None, ge=0, description="maximum requests of a run")
    max_data_points: int | None = Field(None, ge=0, description="maximum data points that a run may use")
    empty_model: bool = Field(True, description="block the run if the model returns no rows but the state has some")


class Incremental(_Strict):
    """A model that returns only the rows that are new since the last run."""

    cursor: str = Field(
        description="column that orders rows from old to new: a timestamp, a date or an increasing integer"
    )
    lookback: Annotated[
        str,
        BeforeValidator(_lookback),
        WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": _DURATION}]}),
    ] = Field("0", description='how far back to re-read, for rows that arrive late: "1 hour", or a number')
    retention: Annotated[str, StringConstraints(pattern=_DURATION)] | None = Field(
        None,
        description="events and purchases: prune rows from the state once they are this old and no longer re-read: "
        '"90 days"',
    )


def _seconds(duration: str) -> int:
    """How long a duration of `_WAIT` is."""
    number, _, unit = duration.partition(" ")
    return int(number) * {"second": 1, "minute": 60, "hour": 3600}.get(unit.removesuffix("s"), 0)


class Predecessor(_Strict):
    """A sync that runs before another one, which may wait until Braze has applied what it has sent."""

    sync: str = Field(description="name of the sync that runs before")
    wait: Wait = Field("0", description='how long to wait after it, if it has sent something in this run: "5 minutes"')

    @property
    def wait_s(self) -> int:
        return _seconds(self.wait)


class Consent(_Strict):
    """How the sync may opt users in again who have opted out."""

    evidence: str | None = Field(
        None,
        description="column with the time at which the user agreed: an opt-in after an opt-out is sent if it is later; "
        "the column is not sent",
    )


class Ledger(_Strict):
    """What runs have changed, for `retl why` and `retl revert`."""

    keep: Annotated[
        str,
        BeforeValidator(_interval),
        WithJsonSchema({"anyOf": [{"const": 0}, {"type": "string", "pattern": _DURATION}]}),
    ] = Field("30 days", description="how long it is kept what each run has changed: 30 days; 0: not at all")


class ColumnText(_Strict):
    """What a column of a sync's model means to people."""

    name: str = Field(min_length=1, description="name of the column")
    description: str = Field("", description="what its values mean")
    owner: str | None = Field(None, min_length=1, description="who is responsible for it; default: owner of the sync")
    show_values: bool = Field(False, description="show its values on the page, if they are few: never of personal data")


class Sync(_Strict):
    """One entry of `syncs`: a model, a mode, a primary key, options."""

    name: str = Field(pattern=NAME, max_length=100, description="name used in commands")
    renamed_from: str | None = Field(
        None, pattern=NAME, description="the sync's previous name: its state is moved from there"
    )
    description: str = Field("", description="free-text description")
    owner: str | None = Field(None, min_length=1, description="who is responsible for it, such as a team")
    columns: tuple[ColumnText, ...] = Field(
        (),
        description="what the model's columns mean, for `retl docs generate`: {name, description, owner, show_values}",
    )
    model: str = Field(description="name of the model: the file models/<model>.sql")
    mode_name: ModeName = Field(alias="mode", description="Braze endpoint to send to")
    track_record_type: RecordType | None = Field(None, description="which array of /users/track to fill")
    catalog: (
        Annotated[
            str,
            BeforeValidator(_catalog),
            WithJsonSchema({"type": "string", "pattern": f"^{CATALOG_NAME.regex}$", "maxLength": MAX_CATALOG_NAME}),
        ]
        | None
    ) = Field(None, description="name of the catalog to write to")
    primary_key: Words | None = Field(
        None, min_length=1, description="columns that identify a row; default: those of the mode"
    )
    pre_formatted_fields: Words = Field((), description="VARCHAR columns that hold JSON text")
    exclude_columns: Words = Field((), description="columns that are not sent, such as a primary key of your own")
    shares: Words = Field(
        (),
        description="attributes that other syncs write too, for the same users: allowed among the syncs that list them",
    )
    skip_on_invalid_records: bool = Field(False, description="send the valid rows even if others are invalid")
    strict: bool = Field(
        False, description="rows with a value that Braze would drop are invalid, instead of sent without that column"
    )
    send: Literal["changed_columns", "all_columns"] = Field(
        "changed_columns", description="what to send of a changed row"
    )
    nulls: Literal["clear", "omit", "send"] = Field(
        "clear",
        description="what to do with NULLs. clear: remove values that retl had set; omit: never; "
        "send: like clear, and in new rows too",
    )
    on_removed: Literal["ignore", "clear", "delete"] = Field(
        "ignore",
        description="what to do when a row leaves the model. ignore: nothing; "
        "clear: remove what retl had set; delete: delete user or item",
    )
    keep_removed: Keep = Field(
        "90 days",
        description="how long the state keeps an ignored row that left the model: `90 days`, or `forever`",
    )
    on_in_doubt: Literal["hold", "resend"] = Field(
        "hold",
        description="rows sent without a response and not safe to send twice. hold: wait for `retl resolve`; "
        "resend: send them again",
    )
    incremental: Incremental | None = Field(None, description="settings of a model that returns only new rows")
    allow_destructive: bool = Field(
        False, description="required for syncs that delete or merge users, delete items, or remove external ids"
    )
    quarantine: Annotated[
        str,
        BeforeValidator(_interval),
        WithJsonSchema({"anyOf": [{"const": 0}, {"type": "string", "pattern": _DURATION}]}),
    ] = Field("0", description="how long every run must list a user for deletion before it is deleted: 24 hours")
    suppresses: bool = Field(
        True,
        description="syncs that delete or merge users: no sync of the target sends users again who are gone by it",
    )
    after: Annotated[
        tuple[Predecessor, ...],
        BeforeValidator(_each, json_schema_input_type=str | Predecessor | tuple[str | Predecessor, ...]),
    ] = Field((), description="syncs that run before this one: names, or {sync: NAME, wait: 5 minutes}")
    schedule: str | None = Field(
        None,
        description="when `retl run-due` and `retl scheduler` run it: a cron expression such as "
        '"*/15 * * * *", or @daily',
    )
    timezone: str = Field("UTC", description="time zone of `schedule`, such as Asia/Seoul")
    delay: Wait = Field(
        "0",
        description='how long after each scheduled time it runs, for data that arrives late: "90 minutes"',
    )
    consent: Consent = Field(Consent(), description="when users who have opted out are opted in again")
    ledger: Ledger = Field(Ledger(), description="what runs have changed, for `retl why` and `retl revert`")
    tags: Words = Field((), description="labels to select syncs by (tag:)")
    guards: Guards = Field(Guards(), description="limits that block a run before its first request")
    data_tests: tuple[DataTest, ...] = Field((), description="tests on the model's rows; a failed test blocks the run")

    _positions: Positions = PrivateAttr()
    _path: YamlPath = PrivateAttr()
    _as_written: Mapping[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def as_written(self) -> Mapping[str, Any]:
        """The keys as written in the file, Jinja not rendered: they hold no value of the environment."""
        return self._as_written

    @property
    def predecessors(self) -> tuple[str, ...]:
        """The names of the syncs that run before it."""
        return tuple(before.sync for before in self.after)

    @property
    def mode(self) -> Mode:
        """The sync's row of the table of modes, with what the sync says in the paths of its calls."""
        row = MODES[self.mode_name, self.track_record_type]
        return row.at({key: str(getattr(self, key)) for key in row.keys}) if row.keys else row

    @property
    def deletion(self) -> Deletion | None:
        """How it deletes what rows that leave the model are about; None if it does not."""
        return self.mode.deletion if self.on_removed == "delete" else None

    @property
    def ends(self) -> Ends | None:
        """What its records do that nothing undoes; None if they do not."""
        return replace(DELETES, of=self.mode.about) if self.deletion else self.mode.ends

    @property
    def update(self) -> Call | None:
        """The endpoint for changed rows of which only the changed columns are sent, if its mode has one for them."""
        return self.mode.update if self.send == "changed_columns" else None

    @property
    def calls(self) -> tuple[Call, ...]:
        """The endpoints that it uses: that of its mode, the one for changed columns, and the one that deletes."""
        return tuple(call for call in (self.mode.call, self.update, self.deletion and self.deletion.call) if call)

    @property
    def cron(self) -> Cron | None:
        """When the sync is due, if it has a schedule."""
        return Cron(self.schedule, self.timezone, self.delay_time) if self.schedule is not None else None

    @property
    def delay_time(self) -> timedelta:
        return timedelta(seconds=_seconds(self.delay))

    def where(self, *path: str | int) -> Location:
        """The location in syncs.yml of this sync, or of the value at `path` in it."""
        return self._positions.of_value((*self._path, *path))


class File(_Strict):
    """The top level of syncs.yml."""

    version: Literal[1] = Field(description="format version of syncs.yml")
    default_target: str | None = Field(None, description="target to use without --target")
    targets: dict[str, Any] = Field(min_length=1, description="targets by name: a warehouse and a destination each")
    vars: dict[str, Any] = Field({}, description="values for var(), by name")
    dbt: Any = Field(None, description="the dbt project whose relations models may refer to")
    defaults: Any = Field({}, description="keys of all syncs that do not have them")
    sources: dict[str, Any] = Field({}, description="where the tables of source() are, by name of the source")
    collect: Any = Field(None, description="what `retl collect` accepts, for source()")
    syncs: list[Any] = Field(description="the syncs: a model and a mode each")
    alerts: list[Any] = Field([], description="who is told when what becomes of a sync changes")
    heartbeat: Any = Field(None, description="what is told that schedules run")
    unit_tests: list[Any] = Field([], description="tests of given rows and the records that syncs produce from them")


@dataclass(frozen=True)
class Spec:
    """A checked syncs.yml, read for one target. Its `api_key` is still a template: see `LoadedProject.api_key`.

    `is_default_target`: the target is the one that is used without --target. `chosen` is its settings; None if only its
    name was read. `dialect` is the SQL of its warehouse. `secrets` are the environment variables that API keys, those
    of `collect`, and the secrets of warehouses and alerts come from; `warnings` is what is valid, and probably not
    meant, `notes` what retl has another word for. `alerts` and `heartbeat` are those for the target; their secrets are
    still templates: see `LoadedProject.rendered`. So are the keys of `collect`: see `LoadedProject.collect_keys`.
    """

    target_name: str
    is_default_target: bool
    chosen: Target | None
    targets: tuple[str, ...]
    vars: Mapping[str, Any]
    sources: Mapping[str, Source]
    syncs: tuple[Sync, ...]
    unit_tests: tuple[UnitTest, ...]
    positions: Positions
    dialect: str = "duckdb"
    dbt: Dbt | None = None
    secrets: frozenset[str] = frozenset()
    warnings: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()
    alerts: tuple[Alert, ...] = ()
    alert_places: Mapping[str, Location] = field(default_factory=dict)
    heartbeat: Heartbeat | None = None
    collect: Collect | None = None

    @property
    def target(self) -> Target:
        """The settings of the target."""
        assert self.chosen, "the project was read without it"
        return self.chosen

    def where_alert(self, alert: Alert) -> Location:
        """The location of an alert in syncs.yml."""
        return self.alert_places.get(label(alert), Location(SPEC_FILE))

    def in_target(self, *path: str | int) -> Location:
        """The location in syncs.yml of the value at `path` in the target."""
        return self.positions.of_value(("targets", self.target_name, *path))
