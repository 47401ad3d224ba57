"""The files in target/ for other programs: manifest.json, run_results.json, plan.json.

Each is one of the classes below, which also give its JSON Schema (`retl schema manifest`). Names are dbt's where the
meaning is the same. None of them contains row values, API keys or environment values, and personal keys are digests.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reverse_etl.delivery.silent_drops import SilentDrop
from reverse_etl.errors import Problem, ProjectError
from reverse_etl.plan.data_tests import DataTestResult
from reverse_etl.plan.outbox import InvalidReason, InvalidRow
from reverse_etl.plan.plan import Plan
from reverse_etl.project.graph import model_id, sync_id
from reverse_etl.project.project import LoadedProject
from reverse_etl.report.as_json import preview_json, problem_json
from reverse_etl.report.descriptions import DESCRIPTIONS
from reverse_etl.report.stderr import shown
from reverse_etl.runs.outcome import CanaryResult, RunResult
from reverse_etl.runs.preview import Preview
from reverse_etl.state.outcomes import DeliveryCounts
from reverse_etl.system.clock import Clock
from reverse_etl.system.disk import remedy
from reverse_etl.system.private_files import create_ignored, write_whole
from reverse_etl.system.streams import printable_json
from reverse_etl.words import as_json

SCHEMA_VERSION = 2  # removing a field or changing its meaning raises it; adding one does not
FOLDER = "target"
# Names of fields and statuses of run_results.json in version 1, and their names now.
_NAMES_OF_1 = {
    **{"fates": "delivery", "maybe_twice": "possible_duplicates"},
    **{"remembered": "previously_rejected", "adopted": "marked_accepted"},
    **{"mistakes": "errors", "what": "message", "where": "location"},
}
_STATUSES_OF_1 = {"stopped": "blocked", "done": "already_run"}


class Metadata(BaseModel):
    """How this artifact was produced."""

    model_config = ConfigDict(extra="ignore")
    artifact: str = Field(description="type of this artifact: manifest, run-results or plan")
    retl_schema_version: int = Field(description="schema version of this artifact")
    retl_version: str = Field(description="version of retl that wrote this artifact")
    generated_at: datetime = Field(description="time when this artifact was written")
    invocation_id: str = Field(
        description="id of the invocation; the same in all artifacts and log lines of one command"
    )
    command: str = Field(description="name of the command: sync, plan, ls, ...")
    target: str = Field(description="target of syncs.yml that the command used")


class Checksum(BaseModel):
    """The checksum of a file."""

    name: Literal["sha256"] = Field("sha256", description="algorithm of the checksum")
    checksum: str = Field(description="checksum of the file's bytes, in hexadecimal")


class DependsOn(BaseModel):
    """What a node is built from."""

    nodes: list[str] = Field(description="direct parents: what it is built from, or runs after")


class ManifestSync(BaseModel):
    """A sync."""

    unique_id: str = Field(description="id of the sync in this manifest: sync.NAME")
    name: str = Field(description="name of the sync")
    model: str = Field(description="name of the sync's model")
    path: str = Field(description="path of its model's file, relative to the project folder")
    tags: list[str] = Field(description="tags of the sync")
    config: dict[str, Any] = Field(description="its keys as written in syncs.yml; Jinja is not rendered")
    depends_on: DependsOn = Field(description="what the sync is built from, or runs after")
    fingerprint: str = Field(description="changes when its keys, its models or their vars change")


class ManifestModel(BaseModel):
    """A model."""

    unique_id: str = Field(description="id of the model in this manifest: model.NAME")
    name: str = Field(description="name of the model")
    path: str = Field(description="path of the model's file, relative to the project folder")
    refs: list[str] = Field(description="names of the models and seeds that it refers to")
    checksum: Checksum = Field(description="checksum of the model's file")
    depends_on: DependsOn = Field(description="what the model is built from")


class Manifest(BaseModel):
    """The project: its syncs and models, and what is built from what. Written by commands that read the project."""

    metadata: Metadata = Field(description="how this artifact was produced")
    syncs: dict[str, ManifestSync] = Field(description="syncs, by id")
    models: dict[str, ManifestModel] = Field(description="models, by id")
    parent_map: dict[str, list[str]] = Field(description="ids of the direct parents of every node, by id of the node")
    child_map: dict[str, list[str]] = Field(description="ids of the direct children of every node, by id of the node")


class FileLocation(BaseModel):
    """A location in a project file."""

    file: str = Field(description="path of the file, relative to the project folder")
    line: int = Field(description="line in the file, from 1; 0 means unknown")
    column: int = Field(description="column in the line, from 1; 0 means unknown")


class Error(BaseModel):
    """An error: message, location, hint and code."""

    message: str = Field(description="what is wrong")
    location: FileLocation | None = Field(description="location in a project file; null if there is none")
    hint: str | None = Field(description="how to fix the error; null if there is no hint")
    code: str | None = Field(default=None, description="code of the error: `retl explain CODE` says more")


class Timing(BaseModel):
    """A phase of a run."""

    name: Literal["plan", "execute"] = Field(
        description="phase: plan (run the model, compute the changes) or execute (send, record the responses)"
    )
    started_at: datetime = Field(description="time when the phase started")
    completed_at: datetime = Field(description="time when the phase ended")


class Result(BaseModel):
    """The result of one sync."""

    unique_id: str = Field(description="id of the sync, as in manifest.json")
    sync: str = Field(description="name of the sync")
    mode: str = Field(description="mode of the sync, with its track_record_type if it has one")
    target: str = Field(description="target that the sync ran for")
    status: str = Field(
        description="success, incomplete, blocked, failed, interrupted or skipped; running or already_run: handled by "
        "another process"
    )
    timing: list[Timing] = Field(description="phases of the run that were completed")
    execution_time: float = Field(description="duration of the run, in seconds")
    message: str | None = Field(description="messages of the errors, joined; null if there are none")
    failures: int | None = Field(description="number of rows that should be in Braze but are not, or may not be")
    run_id: str | None = Field(description="run id, as shown by `retl history` and stored in the state")
    plan: Plan | None = Field(description="counts of the planned run; null if the run ended before it had a plan")
    delivery: DeliveryCounts | None = Field(
        description="result of the delivery of the run's records; null if the run ended before it had a plan"
    )
    invalid_rows: list[InvalidRow] = Field(
        description="the first invalid rows, ordered by key; one entry for each column that breaks a rule"
    )
    invalid_reasons: list[InvalidReason] = Field(
        default=[], description="why rows are invalid, the most frequent reason first; a row may count for several"
    )
    left_out_rows: list[InvalidRow] = Field(
        default=[], description="the first rows without some columns, ordered by key; one entry for each such column"
    )
    left_out_reasons: list[InvalidReason] = Field(
        default=[], description="why columns are left out, the most frequent reason first"
    )
    withheld_rows: list[InvalidRow] = Field(
        default=[], description="the first rows that the run did not send, or not whole, ordered by key"
    )
    silent_drops: list[SilentDrop] = Field(
        default=[],
        description="what the sandbox accepted and did not store as sent, the most frequent first; Braze reports none",
    )
    canary: CanaryResult | None = Field(
        default=None, description="the rows that were sent first and read back; null without --canary, or if none was"
    )
    errors: list[Error] = Field(description="what went wrong")


class RunResults(BaseModel):
    """The last run: the result of every sync. Written by sync, retry and apply, also when they are interrupted."""

    metadata: Metadata = Field(description="how this artifact was produced")
    results: list[Result] = Field(description="results of the syncs, in the order in which they ran")
    elapsed_time: float = Field(description="duration of the command, in seconds")
    args: dict[str, Any] = Field(description="arguments and options of the command")


class Load(BaseModel):
    """What the requests of a sync use of a rate limit."""

    rate_limit: str = Field(description="name of the rate limit, as in `rate_limits` of a target")
    requests: int = Field(description="number of requests")
    seconds: float = Field(description="time that they take, in seconds")
    requests_per_second: float | None = Field(description="requests per second; null if they take no time")
    left_per_second: float | None = Field(
        description="requests per second that are left to others meanwhile; null if they take no time"
    )


class PlannedSync(BaseModel):
    """What a run of a sync would do."""

    model_config = ConfigDict(extra="allow")
    sync: str = Field(description="name of the sync")
    mode: str = Field(description="mode of the sync, with its track_record_type if it has one")
    target: str = Field(description="target that the plan is for")
    depends_on: list[str] = Field(description="ids of the dbt resources that the sync's models read")
    run_id: str
    rows: int
    in_state: int
    added: int
    changed: int
    removed: int
    absent: int
    unchanged: int
    invalid: int
    left_out: int
    previously_rejected: int
    withheld: int
    quarantined: int
    held: int
    given_up: int
    baselined: int
    marked_accepted: int
    suppressed: int
    uncertain: int
    opt_outs: int
    to_send: int
    deletes: int
    attributes: int
    data_points: int
    to_send_by_kind: dict[str, int] = {}
    not_sent: dict[str, int] = {}
    requests: dict[str, int]
    bytes: int
    since: str | None
    dropped: list[str]
    data_tests: list[DataTestResult]
    columns: dict[str, int] = Field(description="number of records that contain each column")
    new_columns: list[str] = Field([], description="columns that no run before has sent; empty before the first run")
    is_incomplete: bool = Field(
        False, description="whether a run would not send every row whole, be incomplete, and exit with 1"
    )
    seconds_at_rate_limit: float = Field(description="time that the requests take at the rate limit, in seconds")
    rate_limits: list[Load] = Field(description="what the requests use of the rate limits, and leave to others")
    finish_by: datetime | None = Field(description="time of --finish-by; null without it")
    estimated_end: datetime | None = Field(
        description="time when a run would be done that starts now, after those before it; null without --finish-by"
    )
    invalid_rows: list[InvalidRow] = Field(
        description="the first invalid rows, ordered by key; one entry for each column that breaks a rule"
    )
    invalid_reasons: list[InvalidReason] = Field(
        description="why rows are invalid, the most frequent reason first; a row may count for several"
    )
    left_out_rows: list[InvalidRow] = Field(
        description="the first rows without some columns, ordered by key; one entry for each such column"
    )
    left_out_reasons: list[InvalidReason] = Field(
        description="why columns are left out, the most frequent reason first"
    )
    withheld_rows: list[InvalidRow] = Field(
        description="the first rows that a run would not send, or not whole, ordered by key"
    )
    blocked_by: list[Error] = Field(description="what would block this plan from being sent")


class PlanArtifact(BaseModel):
    """The last plan: for each sync, what `retl plan --output json` prints."""

    metadata: Metadata = Field(description="how this artifact was produced")
    plans: list[PlannedSync] = Field(description="plans of the syncs, in the order in which they run")


ARTIFACTS: Mapping[str, tuple[str, type[BaseModel]]] = {
    "manifest": ("manifest.json", Manifest),
    "run-results": ("run_results.json", RunResults),
    "plan": ("plan.json", PlanArtifact),
}
About = Callable[[str], Metadata]


def artifact_schema(name: str) -> dict[str, Any]:
    """The JSON Schema of an artifact."""
    file, model = ARTIFACTS[name]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema_of(model), "title": file}


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of one of the classes, with a description of every field."""
    schema = model.model_json_schema(mode="serialization")
    for name, texts in DESCRIPTIONS.items():
        for field, text in texts.items() if name in schema["$defs"] else ():
            schema["$defs"][name]["properties"][field]["description"] = text
    return schema


def manifest(project: LoadedProject, about: About) -> Manifest:
    graph = project.graph
    return Manifest(
        metadata=about("manifest"),
        syncs={
            sync_id(sync.name): ManifestSync(
                unique_id=sync_id(sync.name),
                name=sync.name,
                model=sync.model,
                path=graph.files[sync.model],
                tags=list(sync.tags),
                config=dict(sync.as_written),
                depends_on=DependsOn(nodes=list(graph.parents[sync_id(sync.name)])),
                fingerprint=project.fingerprint(sync),
            )
            for sync in project.spec.syncs
        },
        models={
            model_id(name): ManifestModel(
                unique_id=model_id(name),
                name=name,
                path=model.file,
                refs=sorted(graph.refs[name]),
                checksum=Checksum(checksum=sha256(model.text.encode()).hexdigest()),
                depends_on=DependsOn(nodes=list(graph.parents[model_id(name)])),
            )
            for name, model in project.models.items()
        },
        parent_map={node: list(parents) for node, parents in graph.parents.items()},
        child_map={node: list(children) for node, children in graph.children.items()},
    )


def run_results(
    results: Sequence[RunResult], about: About, elapsed_s: float, arguments: Mapping[str, Any]
) -> RunResults:
    found = [_result(result) for result in results]
    return RunResults(
        metadata=about("run-results"), results=found, elapsed_time=round(elapsed_s, 3), args=dict(arguments)
    )


def _result(result: RunResult) -> Result:
    plan, delivery = result.plan, result.delivery
    failures = plan.kept_back + delivery.rejected + delivery.in_doubt + delivery.unsent if plan and delivery else None
    return Result(
        unique_id=sync_id(result.sync),
        sync=result.sync,
        mode=result.mode,
        target=result.target,
        status=result.status,
        timing=[
            Timing(name=name, started_at=started_at, completed_at=completed_at)
            for name, started_at, completed_at in result.timing
        ],
        execution_time=round(result.duration_s, 3),
        message="; ".join(problem.message for problem in result.errors) or None,
        failures=failures,
        run_id=plan.run_id if plan else None,
        plan=plan,
        delivery=delivery,
        invalid_rows=list(result.invalid),
        invalid_reasons=list(result.reasons),
        left_out_rows=list(result.left_out),
        left_out_reasons=list(result.left_out_reasons),
        withheld_rows=list(result.withheld),
        silent_drops=list(result.silent_drops),
        canary=result.canary,
        errors=[_error(problem) for problem in result.errors],
    )


def _error(problem: Problem) -> Error:
    return Error.model_validate(problem_json(problem))


def plan_artifact(previews: Sequence[Preview], about: About) -> PlanArtifact:
    plans = [PlannedSync.model_validate(preview_json(preview)) for preview in previews]
    return PlanArtifact(metadata=about("plan"), plans=plans)


def write(project: LoadedProject, artifact: BaseModel) -> Path:
    """Write an artifact to target/ atomically, readable by its owner only. Raises ProjectError if that fails."""
    name = next(file for file, model in ARTIFACTS.values() if isinstance(artifact, model))
    path = project.folder / FOLDER / name
    try:
        create_ignored(path.parent)
        write_whole(path, printable_json(as_json(_shown(artifact)), "utf-8") + "\n")
    except OSError as error:
        hint = remedy(error, "make the project folder writable: retl writes its artifacts there")
        raise ProjectError(f"cannot write {path}: {error.strerror}", hint=hint, code="P079") from error
    return path


def _shown(artifact: BaseModel) -> dict[str, Any]:
    """An artifact as JSON, without what looks personal in its results or plans: the rest is from the project."""
    values = artifact.model_dump(mode="json")
    return {**values, **{name: shown(values[name]) for name in ("results", "plans") if name in values}}


M = TypeVar("M", Manifest, RunResults)


def read_manifest(folder: Path) -> Manifest:
    """The manifest in a folder. Raises ProjectError if it does not exist, or this version of retl cannot read it."""
    return _read(folder / "manifest.json", Manifest, "manifest", "pass --state a folder that contains a manifest.json")


def last_run(folder: Path) -> RunResults:
    """The results of the last run of the project in a folder. Raises ProjectError if there are none."""
    path = folder / FOLDER / "run_results.json"
    return _read(
        path, RunResults, "run-results", "run `retl sync --all` first, or retry one sync by name: `retl retry NAME`"
    )


def results_in(folder: Path) -> dict[str, str] | None:
    """The status of each sync in the last run whose results are in a folder; None if there are none."""
    path = folder / "run_results.json"
    if not path.exists():
        return None
    return {result.sync: result.status for result in _read(path, RunResults, "run-results", "run again").results}


def _read(path: Path, model: type[M], artifact: str, hint: str) -> M:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ProjectError(f"{path} does not exist", hint=hint, code="P082") from error
    except OSError as error:
        raise ProjectError(f"cannot read {path}: {error.strerror}", hint=hint, code="P082") from error
    except (ValueError, RecursionError) as error:
        raise ProjectError(f"{path} is not JSON", hint=hint, code="P082") from error
    metadata = found.get("metadata") if isinstance(found, dict) else None
    if isinstance(metadata, dict) and "dbt_schema_version" in metadata:
        raise ProjectError(f"{path} was written by dbt, not by retl", hint=hint, code="P082")
    if not isinstance(metadata, dict) or metadata.get("artifact") != artifact:
        raise ProjectError(f"{path} is not a retl artifact of this type", hint=hint, code="P082")
    version = metadata.get("retl_schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        what = f"{path} was written by a newer version of retl (schema {version}; this version reads {SCHEMA_VERSION})"
        raise ProjectError(what, hint="upgrade retl", code="P082")
    if version == 1 and "results" in found:
        found = {**found, "results": _renamed(found["results"])}
    try:
        return model.model_validate(found)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise ProjectError(f"{path} is damaged, at {place}", hint=hint, code="P082") from error


def _renamed(value: Any, key: str = "") -> Any:
    """A value of version 1, which is under `key`, with the names of the current version."""
    if isinstance(value, list):
        return [_renamed(item) for item in value]
    if isinstance(value, dict):
        return {_NAMES_OF_1.get(name, name): _renamed(item, name) for name, item in value.items()}
    return _STATUSES_OF_1.get(value, value) if key == "status" else value


def metadata(artifact: str, invocation_id: str, command: str, target: str, version: str) -> Metadata:
    return Metadata(
        artifact=artifact,
        retl_schema_version=SCHEMA_VERSION,
        retl_version=version,
        generated_at=Clock().utc(),
        invocation_id=invocation_id,
        command=command,
        target=target,
    )
