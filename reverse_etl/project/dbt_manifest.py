"""What a dbt project has built: its manifest.json -> the relation behind each `ref()` and `source()`. Pure.

    ref('dim_customers')        a model, seed or snapshot: the table or view that dbt built from it
    ref('shop', 'orders', v=2)  of that package, in that version (else: the latest)
    source('app', 'orders')     the table that the source declares

What has no relation in the warehouse (ephemeral, disabled, private, in another database, read from a file) is an error
with a hint: a guess could send users the rows of another table.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from reverse_etl.errors import Location, ProjectError, nearest
from reverse_etl.project.environment import TemplateProblem
from reverse_etl.project.spec_targets import WAREHOUSES

# Of manifest.json: dbt 1.8. The dbt platform writes v12, too; dbt Fusion v12 or, before, v20, which has the same keys:
# https://docs.getdbt.com/reference/artifacts/manifest-json, https://github.com/dbt-labs/docs.getdbt.com/pull/8188
OLDEST_SCHEMA = 12
REFERABLE = ("model", "seed", "snapshot")
_WRITE_IT = "create it with `dbt parse` or `dbt build`"


@dataclass(frozen=True)
class Relation:
    """A table or view of the warehouse, as SQL; `unique_id` and `call` are its names in dbt, if dbt built it."""

    sql: str
    unique_id: str = ""
    call: str = ""

    @property
    def plain(self) -> str:
        """The name in lower case, without quotes."""
        return _plain(self.sql)


class _Part(BaseModel):
    """A part of manifest.json; keys that are not declared here are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_the_default(cls, value: Any) -> Any:
        """dbt's classes say Optional where its files seldom have a null."""
        return {key: one for key, one in value.items() if one is not None} if isinstance(value, dict) else value


class _Config(_Part):
    materialized: str | None = None
    access: str | None = None
    group: str | None = None


Version = int | float | str


class _Described(_Part):
    """What has texts for people in dbt's properties files. Nothing depends on them, so no form of them is refused."""

    unique_id: str
    description: Any = ""
    columns: Any = {}

    @property
    def texts(self) -> Iterator[tuple[str, str, str]]:
        """Name, description and `meta.owner` of each column."""
        found = self.columns.values() if isinstance(self.columns, dict) else self.columns
        for one in found if isinstance(found, Iterable) else ():
            if isinstance(one, dict) and isinstance(one.get("name"), str):
                owners = [_member(_member(one, "config"), "meta"), _member(one, "meta")]
                owner = next((text for meta in owners if (text := _text(_member(meta, "owner")))), "")
                yield one["name"], _text(one.get("description")), owner


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


class Node(_Described):
    """A model, seed, snapshot, analysis or test."""

    name: str
    resource_type: str
    package_name: str
    database: str | None = None
    relation_name: str | None = None
    version: Version | None = None
    latest_version: Version | None = None
    access: str | None = None
    group: str | None = None
    config: _Config = _Config()


class SourceTable(_Described):
    name: str
    source_name: str
    package_name: str
    identifier: str
    database: str | None = None
    schema_name: str = Field(alias="schema")
    relation_name: str | None = None


N = TypeVar("N", Node, SourceTable)


class _Metadata(_Part):
    dbt_schema_version: str
    dbt_version: str = "?"
    project_name: str = ""
    adapter_type: str | None = None


class _File(_Part):
    metadata: _Metadata
    nodes: dict[str, Node]
    sources: dict[str, SourceTable]
    disabled: dict[str, list[Node]] = {}


class _Head(_Part):
    metadata: _Metadata


@dataclass(frozen=True)
class DbtManifest:
    """What dbt knows about its project.

    `catalog` is the name under which a DuckDB file is attached in retl. It is None for another warehouse, which tells
    by itself whether it has a relation.
    """

    file: str
    project_name: str
    dbt_version: str
    catalog: str | None
    nodes: tuple[Node, ...]
    sources: tuple[SourceTable, ...]
    disabled: tuple[Node, ...]

    @property
    def names(self) -> list[str]:
        """All names that `ref()` can refer to."""
        return sorted({node.name for node in self.nodes if node.resource_type in REFERABLE})

    @property
    def source_names(self) -> list[str]:
        return sorted({table.source_name for table in self.sources})

    @property
    def relations(self) -> dict[str, Node]:
        """What dbt builds, by the name of the relation in lower case, without quotes."""
        made = [node for node in self.nodes if node.resource_type in REFERABLE and node.relation_name]
        return {_plain(node.relation_name or ""): node for node in made}

    def texts_of(self, unique_ids: Iterable[str]) -> dict[str, tuple[str, str]]:
        """Description and owner of columns, by name, of what has these ids; none where two of them differ."""
        wanted, found = set(unique_ids), dict[str, set[tuple[str, str]]]()
        for one in (*self.nodes, *self.sources):
            for name, *texts in one.texts if one.unique_id in wanted else ():
                if any(texts):
                    found.setdefault(name, set()).add((texts[0], texts[1]))
        return {name: texts.pop() for name, texts in found.items() if len(texts) == 1}

    def called(self, name: str, package: str | None = None) -> list[Node]:
        """What a name in `ref()` could mean: versions of one model, and nodes of the same name in other packages."""
        return [
            node
            for node in self.nodes
            if node.name == name and node.resource_type in REFERABLE and package in (None, node.package_name)
        ]

    def ref(
        self, name: str, package: str | None = None, version: Version | None = None, others: Iterable[str] = ()
    ) -> Relation:
        """The relation of a model, seed or snapshot. Raises TemplateProblem; hints offer names of `others` too."""
        what = f'ref(): dbt has more than one "{name}"'
        found = _only_package(self.called(name, package), self.project_name, what, _use)
        if not found:
            self._say_why_not(name, package, others)
        node = _only_version(found, version)
        said = f"ref(): dbt's {node.unique_id}"
        if node.config.materialized == "ephemeral":
            hint = "materialize it as a view or a table in dbt, or write its SQL as a model here"
            raise TemplateProblem(f"{said} is ephemeral: there is no relation to read", hint, code="P044")
        if "private" in (node.access, node.config.access):  # Fusion has it under config
            hint = "set `access: protected` for it in dbt"
            group = node.group or node.config.group
            raise TemplateProblem(f'{said} is private to the group "{group}"', hint, code="P044")
        if node.relation_name is None:
            raise TemplateProblem(f"{said} has no relation", _WRITE_IT, code="P044")
        self._refuse_other_database(said, node.database)
        return Relation(node.relation_name, node.unique_id, self._call_of(node, version))

    def source(self, source: str, name: str, others: Iterable[str] = ()) -> Relation:
        """The relation of a source's table. Raises TemplateProblem; hints offer names of `others` too."""
        of_source = [table for table in self.sources if table.source_name == source]
        if not of_source:
            hint = nearest(source, [*self.source_names, *others])
            raise TemplateProblem(
                f'source(): neither dbt nor "sources:" in syncs.yml has a source "{source}"', hint, code="P045"
            )
        what = f'source(): dbt has more than one "{source}.{name}"'
        called = [table for table in of_source if table.name == name]
        found = _only_package(called, self.project_name, what, _build_on)
        if not found:
            hint = nearest(name, sorted({table.name for table in of_source}))
            raise TemplateProblem(f'source(): dbt\'s source "{source}" has no table "{name}"', hint, code="P045")
        table = found[0]
        said = f"source(): dbt's {table.unique_id}"
        self._refuse_other_database(said, table.database)
        there = f"{table.database}.{table.schema_name}.{table.identifier}".casefold()
        if self.catalog is not None and _plain(table.relation_name or "") != there:
            hint = "build a dbt model on it, and ref() that model"
            what = f"{said} is not a table in the warehouse: dbt reads it from {table.relation_name}"
            raise TemplateProblem(what, hint, code="P046")
        return Relation(table.relation_name or "", table.unique_id, f"source('{source}', '{name}')")

    def _call_of(self, node: Node, version: Version | None) -> str:
        """How files of the dbt project refer to a node; without a version they follow the latest, as in retl."""
        package = "" if node.package_name == self.project_name else f"'{node.package_name}', "
        return f"ref({package}'{node.name}'{'' if version is None else f', v={node.version!r}'})"

    def _say_why_not(self, name: str, package: str | None, others: Iterable[str]) -> NoReturn:
        for node in [*self.nodes, *self.disabled]:
            if node.name != name or package not in (None, node.package_name):
                continue
            if node.resource_type == "analysis":
                hint = "move it from analyses/ to models/ in dbt"
                raise TemplateProblem(
                    f"ref(): dbt's {node.unique_id} is an analysis: dbt never builds it", hint, code="P044"
                )
            if node in self.disabled and node.resource_type in REFERABLE:
                hint = "remove `enabled: false` in dbt, then run `dbt build`"
                raise TemplateProblem(f"ref(): dbt's {node.unique_id} is disabled", hint, code="P044")
        if package is None:
            what = f'ref(): neither this project nor dbt\'s has a model, seed or snapshot "{name}"'
            raise TemplateProblem(what, nearest(name, [*others, *self.names]), code="P037")
        packages = sorted({node.package_name for node in self.nodes})
        if package not in packages:
            raise TemplateProblem(f'ref(): dbt has no package "{package}"', nearest(package, packages), code="P037")
        of_package = sorted({n.name for n in self.nodes if n.package_name == package and n.resource_type in REFERABLE})
        what = f'ref(): dbt\'s package "{package}" has no model, seed or snapshot "{name}"'
        raise TemplateProblem(what, nearest(name, of_package), code="P037")

    def _refuse_other_database(self, said: str, database: str | None) -> None:
        if self.catalog is None or (database or "").casefold() == self.catalog.casefold():
            return
        what = f'{said} is in database "{database}", but the warehouse of this target is "{self.catalog}"'
        if any((node.database or "").casefold() == self.catalog.casefold() for node in self.nodes):
            hint = f'retl reads a single file: build a dbt model on it in "{self.catalog}", and ref() that model'
        else:
            hint = f"set the warehouse's `path` in this target to the file that dbt builds: {database}.duckdb"
        raise TemplateProblem(what, hint, code="P046")


def read_manifest(
    data: bytes, file: str, catalog: str | None, where: Location, warehouse: str = "duckdb"
) -> DbtManifest:
    """A manifest.json of a dbt project on a `warehouse`.

    Raises ProjectError at `where`, the location in syncs.yml that leads to the file.
    """
    try:
        read = _File.model_validate_json(data)
    except ValidationError as error:
        with suppress(ValidationError):  # a file of another version may have another shape
            _refuse_unfit(_Head.model_validate_json(data).metadata, file, where, warehouse)
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise ProjectError(
            f"{file} is not a dbt manifest: {place}: {first['msg']}", where, _WRITE_IT, code="P047"
        ) from error
    _refuse_unfit(read.metadata, file, where, warehouse)
    return DbtManifest(
        file=file,
        project_name=read.metadata.project_name,
        dbt_version=read.metadata.dbt_version,
        catalog=catalog,
        nodes=tuple(read.nodes.values()),
        sources=tuple(read.sources.values()),
        disabled=tuple(node for nodes in read.disabled.values() for node in nodes),
    )


def missing_manifest(file: str, why: str, where: Location) -> ProjectError:
    hint = f"{_WRITE_IT}; its location is set by dbt.project_dir and dbt.target_path"
    return ProjectError(f"cannot read {file}: {why}", where, hint, code="P047")


def _refuse_unfit(metadata: _Metadata, file: str, where: Location, warehouse: str) -> None:
    schema = re.search(r"/v(\d+)\.json$", metadata.dbt_schema_version)
    if schema and int(schema[1]) < OLDEST_SCHEMA:
        what = f"{file} was written by dbt {metadata.dbt_version}, which is too old"
        raise ProjectError(
            what, where, "retl supports dbt 1.8 and newer: upgrade dbt, then run `dbt parse`", code="P047"
        )
    if metadata.adapter_type != warehouse:
        what = (
            f"{file} belongs to a dbt project on {metadata.adapter_type}, but the warehouse is {WAREHOUSES[warehouse]}"
        )
        raise ProjectError(what, where, f"only projects built with dbt-{warehouse} can be read", code="P047")


def _only_package(found: list[N], root: str, what: str, hint: Callable[[Iterable[N]], str]) -> list[N]:
    """Those of the dbt project itself, or else of the one package that has any, as dbt chooses."""
    packages = {node.package_name: node for node in found}
    if root in packages or len(packages) < 2:
        return [node for node in found if node.package_name == root] or found
    raise TemplateProblem(f"{what} (in packages {', '.join(packages)})", hint(packages.values()), code="P038")


def _only_version(found: list[Node], version: Version | None) -> Node:
    """The version asked for, or the latest."""
    for node in found:
        if str(node.version) == str(node.latest_version if version is None else version):
            return node
    versions = [f"v={node.version!r}" for node in found if node.version is not None]
    what = f"ref(): dbt's {found[0].package_name}.{found[0].name} has no version {version}"
    if version is None:
        what = f"ref(): the latest version of dbt's {found[0].package_name}.{found[0].name} is not enabled"
    raise TemplateProblem(
        what, f"one of: {', '.join(versions)}" if versions else "the model has no versions: remove v=", code="P048"
    )


def _use(nodes: Iterable[Node]) -> str:
    calls = [f"ref('{node.package_name}', '{node.name}')" for node in nodes]
    return f"use {' or '.join(calls)}"


def _build_on(tables: Iterable[SourceTable]) -> str:
    return f"build a dbt model on {' or '.join(table.unique_id for table in tables)}, and ref() that model"


def _plain(relation_name: str) -> str:
    return relation_name.replace('"', "").casefold()
