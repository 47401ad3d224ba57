"""retl from Python, for orchestrators and scripts: `from reverse_etl import Project`.

Each method does what the command of the same name does, and returns the result instead of printing it. It handles no
signals and writes to no terminal, so it may run in any thread and in a forked process. A sync that another thread or
process is running is left alone: see `wait_s`.
"""

import os
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from reverse_etl.alerts.tell import tell
from reverse_etl.delivery.session import open_session
from reverse_etl.errors import Problem, ProjectError, RetlError, nearest
from reverse_etl.plan.guards import bounded, skipped_guards
from reverse_etl.project import selection
from reverse_etl.project.project import LoadedProject, load_project
from reverse_etl.project.spec import Sync
from reverse_etl.redaction import without_secrets
from reverse_etl.report.artifacts import manifest, plan_artifact, run_results, write
from reverse_etl.report.kept import Call, Ended, compared_with, results_of
from reverse_etl.report.log import Logged, log_note, log_result, log_warning
from reverse_etl.results import (
    PlanResult,
    RevertResult,
    SyncResult,
    SyncResults,
    VerifyResult,
    plan_result,
    revert_result,
    sync_result,
    verify_result,
)
from reverse_etl.runs.apply import jobs_to_apply, refuse_stale
from reverse_etl.runs.finish_by import finish_by
from reverse_etl.runs.job import Job
from reverse_etl.runs.outcome import Listener, Options, RunResult
from reverse_etl.runs.preview import preview_syncs
from reverse_etl.runs.reverting import chosen_runs, preview_revert, unpin
from reverse_etl.runs.run import jobs_of
from reverse_etl.runs.saved_plan import KEY_VARIABLE, Saving, opened_plan, plan_file
from reverse_etl.runs.seal import Trust, digest_of, key_of
from reverse_etl.runs.sequence import run_jobs
from reverse_etl.runs.verify import HowToVerify, verify
from reverse_etl.system.clock import Clock

if TYPE_CHECKING:
    from pydantic import BaseModel

Selectors = str | Iterable[str]
State = str | os.PathLike[str] | None  # a folder with the artifacts that `state:` and `result:` compare with
Choose = Callable[[LoadedProject], list[Sync]]
_HOW_TO_PLAN = ("full_refresh", "accept_schema_change", "memory_limit", "wait_s")


class PlanOptions(TypedDict, total=False):
    """Options for planning, besides those in syncs.yml.

    full_refresh            treat every row as new, whether sent before or not
    accept_schema_change    accept columns whose type has changed
    max_changes, max_removed, max_requests, max_data_points     guards, instead of those in syncs.yml
    memory_limit            DuckDB memory limit: "512MB"
    wait_s                  maximum seconds to wait while another process has the sync or the warehouse locked
    scheduled_time          scheduled time of the run, with a time zone; default: the start of the run
    finish_by               when it has to be done: "07:00" (UTC), "07:00 Asia/Seoul", or a datetime with a time zone
    """

    full_refresh: bool
    accept_schema_change: bool
    max_changes: int | str | None
    max_removed: int | str | None
    max_requests: int | None
    max_data_points: int | None
    memory_limit: str | None
    wait_s: float
    scheduled_time: datetime | None
    finish_by: str | datetime | None


class SyncOptions(PlanOptions, total=False):
    """Options for running, besides those in syncs.yml: PlanOptions and

    skip_guards             guards to skip in this run: names, or {name: number}, where a number is an upper bound
    read_first              ask Braze who of the users that a run would opt in has opted out there
    create_catalog          create the catalog that a sync writes to, or its fields, if Braze lacks them
    canary                  so many rows are sent first and read back; the rest, if Braze has them as sent
    fail_fast               start no more syncs after one fails
    threads                 maximum number of requests in flight
    rate_limit_share        fraction of each rate limit to use: 0.8
    """

    skip_guards: Collection[str] | Mapping[str, int | None]
    read_first: bool
    create_catalog: bool
    canary: int
    fail_fast: bool
    threads: int
    rate_limit_share: float


class Project:
    """A project folder, for one target.

    Its files are read now, and again by every call, as commands do; an error in them raises ProjectError. Calls leave
    the files in target/ that the commands of their names leave there.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] = ".",
        *,
        target: str | None = None,
        vars: Mapping[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
        listener: Listener | None = None,
    ) -> None:
        """`vars` are values for var(), as --vars. `environ` takes precedence over the process's environment: for
        secrets that an orchestrator keeps. `listener` receives the progress of runs, instead of the logger
        "reverse_etl"."""
        self.folder = Path(folder).absolute()
        self._target, self._vars, self._environ = target, dict(vars or {}), dict(environ or {})
        self._listener: Listener = listener or Logged()
        project = self._read()
        self.target = project.target_name
        for warning in project.spec.warnings:
            log_warning(warning)
        for note in project.spec.notes:
            log_note(note)

    def __repr__(self) -> str:
        return f"Project({str(self.folder)!r}, target={self.target!r})"

    def syncs(self, select: Selectors | None = None, exclude: Selectors = (), *, state: State = None) -> list[str]:
        """The names of the selected syncs, in the order in which they run; all syncs, without `select`.

        `state` is a folder with the manifest.json that `state:` compares with, and the run_results.json of `result:`.
        """
        return [sync.name for sync in _chosen(select, exclude, state)(self._read())]

    def sync(self, name: str, /, **options: Unpack[SyncOptions]) -> SyncResult:
        """Run one sync: send what differs between its model and what Braze has acknowledged.

        Errors of the run are in the result. Raises ProjectError for an unknown name or option, a project that cannot be
        read, and a missing API key.
        """
        return self._run("sync", lambda project: [project.sync(name)], **options)[0]

    def sync_all(
        self,
        *names: str,
        select: Selectors | None = None,
        exclude: Selectors = (),
        state: State = None,
        **options: Unpack[SyncOptions],
    ) -> SyncResults:
        """Run several syncs, as `retl sync --all` does; all, without names and `select`. Otherwise as `sync`; `state`
        is as in `syncs`.

        One is planned while another sends, so a listener is called from several threads, by one of them at a time.
        """
        return self._run("sync", _chosen(select, exclude, state, names), **options)

    def plan(self, name: str, /, **options: Unpack[PlanOptions]) -> PlanResult:
        """What a sync would send. Sends nothing, needs no API key. Raises RetlError if there can be no plan."""
        return self._plan(lambda project: [project.sync(name)], **options)[0]

    def plan_all(
        self,
        *names: str,
        select: Selectors | None = None,
        exclude: Selectors = (),
        state: State = None,
        **options: Unpack[PlanOptions],
    ) -> tuple[PlanResult, ...]:
        """What several syncs would send; all, without names and `select`. Otherwise as `plan`; `state` is as in
        `syncs`."""
        return self._plan(_chosen(select, exclude, state, names), **options)

    def revert(
        self,
        run: str,
        *,
        pin: bool = False,
        out: str | os.PathLike[str] | None = None,
        memory_limit: str | None = None,
        wait_s: float = 0.0,
    ) -> RevertResult:
        """What it takes to undo a run, or those of `A..B`, as `retl revert` plans it; `pin` keeps the values until the
        model returns others. Sends nothing: `out` is a file that the plan is written to, for `apply`.

        Raises RetlError if nothing can be taken back, or, without `pin`, if the model still returns the values.
        """
        project = self._read()
        with without_secrets(), ExitStack() as stack:
            chosen = chosen_runs(project, run)
            (job,) = jobs_of(project, [chosen.sync], Options(memory_limit=memory_limit, wait_s=wait_s), self._listener)
            file = None if out is None else Path(out)
            save = Saving(stack.enter_context(plan_file(project, file, None))) if file else None
            preview, reverted = preview_revert(job, chosen, pin, save)
            stack.close()  # which completes the file
            return revert_result(run, preview, reverted, pin, digest_of(file) if file else None)

    def unpin(self, run: str, *, wait_s: float = 0.0) -> int:
        """Let the model decide again about the values that the revert of a run pinned; returns how many these were."""
        project = self._read()
        with without_secrets():
            chosen = chosen_runs(project, run)
            (job,) = jobs_of(project, [chosen.sync], Options(wait_s=wait_s), self._listener)
            return unpin(job, chosen)

    def apply(
        self,
        file: str | os.PathLike[str],
        *,
        digest: str | None = None,
        max_age: timedelta = timedelta(hours=24),
        skip_guards: Collection[str] | Mapping[str, int | None] = (),
        canary: int = 0,
        fail_fast: bool = False,
        threads: int = 160,
        rate_limit_share: float = 1.0,
        memory_limit: str | None = None,
        wait_s: float = 0.0,
    ) -> SyncResults:
        """Send a saved plan as it was reviewed, as `retl apply` does. Errors of a run are in its result.

        Raises RetlError if the file is not to be believed, or is stale.
        """
        _check_how_to_send(threads, rate_limit_share, canary)
        guards = skipped_guards([skip_guards] if isinstance(skip_guards, str) else skip_guards, "skip_guards")
        how: dict[str, Any] = {"skip_guards": guards, "canary": canary, "fail_fast": fail_fast, "threads": threads}
        options, project = Options(**how, memory_limit=memory_limit, wait_s=wait_s), self._read()
        trust = Trust(key_of(project) if digest is None else None, digest)
        with without_secrets(), opened_plan(Path(file), project.environ.get(KEY_VARIABLE), trust) as plans:
            jobs = jobs_to_apply(project, plans, max_age, options, self._listener)
            refuse_stale(jobs)
            return self._send(Call("apply", {"file": str(file)}), project, jobs, rate_limit_share)

    def verify(self, name: str, /, *, sample: int = 500, seed: int | None = None, repair: bool = False) -> VerifyResult:
        """Read acknowledged rows back from Braze, and compare them with what was sent, as `retl verify` does. `repair`
        lets the next run send again what differs. Raises RetlError if they cannot be read or compared."""
        _check_range("sample", sample, 1, 1_000_000)
        project = self._read()
        how = HowToVerify(sample, secrets.randbelow(10**6) if seed is None else seed, repair)
        with without_secrets(), open_session(project) as session:
            return verify_result(verify(project, project.sync(name), session, how))

    def _run(
        self,
        command: str,
        choose: Choose,
        *,
        skip_guards: Collection[str] | Mapping[str, int | None] = (),
        read_first: bool = False,
        create_catalog: bool = False,
        canary: int = 0,
        fail_fast: bool = False,
        threads: int = 160,
        rate_limit_share: float = 1.0,
        **planning: Unpack[PlanOptions],
    ) -> SyncResults:
        _check_how_to_send(threads, rate_limit_share, canary)
        project, syncs, options = self._prepare(choose, **planning)
        guards = skipped_guards([skip_guards] if isinstance(skip_guards, str) else skip_guards, "skip_guards")
        options = replace(options, skip_guards=guards, read_first=read_first, fail_fast=fail_fast, threads=threads)
        options = replace(options, canary=canary, create_catalog=create_catalog)
        call = Call(command, {"syncs": [sync.name for sync in syncs], **planning})
        return self._send(call, project, jobs_of(project, syncs, options, self._listener), rate_limit_share)

    def _send(self, call: Call, project: LoadedProject, jobs: list[Job], rate_limit_share: float) -> SyncResults:
        ran: list[RunResult] = []
        why: Sequence[Problem] = ()
        began_s = time.monotonic()
        with without_secrets():
            _keep(project, manifest(project, call.about(project)))
            try:
                with open_session(project, rate_limit_share) as session:
                    for result in run_jobs(jobs, session):
                        log_result(result)
                        ran.append(result)
                    tell(project, ran, Clock().utc(), log_warning)
            except RetlError as error:
                why = error.problems
                raise
            finally:
                ended = Ended(ran, time.monotonic() - began_s, why, is_interrupted=not why)
                results = results_of([job.sync for job in jobs], ended, project.target_name)
                _keep(project, run_results(results, call.about(project), ended.elapsed_s, call.arguments))
        return SyncResults(map(sync_result, ran))

    def _plan(self, choose: Choose, **planning: Unpack[PlanOptions]) -> tuple[PlanResult, ...]:
        project, syncs, options = self._prepare(choose, **planning)
        about = Call("plan", {}).about(project)
        with without_secrets():
            _keep(project, manifest(project, about))
            previews = list(preview_syncs(jobs_of(project, syncs, options, self._listener)))
            _keep(project, plan_artifact(previews, about))
            return tuple(map(plan_result, previews))

    def _prepare(self, choose: Choose, **planning: Unpack[PlanOptions]) -> tuple[LoadedProject, list[Sync], Options]:
        """The project as it is now, the chosen syncs, with the guards that were passed, and how to run them."""
        given = dict(planning)
        for name in given.keys() - PlanOptions.__annotations__.keys():
            others = SyncOptions.__annotations__.keys() - {name}
            raise ProjectError(f'unknown option "{name}"', hint=nearest(name, others), code="P074")
        project = self._read()
        scheduled_time = planning.get("scheduled_time")
        if scheduled_time:
            project = project.scheduled_at(_moment(scheduled_time))
        how: dict[str, Any] = {name: given[name] for name in _HOW_TO_PLAN if name in given}
        if (by := planning.get("finish_by")) is not None:
            how["finish_by"] = finish_by(by, Clock().utc(), "finish_by")
        bounds = {
            name: value for name, value in given.items() if name not in (*_HOW_TO_PLAN, "scheduled_time", "finish_by")
        }
        return project, bounded(choose(project), bounds), Options(**how)

    def _read(self) -> LoadedProject:
        with without_secrets():
            return load_project(self.folder, self._target, self._vars, {**os.environ, **self._environ})


def _chosen(select: Selectors | None, exclude: Selectors, state: State, names: Sequence[str] = ()) -> Choose:
    """All syncs without names and `select`; none if `select` is an empty list."""
    wanted = ["*"] if select is None and not names else [*names, *_words(select or ())]
    unwanted = _words(exclude)

    def choose(project: LoadedProject) -> list[Sync]:
        compared = compared_with(project, None if state is None else Path(state), " ".join([*wanted, *unwanted]))
        return selection.select(project.graph, wanted, unwanted, compared)

    return choose


def _keep(project: LoadedProject, artifact: "BaseModel") -> None:
    """Write an artifact to target/; if that fails, say so: the call has done its work."""
    try:
        write(project, artifact)
    except ProjectError as error:
        for problem in error.problems:
            log_warning(problem)


def _words(selectors: Selectors) -> list[str]:
    return [selectors] if isinstance(selectors, str) else list(selectors)


def _moment(time: datetime) -> datetime:
    """A time as UTC: orchestrators pass subclasses of datetime, and time zones of their own."""
    if time.tzinfo is None:
        raise ProjectError(
            f"scheduled_time {time} has no time zone",
            hint="pass a datetime with a time zone: datetime(..., tzinfo=UTC)",
            code="P073",
        )
    return datetime.fromisoformat(time.isoformat()).astimezone(UTC)


def _check_how_to_send(threads: int, rate_limit_share: float, canary: int) -> None:
    _check_range("threads", threads, 1, 500)
    _check_range("rate_limit_share", rate_limit_share, 0.01, 1)
    _check_range("canary", canary, 0, 1000)


def _check_range(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ProjectError(f"{name} must be between {least} and {most}, not {value}", code="P073")
