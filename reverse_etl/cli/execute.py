"""Runs syncs for a command: prints their results, writes artifacts, ends with the exit code."""

import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, NoReturn

import typer

from reverse_etl.cli.context import print_json, print_lines, say
from reverse_etl.cli.options import Output
from reverse_etl.errors import Problem, RetlError
from reverse_etl.report import stderr, terminal
from reverse_etl.report.kept import Ended
from reverse_etl.report.tables import table_lines
from reverse_etl.system.clock import Clock
from reverse_etl.system.meanwhile import Meanwhile

if TYPE_CHECKING:
    from reverse_etl.plan.guards import Skipped
    from reverse_etl.project.project import LoadedProject
    from reverse_etl.project.spec import Sync
    from reverse_etl.runs.finish_by import FinishBy
    from reverse_etl.runs.interrupts import Interrupts
    from reverse_etl.runs.job import Job
    from reverse_etl.runs.outcome import Listener, RunResult

_HEAD_START_S = 0.05  # until a thread makes ready what a run needs when its model has run: the model begins first


def start_workbench() -> None:
    """Let a thread start the DuckDB of the first sync, while the rest of what runs it is loaded."""
    from reverse_etl.plan.workbench import connect_ahead

    connect_ahead()


def run_and_exit(
    project: "LoadedProject", jobs: "Sequence[Job]", interrupts: "Interrupts", rate_limit_share: float, output: Output
) -> NoReturn:
    """Run syncs, report their results, and end the command with the exit code of these."""
    from reverse_etl.report import as_json, text
    from reverse_etl.runs.interrupts import Interrupted
    from reverse_etl.runs.outcome import exit_code

    results: list[RunResult] = []
    began_s = time.monotonic()
    try:
        with interrupts.taken():
            for result in shown(project, jobs, interrupts, rate_limit_share, output):
                results.append(result)
    except Interrupted:
        say("interrupted while no requests were being sent", "interrupted", "warning")
    elapsed_s = time.monotonic() - began_s
    if len(results) > 1:
        if not stderr.invocation.is_json:
            for line in table_lines(text.results_table(results), terminal.width(sys.stderr)):
                say(line)
        statuses = dict(Counter(result.status for result in results))
        say(text.summary_line(results, elapsed_s), "summary", counts=statuses, duration_s=round(elapsed_s, 3))
    if output is Output.JSON:
        print_json([as_json.result_json(result) for result in results])
    raise typer.Exit(interrupts.exit_code if interrupts.signal else exit_code(results))


def shown(
    project: "LoadedProject", jobs: "Sequence[Job]", interrupts: "Interrupts", rate_limit_share: float, output: Output
) -> "Iterator[RunResult]":
    """Run syncs, and print each result as soon as it is known. After a signal, requests in flight are completed.

    The manifest and the results are written to target/, however the run ends.
    """
    from reverse_etl.cli.artifacts import keep_results
    from reverse_etl.delivery.session import open_session
    from reverse_etl.runs.sequence import run_jobs

    results: list[RunResult] = []
    stopped_by: dict[Problem, list[str]] = {}
    why: Sequence[Problem] = ()
    began_s = time.monotonic()
    later = Meanwhile(partial(_make_ready, project), _HEAD_START_S)
    jobs = [replace(job, listener=_Beside(job.listener, later)) for job in jobs]
    try:
        with open_session(project, rate_limit_share) as session:
            for result in run_jobs(jobs, session, interrupts):
                results.append(result)
                _print_result(result, output, stopped_by)
                yield result
            _print_others(stopped_by)
        tell_all(project, results)
    except RetlError as error:
        why = error.problems
        tell_all(project, [*results, *_not_run(jobs, results, error)])
        raise
    finally:
        later.finish()
        ended = Ended(results, time.monotonic() - began_s, why, is_interrupted=bool(interrupts.signal))
        keep_results(project, [job.sync for job in jobs], ended)


def _make_ready(project: "LoadedProject") -> None:
    """Load what sends requests and writes artifacts, and write the manifest."""
    from reverse_etl.braze import client  # noqa: F401
    from reverse_etl.cli.artifacts import keep_manifest

    keep_manifest(project)


class _Beside:
    """A listener of a run, which lets something else begin when the first model runs."""

    def __init__(self, listener: "Listener", later: Meanwhile) -> None:
        self._listener, self._later = listener, later
        self.notice, self.planned, self.sending = listener.notice, listener.planned, listener.sending

    def planning(self, sync: "Sync") -> AbstractContextManager[None]:
        self._later.begin()
        return self._listener.planning(sync)


def tell_all(project: "LoadedProject", results: "Sequence[RunResult]") -> None:
    """Tell those whom syncs.yml names what changed. What fails is a warning."""
    if project.spec.alerts:
        from reverse_etl.alerts.tell import tell

        tell(project, results, Clock().utc(), stderr.say_warning)


def beat(project: "LoadedProject") -> None:
    """Send the heartbeat, if there is one."""
    if project.spec.heartbeat:
        from reverse_etl.alerts import tell

        tell.beat(project, stderr.say_warning)


def _not_run(jobs: "Sequence[Job]", results: "Sequence[RunResult]", error: RetlError) -> "Iterator[RunResult]":
    """The results of jobs that an error kept from being run: a missing API key."""
    done = {result.sync for result in results}
    for job in jobs:
        if job.sync.name not in done:
            yield job.not_run("failed", error.exit_code, error.problems)


def _print_others(stopped_by: Mapping[Problem, Sequence[str]]) -> None:
    """Name the syncs whose errors were not repeated."""
    for problem, syncs in stopped_by.items():
        if len(syncs) > 1 and not stderr.invocation.is_json:
            say(f"the same for {', '.join(syncs[1:])}: {problem.location or problem.message}")


def _print_result(result: "RunResult", output: Output, stopped_by: dict[Problem, list[str]]) -> None:
    """Print a result. An error that `stopped_by` has is that of a sync before, and not repeated for people."""
    from reverse_etl.report import text

    if output is Output.TEXT:
        print_lines([text.result_line(result)])
    about: dict[str, object] = {"sync": result.sync, "run_id": result.plan.run_id if result.plan else None}
    if stderr.invocation.is_json:
        counts = asdict(result.delivery) if result.delivery else None
        level, took_s = "error" if result.exit_code else "info", round(result.duration_s, 3)
        about |= {"status": result.status}
        say(text.result_line(result), "finished", level, **about, counts=counts, duration_s=took_s)
    for problem in result.errors:
        syncs = stopped_by.setdefault(problem, [])
        syncs.append(result.sync)
        if len(syncs) == 1 or stderr.invocation.is_json:
            stderr.say_error(problem, **about)
    if stderr.invocation.is_json:
        for row in result.invalid:
            say(f"{result.sync}: {row.key}: {row.column} {row.reason}", "invalid_row", "error", **about, **asdict(row))
        for row in result.left_out:
            what = f"{result.sync}: {row.key}: {row.column} {row.reason}"
            say(what, "left_out", "warning", **about, **asdict(row))
        for row in result.withheld:
            what = f"{result.sync}: {row.key}: {row.column} {row.reason}"
            say(what, "withheld_row", "warning", **about, **asdict(row))
        for drop in result.silent_drops:
            what = f"{result.sync}: {drop.column or 'whole row'}: {drop.reason}"
            say(what, "silent_drop", "warning", **about, **asdict(drop))
        return
    alike, width = result.alike, terminal.width(sys.stderr)
    tables = (
        text.invalid_lines(alike.invalid, width),
        text.left_out_lines(alike.left_out, width),
        text.withheld_lines(alike.withheld, width),
        text.silent_drop_lines(result.silent_drops, width),
    )
    for line in chain(*tables, text.next_lines(result)):
        say(line)


def guarded(syncs: "list[Sync]", bounds: Mapping[str, object]) -> "list[Sync]":
    """The syncs, with the guards of the command line instead of those in syncs.yml."""
    from reverse_etl.plan.guards import bounded

    return bounded(syncs, bounds, lambda name: f"--{name.replace('_', '-')}")


def guards_to_skip(given: list[str] | None) -> "Skipped":
    from reverse_etl.plan.guards import skipped_guards

    return skipped_guards(given or [], "--skip-guard")


def done_by(given: str | None) -> "FinishBy | None":
    from reverse_etl.runs.finish_by import finish_by

    return finish_by(given, Clock().utc()) if given is not None else None
