"""What syncs.yml may say of tests, in dbt's words: `data_tests` of a sync, and `unit_tests`. Pure.

data_tests    hold of the rows that a model returns, or the run stops         data_tests.py
unit_tests    given rows, and the records that they should become             unit_tests.py
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
    """A column, or a list of them, as the mapping that says nothing else."""
    return value if isinstance(value, dict) else {"column": value}


def _scalar(value: Any) -> Any:
    """A value of YAML as the text that DuckDB casts to a column's type."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float | date) else value


def _threshold(value: Any) -> Any:
    if not isinstance(value, str) or not re.match(_THRESHOLD, value):
        raise ValueError('must compare a number of rows, as in "> 10"')
    return value


Threshold = Annotated[str, BeforeValidator(_threshold), WithJsonSchema({"type": "string", "pattern": _THRESHOLD})]
Scalar = Annotated[str, BeforeValidator(_scalar), WithJsonSchema(_SCALAR)]


class Claim(Strict):
    """What holds of some columns, and how bad it is where it does not."""

    column: Words = Field(min_length=1, description="a column of the model, or a list of them")
    where: str | None = Field(None, min_length=1, description="SQL: only rows for which it is true are looked at")
    severity: Literal["error", "warn"] = Field("error", description="error: the run stops before its first request")
    error_if: Threshold = Field("!= 0", description="how many failing rows are an error")
    warn_if: Threshold = Field("!= 0", description="how many failing rows are worth a warning")


class AcceptedValues(Claim):
    """The values that a column may have; NULL is not looked at."""

    values: tuple[Scalar, ...] = Field(min_length=1, description="what is accepted")


_Columns = Annotated[Claim, BeforeValidator(_of_columns, json_schema_input_type=Claim | str | tuple[str, ...])]


class DataTest(Strict):
    """One test of the rows that a model returns. NULLs are nobody's twin, and no wrong value."""

    not_null: _Columns | None = Field(None, description="columns that have a value in every row")
    unique: _Columns | None = Field(None, description="columns that, together, have other values in every row")
    accepted_values: AcceptedValues | None = Field(None, description="the values that a column may have")

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if sum(claim is not None for claim in (self.not_null, self.unique, self.accepted_values)) != 1:
            raise ValueError("holds one test an item: not_null, unique or accepted_values")
        return self

    @property
    def kind(self) -> str:
        """What the test is called."""
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
    """Rows with names that are text, as a column or key that is called 1 has to be."""
    if not isinstance(value, list):
        return value
    for number, row in enumerate(value, 1):
        if not isinstance(row, dict):
            raise ValueError(f"must hold mappings; item {number} is none")
    return tuple({str(name): item for name, item in row.items()} for row in value)


def _rows_or_text(value: Any) -> Any:
    if not isinstance(value, list | str | None):
        raise ValueError("must be a list of mappings, or text")
    return _rows(value)


_LIST = {"type": "array", "items": {"type": "object"}}
Rows = Annotated[tuple[dict[str, Any], ...], BeforeValidator(_rows), WithJsonSchema(_LIST)]
RowsOrText = Annotated[
    Any, BeforeValidator(_rows_or_text), WithJsonSchema({"anyOf": [_LIST, {"type": "string"}, {"type": "null"}]})
]


class Input(Strict):
    """Rows that stand in for an input of the sync's models, or for what Braze has acknowledged (`this`)."""

    input: str = Field(description="ref('name'), source('name', 'table'), or this: what Braze has acknowledged before")
    rows: RowsOrText = Field(None, description="the rows: a list of mappings, or text for csv and sql")
    format: Literal["dict", "csv", "sql"] = Field("dict", description="how the rows are written")
    fixture: str | None = Field(None, description="rows in tests/fixtures/<fixture>.csv or .sql, as format says")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if not _INPUT.fullmatch(self.input.strip()):
            raise ValueError(f"\"{self.input}\" is none of ref('name'), source('name', 'table'), this")
        if self.rows is not None and self.fixture is not None:
            raise ValueError('holds "rows" or "fixture", not both')
        if self.fixture is not None and self.format == "dict":
            raise ValueError('holds a "fixture", which needs "format: csv" or "format: sql"')
        if self.rows is not None and isinstance(self.rows, str) != (self.format != "dict"):
            wanted = "a list of mappings" if self.format == "dict" else "text"
            raise ValueError(f'holds "rows" that are not {wanted}, as "format: {self.format}" needs')
        if self.rows is None and self.fixture is None and not self.ref:
            raise ValueError(f'holds no "rows" for {self.input}')
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
            raise ValueError('must be a time such as "2026-11-23 08:15:00"') from error
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime):
        raise ValueError('must be a time such as "2026-11-23 08:15:00"')
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _cursor(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = date.fromisoformat(value) if len(value) == 10 else datetime.fromisoformat(value)
        except ValueError as error:
            raise ValueError("must be a time, a date or a whole number") from error
    if isinstance(value, bool) or not isinstance(value, int | date):
        raise ValueError("must be a time, a date or a whole number")
    return value


Moment = Annotated[datetime, BeforeValidator(_moment)]
Cursor = Annotated[Any, BeforeValidator(_cursor), WithJsonSchema({"type": ["string", "integer"]})]


class Macros(Strict):
    """What functions and values of models stand for in a unit test."""

    is_incremental: bool = Field(False, description="whether the model reads only what is new")
    cursor: Cursor | None = Field(None, description="what cursor() stands for: a time, a date or a whole number")
    run_started_at: Moment | None = Field(None, description="when the run began, in UTC unless it says otherwise")
    scheduled_time: Moment | None = Field(None, description="the moment that the run stands for")

    @model_validator(mode="after")
    def _cursor_goes_with_incremental(self) -> Self:
        if self.is_incremental == (self.cursor is None):
            raise ValueError('has "is_incremental: true" and "cursor" together or not at all')
        return self


class Overrides(Strict):
    """What is other in a unit test than in a run."""

    vars: dict[str, Any] = Field({}, description="values of var(), over those of the project")
    env_vars: dict[str, Scalar] = Field({}, description="values of env_var(), over those of the environment")
    macros: Macros = Field(Macros(), description="is_incremental, cursor, run_started_at, scheduled_time")


class ExpectedInvalid(Strict):
    """A row that retl is to refuse. What is not said of it is not compared."""

    key: Scalar = Field(description="the row's primary key, as `retl rejects` has it")
    column: str | None = None
    reason: str | None = None


class Expect(Strict):
    """All that should come of the given rows, in any order."""

    records: Rows | None = Field(None, description="the records that go to Braze, as they stand in the request")
    invalid: tuple[ExpectedInvalid, ...] | None = Field(None, description="the rows that retl refuses")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.records is None and self.invalid is None:
            raise ValueError('needs "records" or "invalid"; "records: []" if nothing is to be sent')
        return self


class UnitTest(Strict):
    """Given rows, and the records that a sync should make of them."""

    name: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*$", max_length=100, description="what commands call it")
    description: str = Field("", description="for people")
    sync: str = Field(description="the sync that is tested, with its model")
    given: tuple[Input, ...] = Field((), description="the rows of each input of the model")
    overrides: Overrides = Field(Overrides(), description="vars, env_vars and macros, as in dbt")
    expect: Expect = Field(description="what should come of it")

    _positions: Positions = PrivateAttr()
    _path: YamlPath = PrivateAttr()

    def where(self, *path: str | int) -> Location:
        """The place in syncs.yml of this test, or of what `path` leads to in it."""
        return self._positions.of_value((*self._path, *path))

    def key_at(self, *path: str | int) -> Location:
        return self._positions.of_key((*self._path, *path))
