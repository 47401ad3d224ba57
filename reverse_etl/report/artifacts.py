"""What retl leaves in target/ for other programs: manifest.json, run_results.json, plan.json.

Each is one of the classes below, and so is its JSON Schema (`retl schema manifest`). Names are dbt's where they mean
the same. No value of a row, no secret and no value of the environment is in any of them.
"""

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reverse_etl.errors import Problem, ProjectError
from reverse_etl.plan.outbox import InvalidReason, InvalidRow
from reverse_etl.plan.plan import Plan
from reverse_etl.project.graph import model_id, sync_id
from reverse_etl.project.project import LoadedProject
from reverse_etl.report.as_json import preview_json, problem_json
from reverse_etl.runs.outcome import RunResult
from reverse_etl.runs.preview import Preview
from reverse_etl.state.commit import DeliveryCounts

SCHEMA_VERSION = 1  # a field that goes, or means something else, makes it 2; a new one does not
FOLDER = "target"


class Metadata(BaseModel):
    """Where an artifact comes from."""

    model_config = ConfigDict(extra="ignore")
    artifact: str = Field(description="manifest, run-results or plan")
    retl_schema_version: int = Field(description="of this artifact's form")
    retl_version: str
    generated_at: datetime
    invocation_id: str = Field(description="the same in all that one command leaves behind, its log too")
    command: str = Field(description="sync, plan, ls, ...")
    target: str = Field(description="the target of syncs.yml that the command was for")


class Checksum(BaseModel):
    name: Literal["sha256"] = "sha256"
    checksum: str


class DependsOn(BaseModel):
    nodes: list[str] = Field(description="what it is built from, or comes after, by one step")


class ManifestSync(BaseModel):
    """A sync."""

    unique_id: str
    name: str
    model: str
    path: str = Field(description="of its model's file, from the project's folder")
    tags: list[str]
    config: dict[str, Any] = Field(description="its keys as syncs.yml has them, Jinja not worked out")
    depends_on: DependsOn
    fingerprint: str = Field(description="another one when its keys, its models or their vars have changed")


class ManifestModel(BaseModel):
    """A model."""

    unique_id: str
    name: str
    path: str
    refs: list[str] = Field(description="names of the models and seeds that it refers to")
    checksum: Checksum
    depends_on: DependsOn


class Manifest(BaseModel):
    """The project: its syncs and models, and what is built from what. Written by commands that read the project."""

    metadata: Metadata
    syncs: dict[str, ManifestSync]
    models: dict[str, ManifestModel]
    parent_map: dict[str, list[str]]
    child_map: dict[str, list[str]]


class FileLocation(BaseModel):
    """A place in a file of the project; 0 means that it is not known."""

    file: str
    line: int
    column: int


class Error(BaseModel):
    """A mistake: what is wrong, where it stands, and the way out."""

    message: str
    location: FileLocation | None
    hint: str | None


class Timing(BaseModel):
    """A part of a run: `plan` (the model, what differs), `execute` (sending, and what was answered)."""

    name: Literal["plan", "execute"]
    started_at: datetime
    completed_at: datetime


class Result(BaseModel):
    """What happened to one sync."""

    unique_id: str
    sync: str
    mode: str
    target: str
    status: str = Field(
        description="success, incomplete, blocked, failed, interrupted, skipped; "
        "running or already_run: by another process"
    )
    timing: list[Timing]
    execution_time: float = Field(description="seconds")
    message: str | None
    failures: int | None = Field(description="rows that are to be in Braze and are not, or not surely")
    run_id: str | None = Field(description="as `retl history` and the state have it")
    plan: Plan | None
    delivery: DeliveryCounts | None
    invalid_rows: list[InvalidRow] = Field(description="the first of them, by key")
    errors: list[Error]


class RunResults(BaseModel):
    """The last run: what happened to each sync. Written by sync, retry and apply, also when they are interrupted."""

    metadata: Metadata
    results: list[Result]
    elapsed_time: float = Field(description="seconds")
    args: dict[str, Any] = Field(description="the command's arguments and options")


class PlannedSync(BaseModel):
    """What a run of a sync would do."""

    model_config = ConfigDict(extra="allow")
    sync: str
    mode: str
    target: str
    run_id: str
    rows: int
    added: int
    changed: int
    removed: int
    unchanged: int
    invalid: int
    previously_rejected: int
    held: int
    to_send: int
    attributes: int
    data_points: int
    requests: dict[str, int] = Field(description="by path")
    bytes: int
    since: str | None = Field(description="the cursor from which an incremental run reads")
    columns: dict[str, int] = Field(description="how many records carry each column")
    seconds_at_rate_limit: float
    invalid_rows: list[InvalidRow]
    invalid_reasons: list[InvalidReason]
    blocked_by: list[Error] = Field(description="what would keep the plan from being sent")


class PlanArtifact(BaseModel):
    """The last plan: for each sync what `retl plan --output json` prints."""

    metadata: Metadata
    plans: list[PlannedSync]


ARTIFACTS: Mapping[str, tuple[str, type[BaseModel]]] = {
    "manifest": ("manifest.json", Manifest),
    "run-results": ("run_results.json", RunResults),
    "plan": ("plan.json", PlanArtifact),
}
About = Callable[[str], Metadata]


def artifact_schema(name: str) -> dict[str, Any]:
    """The JSON Schema of an artifact."""
    file, model = ARTIFACTS[name]
    schema = model.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": file}


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
        errors=[_error(problem) for problem in result.errors],
    )


def _error(problem: Problem) -> Error:
    return Error.model_validate(problem_json(problem))


def plan_artifact(previews: Sequence[Preview], about: About) -> PlanArtifact:
    plans = [PlannedSync.model_validate(preview_json(preview)) for preview in previews]
    return PlanArtifact(metadata=about("plan"), plans=plans)


def write(project: LoadedProject, artifact: BaseModel) -> Path:
    """Write an artifact to target/, whole or not at all, for this user only.

    Raises ProjectError if it cannot be written.
    """
    name = next(file for file, model in ARTIFACTS.values() if isinstance(artifact, model))
    path = project.folder / FOLDER / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        number, unfinished = tempfile.mkstemp(prefix=f".{name}.", dir=path.parent)  # 0600
        try:
            with os.fdopen(number, "w", encoding="utf-8") as file:
                file.write(artifact.model_dump_json(indent=2) + "\n")
            os.replace(unfinished, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(unfinished)
            raise
    except OSError as error:
        hint = "retl writes there what it did: make the project's folder writable"
        raise ProjectError(f"{path} cannot be written: {error.strerror}", hint=hint) from error
    return path


M = TypeVar("M", Manifest, RunResults)


def read_manifest(folder: Path) -> Manifest:
    """The manifest that lies in a folder. Raises ProjectError if there is none, or none that this retl knows."""
    return _read(folder / "manifest.json", Manifest, "manifest", "--state names a folder with the manifest of a run")


def last_run(folder: Path) -> RunResults:
    """The results of the last run of the project in a folder. Raises ProjectError if there are none."""
    path = folder / FOLDER / "run_results.json"
    return _read(path, RunResults, "run-results", "retl sync writes it; `retl retry NAME` needs none")


def _read(path: Path, model: type[M], artifact: str, hint: str) -> M:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ProjectError(f"there is no {path}", hint=hint) from error
    except OSError as error:
        raise ProjectError(f"{path} cannot be read: {error.strerror}", hint=hint) from error
    except ValueError as error:
        raise ProjectError(f"{path} is not JSON", hint=hint) from error
    metadata = found.get("metadata") if isinstance(found, dict) else None
    if isinstance(metadata, dict) and "dbt_schema_version" in metadata:
        raise ProjectError(f"{path} was written by dbt, not by retl", hint=hint)
    if not isinstance(metadata, dict) or metadata.get("artifact") != artifact:
        raise ProjectError(f"{path} is not what retl writes under that name", hint=hint)
    version = metadata.get("retl_schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        what = f"{path} was written by a newer retl: its schema is {version}, this retl knows {SCHEMA_VERSION}"
        raise ProjectError(what, hint="take the newer retl")
    try:
        return model.model_validate(found)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise ProjectError(f"{path} is damaged, at {place}", hint=hint) from error


def metadata(artifact: str, invocation_id: str, command: str, target: str, version: str) -> Metadata:
    return Metadata(
        artifact=artifact,
        retl_schema_version=SCHEMA_VERSION,
        retl_version=version,
        generated_at=datetime.now(UTC),
        invocation_id=invocation_id,
        command=command,
        target=target,
    )
