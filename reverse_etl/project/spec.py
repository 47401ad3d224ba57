"""What syncs.yml may say: its keys, their types and their defaults. `spec_reader.py` reads the file.

What needs a model's columns is checked in `mapping.py`, which asks `Sync.where()` for the place in the file.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, TypeVar, get_args
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    StringConstraints,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from reverse_etl.braze.modes import MODE_NAMES, MODES, RATE_LIMITS, RECORD_TYPES, Mode
from reverse_etl.errors import Location
from reverse_etl.project.cron import Cron
from reverse_etl.project.fields import Strict as _Strict
from reverse_etl.project.fields import Words
from reverse_etl.project.spec_tests import DataTest, UnitTest
from reverse_etl.project.yaml_places import Positions, YamlPath

SPEC_FILE = "syncs.yml"
SANDBOX = "sandbox"

ModeName = Literal["users_track", "users_alias_new", "users_identify", "users_delete", "subscription_status_set"]
RecordType = Literal["attributes", "events", "purchases"]
Family = Literal["users_track", "users", "subscription_status_set"]
# The table of modes has the words; they stand here again for the type checker and the JSON Schema.
assert (get_args(ModeName), get_args(RecordType), get_args(Family)) == (MODE_NAMES, RECORD_TYPES, tuple(RATE_LIMITS))


_DURATION = r"^\d+ (second|minute|hour|day|week|month|year)s?$"


def _lookback(value: Any) -> Any:
    text = str(value).strip()
    if isinstance(value, bool) or not (text.isdigit() or re.match(_DURATION, text)):
        raise ValueError('must be a time such as "1 hour", or a number for a cursor that is one')
    return text


def _windows(value: Any) -> Any:
    """One window, or a list of them, as a list."""
    return [value] if isinstance(value, dict) else value


def _bound(value: Any) -> Any:
    text = str(value).strip()
    number = text.removesuffix("%")
    if isinstance(value, bool) or not number.replace(".", "", 1).isdigit() or ("." in number and number == text):
        raise ValueError('must be a number of rows, or a share such as "10%"')
    return text


M = TypeVar("M", bound=BaseModel)
Bound = Annotated[
    str,
    BeforeValidator(_bound),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^\d+(\.\d+)?%$"}]}),
]


class RateLimit(_Strict):
    """So many requests in so many seconds."""

    requests: int = Field(gt=0)
    per_seconds: float = Field(gt=0)


RateLimits = Annotated[
    tuple[RateLimit, ...],
    BeforeValidator(_windows, json_schema_input_type=RateLimit | tuple[RateLimit, ...]),
]


class Warehouse(_Strict):
    """Where the models are queried."""

    type: Literal["duckdb"] = Field(description="the engine")
    path: str = Field(description="the DuckDB file, relative to the project; it is opened read-only")


class BrazeConfig(_Strict):
    """The Braze workspace that is kept true to the models."""

    type: Literal["braze"] = Field(description="the only kind there is")
    endpoint: str = Field(description="https://rest.iad-01.braze.com, or sandbox for the local stand-in")
    api_key: str | None = Field(None, repr=False, description="{{ env_var('BRAZE_API_KEY') }}, never the key itself")
    max_objects_per_request: int = Field(75, ge=1, le=75, description="50 on some contracts")
    rate_limits: dict[Family, RateLimits] = Field(
        {}, description="what the contract says, where it says otherwise: {requests, per_seconds}, or a list of them"
    )
    timeout_s: float = Field(30, gt=0, le=600, description="seconds to wait for an answer")

    @field_validator("endpoint")
    @classmethod
    def _usable(cls, value: str) -> str:
        if value == SANDBOX:
            return value
        url = urlsplit(value)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError("must be an address such as https://rest.iad-01.braze.com, or sandbox")
        if url.path.strip("/") or url.query:
            raise ValueError("must end with the host: retl adds the path of each call")
        if url.hostname.startswith("sdk."):
            raise ValueError("is a host for SDKs: take the REST endpoint, rest.<instance>.braze.com")
        if url.scheme == "http" and url.hostname not in ("localhost", "127.0.0.1", "::1"):
            raise ValueError("must begin with https:// (http is for addresses of this machine)")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _key_goes_with_endpoint(self) -> Self:
        if self.endpoint == SANDBOX and self.api_key is not None:
            raise ValueError('"api_key" has no use with "endpoint: sandbox"; leave it out')
        if self.endpoint != SANDBOX and self.api_key is None:
            raise ValueError('"api_key" is missing; write api_key: "{{ env_var(\'BRAZE_API_KEY\') }}"')
        return self


STORES = ("s3", "gs", "az")


def is_url(place: str) -> bool:
    """Whether a `state.path` names an object store; a folder otherwise."""
    return "://" in place


class StatePlace(_Strict):
    """Where the state of a target's syncs is kept."""

    path: str | None = Field(
        None,
        min_length=1,
        description="a folder, relative to the project (.retl if absent), or a place that machines share: "
        "s3://bucket/path, gs://..., az://...",
    )

    @field_validator("path")
    @classmethod
    def _usable(cls, value: str | None) -> str | None:
        if value is None or not is_url(value):
            return value
        url = urlsplit(value)
        if url.scheme not in STORES or not url.hostname:
            raise ValueError("must be a folder, or begin with s3://bucket, gs://bucket or az://container")
        if url.username or url.password or url.query or url.fragment:
            raise ValueError("must hold a bucket and a path only: credentials come from the environment")
        return value.rstrip("/")


class Target(_Strict):
    """Where a sync runs: a warehouse and a destination. State is kept for each target."""

    warehouse: Warehouse
    destination: BrazeConfig
    state: StatePlace = Field(StatePlace(), description="where it is remembered what was sent")


class Source(_Strict):
    """Where the tables of `source('name', ...)` stand, when that is not the schema of the same name."""

    model_config = ConfigDict(populate_by_name=True)
    database: str | None = None
    schema_name: str | None = Field(None, alias="schema")


class DbtOwner(_Strict):
    """Whom dbt names as the owner of exposures."""

    name: str | None = None
    email: str | None = None

    @model_validator(mode="after")
    def _says_who(self) -> Self:
        if not (self.name or self.email):
            raise ValueError("needs a name or an email")
        return self


class Dbt(_Strict):
    """The dbt project whose models, seeds, snapshots and sources models may refer to."""

    project_dir: str = Field(min_length=1, description="its folder, relative to this one")
    target_path: str = Field("target", min_length=1, description="where in it dbt writes manifest.json")
    owner: DbtOwner | None = Field(None, description="who answers for the syncs, for `retl exposures`: {name, email}")


class Guards(_Strict):
    """What stops a run before its first request."""

    max_removed: Bound = Field("10%", description="rows that on_removed acts on: a number, or a share of the state")
    max_changes: Bound | None = Field(None, description="rows to send: a number, or a share of the model's rows")
    max_requests: int | None = Field(None, ge=0, description="requests that a run may need")
    max_data_points: int | None = Field(None, ge=0, description="data points that a run may cost")
    empty_model: bool = Field(True, description="stop when the model returns no row and the state holds some")


class Incremental(_Strict):
    """A model that returns only what is new since the last run."""

    cursor: str = Field(description="the column that says how new a row is: a time, a date or a growing whole number")
    lookback: Annotated[
        str,
        BeforeValidator(_lookback),
        WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": _DURATION}]}),
    ] = Field("0", description='read so much again, as rows may come late: "1 hour", or a number')
    retention: Annotated[str, StringConstraints(pattern=_DURATION)] | None = Field(
        None, description='events and purchases: let go of what was sent so long ago and is not read again: "90 days"'
    )


class Sync(_Strict):
    """One entry of `syncs`: a model, a mode, a primary key, options."""

    name: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*$", max_length=100, description="what commands call it")
    description: str = Field("", description="for people")
    model: str = Field(description="the file models/<model>.sql")
    mode_name: ModeName = Field(alias="mode", description="which call is made: see the modes")
    track_record_type: RecordType | None = Field(None, description="which array of users_track")
    primary_key: Words | None = Field(None, min_length=1, description="columns that name a row; if absent, the mode's")
    pre_formatted_fields: Words = Field((), description="VARCHAR columns that hold JSON text")
    exclude_columns: Words = Field((), description="columns that are not sent, such as a primary key of your own")
    skip_on_invalid_records: bool = Field(False, description="send the valid rows although others are invalid")
    send: Literal["changed_columns", "all_columns"] = Field("changed_columns", description="of a changed row")
    nulls: Literal["clear", "omit", "send"] = Field(
        "clear", description="clear: a NULL removes what retl had set; omit: it never does; send: also in new rows"
    )
    on_removed: Literal["ignore", "clear", "delete"] = Field(
        "ignore", description="a row left the model: leave its user alone, clear what retl had set, delete the user"
    )
    on_in_doubt: Literal["hold", "resend"] = Field(
        "hold", description="sent, no answer came, and twice would do harm: wait for `retl resolve`, or send it again"
    )
    incremental: Incremental | None = Field(None, description="the model returns only what is new: see below")
    allow_destructive: bool = Field(False, description="needed to delete users")
    after: Words = Field((), description="syncs that run before this one")
    schedule: str | None = Field(
        None,
        description='when `retl run-due` and `retl scheduler` run it: a cron line such as "*/15 * * * *", or @daily',
    )
    timezone: str = Field("UTC", description="whose clocks `schedule` goes by: Asia/Seoul")
    tags: Words = Field((), description="words to select syncs by")
    guards: Guards = Field(Guards(), description="what stops a run before its first request")
    data_tests: tuple[DataTest, ...] = Field((), description="what holds of the model's rows, or the run stops")

    _positions: Positions = PrivateAttr()
    _path: YamlPath = PrivateAttr()
    _as_written: Mapping[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def as_written(self) -> Mapping[str, Any]:
        """The keys as the file has them, Jinja not worked out: no value of the environment is in it."""
        return self._as_written

    @property
    def mode(self) -> Mode:
        """The sync's row of the table of modes."""
        return MODES[self.mode_name, self.track_record_type]

    @property
    def cron(self) -> Cron | None:
        """When the sync is due, if it has a schedule."""
        return Cron(self.schedule, self.timezone) if self.schedule is not None else None

    def where(self, *path: str | int) -> Location:
        """The place in syncs.yml of this sync, or of what `path` leads to in it."""
        return self._positions.of_value((*self._path, *path))


class File(_Strict):
    """The top level of syncs.yml; what is inside is checked piece by piece, so that all mistakes are shown together."""

    version: Literal[1]
    default_target: str | None = None
    targets: dict[str, Any] = Field(min_length=1)
    vars: dict[str, Any] = Field({})
    dbt: Any = Field(None)
    sources: dict[str, Any] = Field({})
    syncs: list[Any]
    unit_tests: list[Any] = Field([])


@dataclass(frozen=True)
class Spec:
    """A checked syncs.yml, seen for one target. Its `api_key` is still a template: see `LoadedProject.api_key`.

    `chosen` is what the target says; None if it was read for its name alone.
    """

    target_name: str
    chosen: Target | None
    targets: tuple[str, ...]
    vars: Mapping[str, Any]
    sources: Mapping[str, Source]
    syncs: tuple[Sync, ...]
    unit_tests: tuple[UnitTest, ...]
    positions: Positions
    dbt: Dbt | None = None

    @property
    def target(self) -> Target:
        """What the target says."""
        assert self.chosen, "the project was read without it"
        return self.chosen

    def in_target(self, *path: str) -> Location:
        """The place in syncs.yml of what `path` leads to in the target."""
        return self.positions.of_value(("targets", self.target_name, *path))
