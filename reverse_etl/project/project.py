"""Finds and reads a project. The only reader of its files and of the environment.

syncs.yml   syncs/**/*.yml   models/**/*.sql   macros/**/*.sql   seeds/*.csv   .env      what the user writes
<dbt project>/target/manifest.json                    what dbt has built, if `dbt:` defines a project
.retl/<target>/<sync>/                                state, never in git, unless state.path is set
target/compiled/*.sql                                 artifacts, as dbt names them
"""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

from reverse_etl.errors import Location, Problem, ProjectError, nearest
from reverse_etl.network.network import Network
from reverse_etl.network.proxies import names_proxy, proxy_secrets
from reverse_etl.project.attached import Attached, attached_at
from reverse_etl.project.collected import current, parts_of, select
from reverse_etl.project.dbt_manifest import DbtManifest, Relation, missing_manifest, read_manifest
from reverse_etl.project.environment import Library, TemplateProblem
from reverse_etl.project.fields import Strict
from reverse_etl.project.files import dotenv_of, library_of, models_of, own_file, spec_file, sync_files_of, text_of
from reverse_etl.project.graph import Graph
from reverse_etl.project.jinja import environment_variables, is_credential, render, to_set, variables, variables_read
from reverse_etl.project.lock_file import LOCK_FILE, Lock, lock_text, parse_lock
from reverse_etl.project.model_config import note_on_configs
from reverse_etl.project.models import Compiled, Given, Model, RunValues, compile_model
from reverse_etl.project.reader import Surroundings, read_spec
from reverse_etl.project.spec import SPEC_FILE, Spec, Sync
from reverse_etl.project.spec_alerts import SECRETS
from reverse_etl.project.spec_collect import COLLECT_KEYS
from reverse_etl.project.spec_targets import SANDBOX, WAREHOUSES, DuckDB, is_url
from reverse_etl.project.template_uses import Needed, needed, variables_in, variables_of
from reverse_etl.redaction import keep_secret
from reverse_etl.sql.quoting import catalog
from reverse_etl.system.clock import Clock
from reverse_etl.system.disk import remedy
from reverse_etl.system.private_files import NEVER_READ, create_ignored, is_private, write_whole

FIXTURES = "tests/fixtures"
RETL_FOLDER = ".retl"
C = TypeVar("C", bound=Strict)


# Keys that the digests of saved plans and manifests were made without: they count only where they are set.
_ADDED_LATER = ("quarantine", "consent", "strict", "catalog")


@dataclass(frozen=True)
class LoadedProject:
    """A project as it was read, for one target."""

    folder: Path
    spec: Spec
    models: Mapping[str, Model]
    seeds: Mapping[str, Path]
    environ: Mapping[str, str]
    started_at: datetime
    scheduled_time: datetime  # of a run of this project
    library: Library  # macros, and files that models include
    _needed: dict[str, Needed] = field(default_factory=dict, repr=False, compare=False)

    def scheduled_at(self, moment: datetime) -> "LoadedProject":
        """The same project, for a run with another scheduled time."""
        return replace(self, scheduled_time=moment)

    @property
    def target_name(self) -> str:
        return self.spec.target_name

    @property
    def warehouse(self) -> Path | None:
        """The DuckDB file of the target; None if its models read files only, what is `attached`, or run elsewhere."""
        own = self.spec.target.warehouse
        if not isinstance(own, DuckDB) or not own.path or self.attached:
            return None
        return self.folder / Path(own.path).expanduser()

    @property
    def attached(self) -> Attached | None:
        """What DuckDB attaches with an extension as the warehouse of the target; None if it is a file, or elsewhere."""
        own = self.spec.target.warehouse
        return attached_at(own.path, self.folder) if isinstance(own, DuckDB) and own.path else None

    def warehouse_secret(self, key: str) -> str | None:
        """The value of a key of the warehouse that comes from the environment; None if it is not there.

        Raises ProjectError, which never contains it.
        """
        text = getattr(self.spec.target.warehouse, key)
        names = {"env_var": environment_variables(self.environ, is_for_secret=True), "var": variables(self.spec.vars)}
        where = self.spec.in_target("warehouse", key)
        value = render(text, names, where).strip() if text is not None else None
        if value == "":
            what = f'"{key}" of the warehouse is empty'
            raise ProjectError(what, where, to_set(variables_read(text).names), code="P024")
        return value

    @property
    def catalog(self) -> str:
        """The name under which models find the tables of a DuckDB file, or of what is attached."""
        if self.attached:
            return self.attached.name
        return catalog(self.warehouse.name) if self.warehouse else "memory"

    @property
    def target_folder(self) -> Path:
        return self.folder / RETL_FOLDER / self.target_name

    @property
    def uses_sandbox(self) -> bool:
        return self.spec.target.destination.endpoint == SANDBOX

    @property
    def sandbox_file(self) -> Path:
        """Where the sandbox stores what it received under this target, or under its previous name."""
        file, former = self.target_folder / "sandbox.sqlite", self.spec.target.renamed_from
        before = self.folder / ".retl" / (former or self.target_name) / "sandbox.sqlite"
        return before if before.exists() and not file.exists() else file

    @cached_property
    def network(self) -> Network:
        """What all connections go by: proxies and certificates, from the environment and .env."""
        return Network(self.environ)

    @property
    def states_folder(self) -> Path:
        """Where the states of all targets are stored, or the copies of those that are in an object store."""
        place = self.spec.target.state.path
        return self.folder / (Path(place).expanduser() if place and not is_url(place) else ".retl")

    @property
    def states_url(self) -> str | None:
        """Where the states of all targets are in an object store, if they are."""
        place = self.spec.target.state.path
        return place.rstrip("/") if place and is_url(place) else None

    def former_names(self, sync: Sync) -> list[tuple[str, str]]:
        """The names that a sync and its target had before, the latest first; none if neither was renamed."""
        targets = [self.target_name, self.spec.target.renamed_from]
        names = [(name, target) for target in targets for name in (sync.name, sync.renamed_from) if name and target]
        return [(name, target) for name, target in names if (name, target) != (sync.name, self.target_name)]

    def sync(self, name: str) -> Sync:
        """The sync of that name. Raises ProjectError, with the nearest name as a hint."""
        found = self.by_name.get(name)
        if found is None:
            raise ProjectError(f'unknown sync "{name}"', hint=nearest(name, self.sync_names), code="P015")
        return found

    @cached_property
    def by_name(self) -> Mapping[str, Sync]:
        return {sync.name: sync for sync in self.spec.syncs}

    @property
    def sync_names(self) -> list[str]:
        return [sync.name for sync in self.spec.syncs]

    def api_key(self) -> str:
        """The API key, from the environment. Raises ProjectError, which never contains it, if it is not valid."""
        where = self.spec.in_target("destination", "api_key")
        names = {"env_var": environment_variables(self.environ, is_for_secret=True), "var": variables(self.spec.vars)}
        template = self.spec.target.destination.api_key or ""
        key = render(template, names, where).strip()
        if not key:
            raise ProjectError("the API key is empty", where, to_set(variables_read(template).names), code="P024")
        if not all("!" <= character <= "~" for character in key):
            hint = "set the environment variable again: without blanks, line breaks, or letters outside ASCII"
            raise ProjectError("the API key contains a character that no API key has", where, hint, code="P024")
        return key

    @property
    def collect_folder(self) -> Path:
        """Where what `retl collect` accepts is kept. Raises ProjectError if it cannot be there."""
        assert self.spec.collect
        text = self.spec.collect.path
        folder = self.folder / Path(text).expanduser()
        why = _unusable(text, folder.resolve(), self.folder.resolve())
        if why:
            place = self.spec.positions.of_value(("collect", "path"))
            raise ProjectError(f'"path" in "collect" {why}', place, "use a folder of its own: collected", code="P119")
        return folder

    def collected(self, source: str, table: str) -> Given:
        """The records of a table of `collect`, as they are now. Raises ProjectError if its folder cannot be read.

        What is newer than the last file of the collector, a minute, is not among them.
        """
        collect, folder = self.spec.collect, self.collect_folder.absolute() / source / table
        assert collect
        try:
            names = os.listdir(folder) if folder.exists() else []
        except OSError as error:
            raise ProjectError(f"cannot read {folder}: {error.strerror}", code="P002") from error
        keep, found = collect.keep_of(source, table), collect.sources[source].tables[table]
        parts = [part for part in current(parts_of(names)) if not part.is_over(self.started_at, keep)]
        where = self.spec.positions.of_value(("collect", "sources", source, "tables", table))
        return Given(select([str(folder / part.name) for part in parts], found.columns), where)

    def collect_keys(self, source: str) -> tuple[str, ...]:
        """The keys that requests to a source of `collect` may have, from the environment.

        Raises ProjectError, which contains none, for one that is empty or that no request could have.
        """
        assert self.spec.collect
        names = {"env_var": environment_variables(self.environ, is_for_secret=True), "var": variables(self.spec.vars)}
        found = list[str]()
        for index, template in enumerate(self.spec.collect.sources[source].keys):
            where = self.spec.positions.of_value(("collect", "sources", source, COLLECT_KEYS, index))
            key = render(template, names, where).strip()
            if not key or not all("!" <= character <= "~" for character in key):
                what = "is empty" if not key else "contains a blank, or a character outside ASCII"
                hint = to_set(variables_read(template).names)
                raise ProjectError(f'a key of source "{source}" {what}', where, hint, code="P024")
            keep_secret(key)
            found.append(key)
        return tuple(found)

    def rendered(self, channel: C) -> C:
        """An alert, or a heartbeat, with its secrets from the environment. Raises ProjectError, which contains none."""
        names = {"env_var": environment_variables(self.environ, is_for_secret=True), "var": variables(self.spec.vars)}
        keys = [key for key in SECRETS if key in type(channel).model_fields]
        found: C = channel.model_copy(update={key: _with(names, getattr(channel, key)) for key in keys})
        return found

    @cached_property
    def dbt(self) -> DbtManifest:
        """What the dbt project has built; read when it is first asked for. Raises ProjectError at the `dbt:` key."""
        where = self.spec.positions.of_key(("dbt",))
        if self.spec.dbt is None:
            hint = "add dbt: {project_dir: ../shop}"
            raise ProjectError(f"{SPEC_FILE} does not define a dbt project", Location(SPEC_FILE), hint, code="P043")
        file = Path(self.spec.dbt.project_dir).expanduser() / self.spec.dbt.target_path / "manifest.json"
        try:
            data = (self.folder / file).read_bytes()
        except OSError as error:
            raise missing_manifest(str(file), error.strerror or "?", where) from error
        dialect = self.spec.dialect
        return read_manifest(data, str(file), self.catalog if dialect == "duckdb" else None, where, dialect)

    def reads(self, sync: Sync) -> list[Relation]:
        """What the ref() and source() of a sync's models resolve to, in full and in incremental runs."""
        cursors = (None, "NULL") if sync.incremental else (None,)
        return list(dict.fromkeys(read for cursor in cursors for read in self.compiled(sync.model, cursor).reads))

    def fingerprint(self, sync: Sync) -> str:
        """A digest of what decides what a sync sends, except rows and target: its keys, its models and their vars."""
        texts = {name: self.models[name].text for name in self.graph.models_of(sync.model)}
        used, worked_out, shared = frozenset[str](), False, dict[str, str]()
        for name in texts:
            words, more = self.needed(name).words("var")
            used, worked_out = used | words, worked_out or more
            shared |= self.needed(name).files
        no_matter = {"description", "renamed_from", "tags", "after", "guards", "schedule", "timezone", "delay"}
        no_matter |= {"shares", "suppresses", "keep_removed", "ledger", "owner", "columns"}
        keys = sync.model_dump(mode="json", by_alias=True, exclude=no_matter)
        for name in _ADDED_LATER:
            if name not in sync.model_fields_set:
                del keys[name]
        if sync.incremental:  # digests of saved plans and manifests go by its first name
            keys["incremental"]["keep"] = keys["incremental"].pop("retention")
        said = {
            "sync": keys,
            "models": texts,
            "vars": {name: value for name, value in self.spec.vars.items() if worked_out or name in used},
            **({"files": shared} if shared else {}),
        }
        try:
            text = json.dumps(said, sort_keys=True, default=str)
        except TypeError:  # keys in vars that are dates, or of several types: JSON has no such mapping
            text = repr(said)
        return sha256(text.encode()).hexdigest()

    @cached_property
    def graph(self) -> Graph:
        """What is built from what. All branches of a model count, taken or not: nothing is run to find out."""
        files = {name: model.file for name, model in self.models.items()}
        refs = {name: self._refs(model) for name, model in self.models.items()}
        sources = {name: self._sources(name) for name in self.models}
        return Graph(self.spec.syncs, files, refs, self.seeds.keys(), sources)

    def _sources(self, model: str) -> list[str]:
        """The sources that a model names in quotes, as `shop.orders`."""
        calls = [call[:2] for call in self.needed(model).calls("source")]
        return sorted({f"{call[0]}.{call[1]}" for call in calls if len(call) == 2 and None not in call})

    def needed(self, model: str) -> Needed:
        """What a model uses of the project: in its own text, in macros, and in files that it includes."""
        found = self._needed.get(model)
        if found is None:
            found = self._needed[model] = needed(self.models[model].text, self.library)
        return found

    def unread_variables(self, given: Mapping[str, Any], files: Sequence[str]) -> list[Problem]:
        """Variables of the command line that no model, no macro and none of the `files` of the project reads; none if
        a name may be worked out."""
        read = set(self.spec.positions.keys_at(("vars",)))
        if not given.keys() - read:
            return []
        texts = [model.text for model in self.models.values()]
        included = (file for name in self.models for file in self.needed(name).files)
        for file in {*self.library.macros.values(), *included}:
            with suppress(TemplateProblem):  # reported when a model that needs it is compiled
                texts.append(self.library.text(file))
        for words, is_worked_out in [*map(variables_of, texts), *map(variables_in, files)]:
            read |= words
            if is_worked_out:
                return []
        return [
            Problem(
                f'--vars: nothing reads the variable "{name}"',
                hint=nearest(name, sorted(read)) or f"remove it, or read it in a model: {{{{ var('{name}') }}}}",
                code="P150",
            )
            for name in given
            if name not in read
        ]

    def note_on_configs(self, models: Iterable[str]) -> Problem | None:
        """What is said of the keys of dbt in these models and in those that they are built from, if there are any."""
        built = (one for name in models if name in self.models for one in (name, *self.graph.models_of(name)))
        used = [self.models[name] for name in dict.fromkeys(built)]
        return note_on_configs({model.file: model.text for model in used})

    def _refs(self, model: Model) -> frozenset[str]:
        words, worked_out = self.needed(model.name).words("ref")
        if worked_out:  # then only Jinja knows; a model that it cannot read is reported when it is compiled
            with suppress(ProjectError):
                words |= set(self.compile(model.name).refs)
        return words

    def compile(self, name: str, cursor: str | None = None) -> Compiled:
        """The SQL of a model, also written to target/compiled/. Raises ProjectError at the model's line.

        `cursor` is the SQL of the value that an incremental run reads from.
        """
        compiled = self.compiled(name, cursor)
        self.write_compiled(compiled)
        return compiled

    def compiled(self, name: str, cursor: str | None = None) -> Compiled:
        """The same, without writing it."""
        if name not in self.models:
            hint = nearest(name, self.models)
            raise ProjectError(f'unknown model "{name}"', Location(f"models/{name}.sql"), hint, code="P016")
        return compile_model(name, self.models, self.run_values(cursor))

    def run_values(self, cursor: str | None = None) -> RunValues:
        """The values that models can use in a run."""
        return RunValues(
            vars=self.spec.vars,
            environ=self.environ,
            secrets=self.spec.secrets,
            target_name=self.target_name,
            sources=self.spec.sources,
            seeds=self.seeds.keys(),
            collect=self.spec.collect,
            collected=self.collected,
            run_started_at=self.started_at,
            scheduled_time=self.scheduled_time,
            cursor=cursor,
            dbt=(lambda: self.dbt) if self.spec.dbt else None,
            dialect=self.spec.dialect,
            library=self.library,
        )

    def write_compiled(self, compiled: Compiled) -> None:
        """Write the SQL of a model where users, and error messages, look for it."""
        path = self.folder / compiled.compiled_file
        try:
            create_ignored(self.folder / "target")
            write_whole(path, compiled.sql)
        except OSError as error:
            hint = remedy(error, "make the project folder writable: retl writes compiled models there")
            raise ProjectError(f"cannot write {path}: {error.strerror}", hint=hint, code="P079") from error

    def lock(self) -> Lock | None:
        """The names and types in braze.lock.yml, if there is one. Raises ProjectError with every error in it."""
        path = self.folder / LOCK_FILE
        return parse_lock(text_of(own_file(self.folder, path), "")) if path.exists() or path.is_symlink() else None

    def write_lock(self, lock: Lock) -> None:
        """Write braze.lock.yml, readable like other files of the project. A link in its place is replaced."""
        path = self.folder / LOCK_FILE
        try:
            write_whole(path, lock_text(lock))
            path.chmod(0o644)
        except OSError as error:
            hint = remedy(error, "make its folder writable for the current user")
            raise ProjectError(f"cannot write {path}: {error.strerror}", hint=hint, code="P079") from error

    def fixture(self, file: str, where: Location) -> str:
        """The text of a file in tests/fixtures/, where dbt has rows of unit tests too. `where` refers to it."""
        path = own_file(self.folder, self.folder / FIXTURES / file)
        if not path.exists():
            there = [other.name for other in (self.folder / FIXTURES).glob(f"*{path.suffix}")]
            raise ProjectError(f"{FIXTURES}/{file} does not exist", where, nearest(file, there), code="P090")
        return text_of(path, "")

    @property
    def seeded(self) -> Path:
        """The DuckDB file that seeds are loaded into. Raises ProjectError if the target has none."""
        if self.spec.dialect != "duckdb":
            what = (
                f'retl loads seeds into DuckDB, and target "{self.target_name}" runs in {WAREHOUSES[self.spec.dialect]}'
            )
            hint = "load them with `dbt seed`, and add dbt: {project_dir: ...}"
            raise ProjectError(what, self.spec.in_target("warehouse"), hint, code="P058")
        if self.attached:
            what = f"retl loads seeds into a DuckDB file, and only reads {self.attached.address}"
            hint = "load them with `dbt seed`, and add dbt: {project_dir: ...}"
            raise ProjectError(what, self.spec.in_target("warehouse", "path"), hint, code="P058")
        if self.warehouse is None:
            what = f'the warehouse of target "{self.target_name}" has no file that seeds could be loaded into'
            hint = "add path: warehouse.duckdb; or read the file in a model: SELECT * FROM 'seeds/countries.csv'"
            raise ProjectError(what, self.spec.in_target("warehouse"), hint, code="P058")
        return self.warehouse

    def refuse_seeds_of_dbt(self) -> None:
        """Raises ProjectError if a seed of this project would replace a relation that dbt builds."""
        made = self.dbt.relations if self.spec.dbt and self.seeds else {}
        for name, path in self.seeds.items():
            node = made.get(f"{self.catalog}.main.{name}".casefold())
            if node:
                what = f"this seed would replace {node.relation_name}, which dbt builds from {node.unique_id}"
                place = Location(path.relative_to(self.folder).as_posix())
                hint = f"rename the seed; without it, ref('{node.name}') resolves to the relation in dbt"
                raise ProjectError(what, place, hint, code="P049")


def load_project(
    folder: Path,
    target: str | None = None,
    cli_vars: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    needs_target: bool = True,
) -> LoadedProject:
    """Read the project in `folder`. Raises ProjectError with every error in its syncs.yml, and with every one of
    `cli_vars` that nothing in it reads.

    Without `needs_target`, the settings of the target are not rendered, so the environment variables that they use do
    not have to be set.
    """
    text = text_of(spec_file(folder), "create a project here with `retl init`, or pass --project-dir")
    dotenv = dotenv_of(folder / ".env")
    environ = {**dotenv, **(os.environ if environ is None else environ)}
    _keep_secret(environ, filter(is_credential, environ))
    models = models_of(folder)
    given = Surroundings(environ, cli_vars or {}, target, needs_target)
    spec = read_spec(text, models.keys(), given, sync_files_of(folder))
    seeds = {path.stem: own_file(folder, path) for path in sorted((folder / "seeds").glob("*.csv"))}
    started_at = Clock().utc()
    project = LoadedProject(folder, spec, models, seeds, environ, started_at, started_at, library_of(folder))
    _keep_secret(environ, spec.secrets)
    if problems := project.unread_variables(cli_vars or {}, [text, *sync_files_of(folder).values()]):
        raise ProjectError(problems)
    if spec.chosen and not project.uses_sandbox:
        with suppress(ProjectError):  # of who needs it
            keep_secret(project.api_key())
    return project


def _keep_secret(environ: Mapping[str, str], names: Iterable[str]) -> None:
    for name in names:
        value = environ.get(name, "")
        for secret in proxy_secrets(value) if names_proxy(name) else _of_url(value):
            keep_secret(secret)


def _of_url(value: str) -> list[str]:
    """What is secret in a value: of a URL, such as that of a webhook, the parts behind the host; of the address of a
    database the password; else all of it."""
    if re.match("postgres(ql)?://", value):
        found = re.search(r"//[^:/?#]*:(.*)@|[?&]password=([^&]*)", value)
        return [unquote(part) for part in found.groups() if part] if found else []
    return re.split(r"[/?&=#]+", value.partition("://")[2])[1:] if re.match("https?://", value) else [value]


def _with(names: Mapping[str, Any], value: Any) -> Any:
    """A secret, or several by name, rendered."""
    if isinstance(value, dict):
        return {name: _with(names, one) for name, one in value.items()}
    return render(value, names, Location(SPEC_FILE)).strip() if isinstance(value, str) else value


def _unusable(text: str, place: Path, project: Path) -> str | None:
    """Why a folder cannot be that of `collect`; None if it can."""
    if is_url(text):
        return "must be a folder, not a URL"
    if project.is_relative_to(place):
        return "contains this project"
    if any(mark in str(place) for mark in "*?["):
        return "contains *, ? or [, which DuckDB takes for a pattern"
    if any(is_private(part) for part in place.parts) or any(place.is_relative_to(one) for one in NEVER_READ):
        return "is private, and models never read it"
    return None
