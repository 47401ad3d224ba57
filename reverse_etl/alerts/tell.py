"""The story of an alert: how it is with the syncs is noted, what changed is told, and what was told is remembered.

Nothing here fails a run, or holds it up for more than seconds: what cannot be told is a warning, and is told by a later
command, if it is still so.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from threading import Thread

from reverse_etl.alerts import channels
from reverse_etl.alerts.decide import Condition, after_telling, changes, condition_after, says_something
from reverse_etl.alerts.memory import Memory, file_of, remember, remembered
from reverse_etl.alerts.messages import Message, message, test_message
from reverse_etl.errors import Problem, ProjectError
from reverse_etl.network.call import NotTaken
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.spec import Sync
from reverse_etl.project.spec_alerts import Alert, Email, label
from reverse_etl.runs.outcome import RunResult
from reverse_etl.system.disk import remedy
from reverse_etl.system.small_files import alone_with

Say = Callable[[Problem], None]
_CONSENT = re.compile(r"email_subscribe|push_subscribe|subscription_groups|subscription_state", re.IGNORECASE)


def tell(project: LoadedProject, results: Sequence[RunResult], now: datetime, warn: Say) -> None:
    """Tell what changed with these results, and what could not be told before. Reports what fails by `warn`.

    What cannot be written down, as on a full disk, is told all the same, and is told again.
    """
    alerts = {label(alert): alert for alert in project.spec.alerts}
    if not alerts:
        return
    unwritten: list[OSError] = []

    def keep(memory: Memory) -> None:
        if unwritten:
            return
        try:
            remember(project, memory)
        except OSError as error:
            unwritten.append(error)

    with ExitStack() as stack:
        try:
            stack.enter_context(alone_with(file_of(project)))
        except OSError as error:
            unwritten.append(error)
        memory = _noted(project, remembered(project, list(alerts)), results, now)
        keep(memory)
        told = dict(memory.told)
        for name, failure in _send_all(project, memory, now).items():
            if failure:
                warn(_not_told(project, alerts[name], failure))
            else:
                told[name] = after_telling(memory.told.get(name, {}), memory.now, alerts[name])
        if told != memory.told:
            keep(replace(memory, told=told))
    if unwritten:
        what = f"cannot write {unwritten[0].filename or file_of(project)}: {unwritten[0].strerror}"
        hint = remedy(unwritten[0], "make the folder writable for the current user")
        warn(
            Problem(
                f"alerts cannot be recorded, and are sent again by the next command: {what}", hint=hint, code="X020"
            )
        )


def is_all_told(project: LoadedProject) -> bool:
    """Whether no alert has anything to tell that it could not."""
    alerts = {label(alert): alert for alert in project.spec.alerts}
    memory = remembered(project, list(alerts))
    return not any(changes(memory.told.get(name, {}), memory.now, alert) for name, alert in alerts.items())


def beat(project: LoadedProject, warn: Say) -> None:
    """Send the heartbeat of the target, if it has one and everything was told: else its silence is the alarm."""
    heartbeat = project.spec.heartbeat
    if heartbeat is None:
        return
    if not is_all_told(project):
        warn(Problem("no heartbeat was sent, since an alert was not delivered", code="X020"))
        return
    try:
        failure = channels.beat(_usable(project.rendered(heartbeat).url), project.network)
    except ProjectError as error:
        failure = NotTaken(error.problems[0].message, error.problems[0].hint)
    if failure:
        where = project.spec.positions.of_value(("heartbeat",))
        warn(Problem(f"the heartbeat was not sent: {failure.why}", where, failure.hint, "X020"))


def test(project: LoadedProject, names: Sequence[str], now: datetime) -> dict[str, Problem | None]:
    """Send a test message by each alert of the target, or by those named; what failed, by name."""
    chosen = [alert for alert in project.spec.alerts if not names or label(alert) in names]
    results = _in_parallel(project, {label(alert): (alert, test_message(project.target_name, now)) for alert in chosen})
    by_name = {label(alert): alert for alert in chosen}
    return {name: _not_told(project, by_name[name], failed) if failed else None for name, failed in results.items()}


def _noted(project: LoadedProject, memory: Memory, results: Iterable[RunResult], now: datetime) -> Memory:
    """How it is with the syncs after these results."""
    known: dict[str, Condition] = dict(memory.now)
    for result in results:
        if not says_something(result):
            continue
        sync = project.sync(result.sync)
        matters = deletes_or_consents(project, sync) or bool(
            result.plan and (result.plan.opt_outs or result.plan.deletes)
        )
        after = condition_after(known.pop(result.sync, None), result, matters, now)
        if after:
            known[result.sync] = after
    return replace(memory, now=known)


def deletes_or_consents(project: LoadedProject, sync: Sync) -> bool:
    """Whether a sync deletes or merges users, or sets what they agreed to: by its mode, or the text of its models."""
    if sync.mode_name == "subscription_status_set" or sync.mode.ends or sync.on_removed == "delete":
        return True
    return any(_CONSENT.search(project.models[name].text) for name in project.graph.models_of(sync.model))


def _send_all(project: LoadedProject, memory: Memory, now: datetime) -> dict[str, NotTaken | None]:
    """Send what each alert has to tell; what failed, by name. One that has nothing to tell is as one that did."""
    due: dict[str, tuple[Alert, Message]] = {}
    results: dict[str, NotTaken | None] = {}
    for alert in project.spec.alerts:
        found = changes(memory.told.get(label(alert), {}), memory.now, alert)
        if found:
            due[label(alert)] = alert, message(project.target_name, found, now)
        else:
            results[label(alert)] = None
    return {**results, **_in_parallel(project, due)}


def _in_parallel(project: LoadedProject, messages: dict[str, tuple[Alert, Message]]) -> dict[str, NotTaken | None]:
    """Send messages by several alerts at once, so that the slowest one says how long it takes."""
    results: dict[str, NotTaken | None] = {}

    def send(name: str, alert: Alert, text: Message) -> None:
        try:
            ready = project.rendered(alert)
            if not isinstance(ready, Email):
                _usable(ready.url)
            results[name] = channels.send(ready, text, project.network)
        except ProjectError as error:
            results[name] = NotTaken(error.problems[0].message, error.problems[0].hint)

    threads = [Thread(target=send, args=(name, *one), daemon=True) for name, one in messages.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {name: results.get(name, NotTaken("an unexpected error")) for name in messages}


def _usable(url: str) -> str:
    """The URL; raises ProjectError, which does not contain it, unless it may be called: by https, or on loopback."""
    if not re.match(r"https://[^/@\s]+|http://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?(/|$)", url) or re.search(
        r"\s", url
    ):
        what = "its URL must start with https:// (http is allowed for loopback addresses only)"
        raise ProjectError(what, hint="set the environment variable that it comes from", code="P111")
    return url


def _not_told(project: LoadedProject, alert: Alert, failure: NotTaken) -> Problem:
    what = f'alert "{label(alert)}" was not delivered: {failure.why}'
    return Problem(what, project.spec.where_alert(alert), failure.hint, "X020")
