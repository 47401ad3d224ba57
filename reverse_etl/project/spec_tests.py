"""The tests in syncs.yml, with dbt's names: `data_tests` of a sync, and `unit_tests`. Pure.

data_tests    must be true of the rows that a model returns, or the run is blocked    plan/data_tests.py
unit_tests    given rows, and the records that a sync should produce from them        testing/unit_tests.py
"""

import re
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PrivateAttr, WithJsonSchema, model_validator

from reverse_etl.errors import Location
from reverse_etl.project.fields import Strict, Words
from reverse_etl.project.yaml_places import Positions, YamlPath

# --- data tests ------------------------------------------------------------------------------------------------------

_THRESHOLD = r"^(=|!=|<>|<|<=|>|>=) ?\d+$"
_SCALAR = {"type": ["string", "number", "boolean"]}


def _of_columns(value: Any) -> Any:
    """A column, or a list of them, as a mapping with this key only."""
    return value if isinstance(value, dict) else {"column": value}


def _scalar(value: Any) -> Any:
    """A value of YAML as the string that DuckDB casts to a column's type."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float | date) else value


def _threshold(value: Any) -> Any:
    if not isinstance(value, str) or not re.match(_THRESHOLD, value):
        raise ValueError('must be a comparison such as "> 10"')
    return value


Threshold = Annotated[str, BeforeValidator(_threshold), WithJsonSchema({"type": "string", "pattern": _THRESHOLD})]
Scalar = Annotated[str, BeforeValidator(_scalar), WithJsonSchema(_SCALAR)]


class Claim(Strict):
    """The columns to test, and how severe a failure is."""

    column: Words = Field(min_length=1, description="a column of the model, or a list of them")
    where: str | None = Field(None, min_length=1, description="SQL condition: only rows that match it are tested")
    severity: Literal["error", "warn"] = Field(
        "error",
        description="error: a failed test blocks the run before its first request; "
        "warn: it is reported, and the run continues",
    )
    error_if: Threshold = Field("!= 0", description="number of failing rows that counts as an error")
    warn_if: Threshold = Field("!= 0", description="number of failing rows that counts as a warning")


class AcceptedValues(Claim):
    """The accepted values of a column; NULLs are not tested."""

    values: tuple[Scalar, ...] = Field(min_length=1, description="the accepted values")


_Columns = Annotated[Claim, BeforeValidator(_of_columns, json_schema_input_type=Claim | str | tuple[str, ...])]


class DataTest(Strict):
    """A test on the rows that a model returns. NULL never counts as a duplicate, nor as an unaccepted value."""

    not_null: _Columns | None = Field(None, description="columns that must not be NULL")
    unique: _Columns | None = Field(None, description="columns whose combined values must be unique")
    accepted_values: AcceptedValues | None = Field(None, description="a column and its accepted values")

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if sum(claim is not None for claim in (self.not_null, self.unique, self.accepted_values)) != 1:
            raise ValueError("must have exactly one test per item: not_null, unique or accepted_values")
        return self

    @property
    def kind(self) -> str:
        """The name of the test."""
        return next(name for name in DataTest.model_fields if getattr(self, name) is not None)

    @property
    def claim(self) -> Claim:
        found: Claim = getattr(self, self.kind)
        return found


# --- unit tests ------------------------------------------------------------------------------------------------------

_INPUT = re.compile(
    r"""ref\(\s*(?P<q>['"])(?P<ref>[^'"]+)(?P=q)\s*\)"""
    r"""|source\(\s*(?P<q1>['"])(?P<source>[^'"]+)(?P=q1)\s*,\s*(?P<q2>['"])(?P<table>[^'"]+)(?P=q2)\s*\)"""
    r"""|(?P<this>this)"""
)


def _rows(value: Any) -> Any:
    """Rows whose keys are strings, also where YAML reads one as a number, such as a column called 1."""
    if not isinstance(value, list):
        return value
    for number, row in enumerate(value, 1):
        if not isinstance(row, dict):
            raise ValueError(f"must contain only mappings; item {number} is not one")
    return tuple({str(name): item for name, item in row.items()} for row in value)


def _rows_or_text(value: Any) -> Any:
    if not isinstance(value, list | str | None):
        raise ValueError("must be a list of mappings, or a string")
    return _rows(value)


_LIST = {"type": "array", "items": {"type": "object"}}
Rows = Annotated[tuple[dict[str, Any], ...], BeforeValidator(_rows), WithJsonSchema(_LIST)]
RowsOrText = Annotated[
    Any, BeforeValidator(_rows_or_text), WithJsonSchema({"anyOf": [_LIST, {"type": "string"}, {"type": "null"}]})
]


class Input(Strict):
    """Rows that replace an input of the sync's models, or the rows that Braze has acknowledged (`this`)."""

    input: str = Field(
        description="ref('name'), source('name', 'table'), or this: the rows that Braze has already acknowledged"
    )
    rows: RowsOrText = Field(None, description="the rows: a list of mappings, or a string for csv and sql")
    format: Literal["dict", "csv", "sql"] = Field("dict", description="format of the rows")
    fixture: str | None = Field(
        None,
        description="name of a file with the rows: tests/fixtures/<fixture>.csv or .sql, depending on format",
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if not _INPUT.fullmatch(self.input.strip()):
            raise ValueError(f"has the input \"{self.input}\": use ref('name'), source('name', 'table') or this")
        if self.rows is not None and self.fixture is not None:
            raise ValueError('has both "rows" and "fixture"; only one is allowed')
        if self.fixture is not None and self.format == "dict":
            raise ValueError('has a "fixture", which requires "format: csv" or "format: sql"')
        if self.rows is not None and isinstance(self.rows, str) != (self.format != "dict"):
            wanted = "a list of mappings" if self.format == "dict" else "a string"
            raise ValueError(f'has "rows" that are not {wanted}, as "format: {self.format}" requires')
        if self.rows is None and self.fixture is None and not self.ref:
            raise ValueError(f'has no "rows" for {self.input}')
        return self

    @property
    def ref(self) -> str | None:
        """The name of a model or a seed."""
        return self._part("ref")

    @property
    def source(self) -> tuple[str, str] | None:
        """The name of a source and a table in it."""
        name, table = self._part("source"), self._part("table")
        return (name, table) if name and table else None

    @property
    def is_this(self) -> bool:
        return self._part("this") is not None

    def _part(self, name: str) -> str | None:
        found = _INPUT.fullmatch(self.input.strip())
        return found[name] if found else None


def _moment(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise ValueError('must be a timestamp such as "2026-11-23 08:15:00"') from error
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime):
        raise ValueError('must be a timestamp such as "2026-11-23 08:15:00"')
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _cursor(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = date.fromisoformat(value) if len(value) == 10 else datetime.fromisoformat(value)
        except ValueError as error:
            raise ValueError("must be a timestamp, a date or an integer") from error
    if isinstance(value, bool) or not isinstance(value, int | date):
        raise ValueError("must be a timestamp, a date or an integer")
    return value


Moment = Annotated[datetime, BeforeValidator(_moment)]
Cursor = Annotated[Any, BeforeValidator(_cursor), WithJsonSchema({"type": ["string", "integer"]})]


class Macros(Strict):
    """Values of the functions and variables that models use, in a unit test."""

    is_incremental: bool = Field(False, description="whether is_incremental() is true")
    cursor: Cursor | None = Field(None, description="the value of cursor(): a timestamp, a date or an integer")
    run_started_at: Moment | None = Field(
        None, description="the value of run_started_at; UTC unless it has a time zone"
    )
    scheduled_time: Moment | None = Field(None, description="the value of scheduled_time")

    @model_validator(mode="after")
    def _cursor_goes_with_incremental(self) -> Self:
        if self.is_incremental == (self.cursor is None):
            raise ValueError('must set both "is_incremental: true" and "cursor", or neither')
        return self


class Overrides(Strict):
    """What a unit test overrides."""

    vars: dict[str, Any] = Field({}, description="values for var(); override those of the project")
    env_vars: dict[str, Scalar] = Field({}, description="values for env_var(); override the environment")
    macros: Macros = Field(Macros(), description="is_incremental, cursor, run_started_at, scheduled_time")


class ExpectedInvalid(Strict):
    """A row that must be invalid. Omitted keys are not compared."""

    key: Scalar = Field(description="the row's primary key, as `retl rejects --show-values` shows it")
    column: str | None = Field(None, description="the column with the invalid value")
    reason: str | None = Field(None, description="why the row is invalid, as `retl rejects` shows it")


class Expect(Strict):
    """The complete expected result, in any order."""

    records: Rows | None = Field(None, description="the records that are sent to Braze, as in the request")
    invalid: tuple[ExpectedInvalid, ...] | None = Field(None, description="the rows that are invalid")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.records is None and self.invalid is None:
            raise ValueError('needs "records" or "invalid"; "records: []" if nothing should be sent')
        return self


class UnitTest(Strict):
    """Given rows, and the records that a sync should produce from them."""

    name: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*$", max_length=100, description="name used in commands")
    description: str = Field("", description="free-text description")
    sync: str = Field(description="the sync under test")
    given: tuple[Input, ...] = Field((), description="the rows of each input of the model")
    overrides: Overrides = Field(Overrides(), description="vars, env_vars and macros, as in dbt")
    expect: Expect = Field(description="the expected result")

    _positions: Positions = PrivateAttr()
    _path: YamlPath = PrivateAttr()

    def where(self, *path: str | int) -> Location:
        """The location in syncs.yml of this test, or of the value at `path` in it."""
        return self._positions.of_value((*self._path, *path))

    def key_at(self, *path: str | int) -> Location:
        return self._positions.of_key((*self._path, *path))
