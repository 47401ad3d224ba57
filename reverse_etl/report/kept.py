"""Which files a command, or a call of the Python API, leaves in target/: manifest, results of a run, plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from reverse_etl.errors import Problem

if TYPE_CHECKING:
    from reverse_etl.project.project import LoadedProject
    from reverse_etl.project.selection import Compared
    from reverse_etl.project.spec import Sync
    from reverse_etl.report.artifacts import About
    from reverse_etl.runs.outcome import RunResult


@dataclass(frozen=True)
class Call:
    """What the artifacts say of the command, or of the method, that writes them."""

    command: str
    arguments: Mapping[str, Any]
    id: str = field(default_factory=lambda: str(uuid4()))

    def about(self, project: "LoadedProject") -> "About":
        from importlib.metadata import version

        from reverse_etl.report.artifacts import metadata

        of_package = version("reverse-etl")
        named = {"invocation_id": self.id, "command": self.command, "target": project.target_name}
        return partial(metadata, version=of_package, **named)


@dataclass(frozen=True)
class Ended:
    """How a command ended: its results, the seconds it took, and in `why` the reason if it ended early."""

    results: "Sequence[RunResult]"
    elapsed_s: float
    why: Sequence[Problem]
    is_interrupted: bool


def results_of(syncs: "Sequence[Sync]", ended: Ended, target: str) -> "list[RunResult]":
    """The results of all syncs of a command, including those that were not started.

    If a command ended early, some syncs have no result: the first of them was running, the others were not started.
    """
    from reverse_etl.runs.outcome import RunResult

    done = {result.sync for result in ended.results}
    others: list[RunResult] = []
    for sync in (sync for sync in syncs if sync.name not in done):
        status = "skipped" if others else "interrupted" if ended.is_interrupted else "failed"
        when = "before this sync started" if others else "while this sync was running"
        ended_early = [Problem(f"{sync.name}: {status}: the command ended {when}", code="X005")]
        problems = ended_early if others or not ended.why else ended.why
        others.append(RunResult(sync.name, sync.mode.label, target, status, 1, problems))
    return [*ended.results, *others]


def compared_with(project: "LoadedProject", state: Path | None, texts: str) -> "Compared | None":
    """What `state:` and `result:` in selectors compare: a manifest, and the results of a run; of `state`, if given."""
    if "state:" not in texts and "result:" not in texts:
        return None
    from reverse_etl.project.selection import Compared
    from reverse_etl.report.artifacts import FOLDER, read_manifest, results_in

    then = (
        {sync.name: sync.fingerprint for sync in read_manifest(state).syncs.values()}
        if "state:" in texts and state
        else None
    )
    now = {sync.name: project.fingerprint(sync) for sync in project.spec.syncs} if then is not None else {}
    results = results_in(state or project.folder / FOLDER) if "result:" in texts else None
    return Compared(then, now, results)
