"""The files that commands write to target/: the manifest, the results of a run, the last plan."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

from reverse_etl.errors import Problem, ProjectError
from reverse_etl.report import stderr

if TYPE_CHECKING:
    from pydantic import BaseModel

    from reverse_etl.project.project import LoadedProject
    from reverse_etl.project.spec import Sync
    from reverse_etl.report.artifacts import About
    from reverse_etl.runs.outcome import RunResult
    from reverse_etl.runs.preview import Preview


def about(project: "LoadedProject") -> "About":
    from reverse_etl.report.artifacts import metadata

    now = stderr.invocation
    return partial(
        metadata,
        invocation_id=now.id,
        command=now.command,
        target=project.target_name,
        version=version("reverse-etl"),
    )


def keep_manifest(project: "LoadedProject") -> None:
    """Write manifest.json."""
    from reverse_etl.report.artifacts import manifest

    _keep(project, manifest(project, about(project)))


def keep_plan(project: "LoadedProject", previews: "Sequence[Preview]") -> None:
    """Write plan.json."""
    from reverse_etl.report.artifacts import plan_artifact

    _keep(project, plan_artifact(previews, about(project)))


@dataclass(frozen=True)
class Ended:
    """How a command ended: its results, the seconds it took, and in `why` the reason if it ended early."""

    results: "Sequence[RunResult]"
    elapsed_s: float
    why: Sequence[Problem]
    is_interrupted: bool


def keep_results(project: "LoadedProject", syncs: "Sequence[Sync]", ended: Ended) -> None:
    """Write run_results.json: the results of all syncs of the command, including those that were not started.

    If a command ended early, some syncs have no result: the first of them was running, the others were not started.
    """
    from reverse_etl.report.artifacts import run_results
    from reverse_etl.runs.outcome import RunResult

    done = {result.sync for result in ended.results}
    others: list[RunResult] = []
    for sync in (sync for sync in syncs if sync.name not in done):
        status = "skipped" if others else "interrupted" if ended.is_interrupted else "failed"
        when = "before this sync started" if others else "while this sync was running"
        ended_early = [Problem(f"{sync.name}: {status}: the command ended {when}", code="X005")]
        problems = ended_early if others or not ended.why else ended.why
        others.append(RunResult(sync.name, sync.mode.label, project.target_name, status, 1, problems))
    arguments = {**stderr.invocation.arguments, "target": project.target_name}
    _keep(project, run_results([*ended.results, *others], about(project), ended.elapsed_s, arguments))


def _keep(project: "LoadedProject", artifact: "BaseModel") -> None:
    """Write an artifact. A failure is only reported: the command has already done its work."""
    from reverse_etl.report.artifacts import write

    try:
        write(project, artifact)
    except ProjectError as error:
        for problem in error.problems:
            stderr.say_error(problem)
