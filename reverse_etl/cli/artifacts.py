"""The files that commands write to target/: the manifest, the results of a run, the last plan."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reverse_etl.errors import ProjectError
from reverse_etl.report import stderr
from reverse_etl.report.kept import Call, Ended, results_of

if TYPE_CHECKING:
    from pydantic import BaseModel

    from reverse_etl.project.project import LoadedProject
    from reverse_etl.project.spec import Sync
    from reverse_etl.report.artifacts import About
    from reverse_etl.runs.preview import Preview


def about(project: "LoadedProject") -> "About":
    now = stderr.invocation
    return Call(now.command, now.arguments, now.id).about(project)


def keep_manifest(project: "LoadedProject") -> None:
    """Write manifest.json."""
    from reverse_etl.report.artifacts import manifest

    _keep(project, manifest(project, about(project)))


def keep_plan(project: "LoadedProject", previews: "Sequence[Preview]") -> None:
    """Write plan.json."""
    from reverse_etl.report.artifacts import plan_artifact

    _keep(project, plan_artifact(previews, about(project)))


def keep_results(project: "LoadedProject", syncs: "Sequence[Sync]", ended: Ended) -> None:
    """Write run_results.json: the results of all syncs of the command, including those that were not started."""
    from reverse_etl.report.artifacts import run_results

    results = results_of(syncs, ended, project.target_name)
    arguments = {**stderr.invocation.arguments, "target": project.target_name}
    _keep(project, run_results(results, about(project), ended.elapsed_s, arguments))


def _keep(project: "LoadedProject", artifact: "BaseModel") -> None:
    """Write an artifact. A failure is only reported: the command has already done its work."""
    from reverse_etl.report.artifacts import write

    try:
        write(project, artifact)
    except ProjectError as error:
        for problem in error.problems:
            stderr.say_error(problem)
