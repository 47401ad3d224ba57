"""What is told while a sync waits for Braze: why, how many requests, and until when."""

import io
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from rich.console import Console

from reverse_etl.braze.answers import Outcome, Verdict
from reverse_etl.delivery.pacing import Pacer
from reverse_etl.delivery.retry import RetryPolicy
from reverse_etl.delivery.waiting import Waiting, Waits
from reverse_etl.report import stderr
from reverse_etl.report.json_lines import JsonLines
from reverse_etl.report.progress import answered_line, waiting_for
from reverse_etl.report.screen import _Display
from reverse_etl.sandbox import Fault
from tests.shop import FakeClock, Shop, Silent

ROWS = "SELECT 'u' || i AS external_id, i AS n FROM range({rows}) r(i)"
NEVER_ENDING = RetryPolicy(tries=3, first_wait_s=40, max_wait_s=40)
LATE = Waiting(unanswered=4, unanswered_s=22.6, timeout_s=37.2)


class Asking(FakeClock):
    """A clock on which it is asked what a run tells, whenever somebody waits."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []
        self.ask: Any = None

    def wait(self, wait_s: float, stop: Any) -> None:
        if self.ask:
            self.told.append(self.ask())
        super().wait(wait_s, stop)


class Following(Silent):
    """A listener that lets a clock ask for the line of a log."""

    def __init__(self, clock: Asking) -> None:
        super().__init__()
        self.clock = clock

    @contextmanager
    def sending(self, sync: Any, plan: Any, sender: Any) -> Iterator[None]:
        self.sender = sender
        self.clock.ask = lambda: answered_line(sync, plan, sender, 0.0).partition("; ")[2]
        yield
        self.clock.ask = None


def told(shop: Shop, **options: Any) -> list[str]:
    """What a run tells of what it waits for, wait by wait; at its end, it waits for nothing."""
    shop.clock = Asking()
    shop.listener = Following(shop.clock)
    shop.run(threads=1, **options)
    assert shop.listener.sender.waiting(0.0) is None
    return shop.clock.told


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (Fault("status", status=503), "Braze returned 503"),
        (Fault("status", status=429, headers={"Retry-After": "27"}), "Braze returned 429"),
        (Fault("drop_before"), "no complete response: the connection was closed without a response"),
    ],
    ids=["503", "429", "no response"],
)
def test_wait_before_a_retry_is_told_with_its_cause_and_its_end(shop: Shop, fault: Fault, why: str):
    shop.sync("it", ROWS.format(rows=10)).braze.add_fault(fault)
    (line,) = told(shop, policy=NEVER_ENDING)
    retrying, _, attempt = line.rpartition(", next attempt in ")
    assert (retrying, 20 <= int(attempt.removesuffix(" s")) <= 40) == (f"retrying 1 request: {why}", True)


def test_wait_for_a_rate_limit_is_told_with_its_end(shop: Shop):
    shop.destination = {"rate_limits": {"users_track": {"requests": 2, "per_seconds": 7200}}}
    first, *_ = told(shop.sync("it", ROWS.format(rows=100)))
    assert first.startswith("waiting for the rate limit: next request in 2 h ")


def test_response_that_does_not_come_is_told_while_it_is_waited_for(shop: Shop):
    """The response is held back until it was told that it is not there."""
    listener = shop.listener = Following(Asking())
    shop.braze.add_fault(Fault("delay", until=lambda: listener.sender.waiting(0.0) is not None))
    assert shop.sync("it", ROWS.format(rows=10)).run().status == "success"


def test_nothing_is_told_while_responses_come(shop: Shop):
    shop.destination = {"rate_limits": {"users_track": {"requests": 5, "per_seconds": 1}}}
    assert set(told(shop.sync("it", ROWS.format(rows=300)))) == {""}


def test_longer_pause_moves_the_next_attempt():
    waits, pacer = Waits(), Pacer([])
    waits.failed(Verdict(Outcome.THROTTLED, status=429))
    with waits.until(10.0, pacer):
        pacer.pause(0.0, 60.0)
        assert (
            waiting_for(waits.now(5.0, (0, 0.0, 0.0))) == "retrying 1 request: Braze returned 429, next attempt in 55 s"
        )
    assert waiting_for(waits.now(5.0, (0, 0.0, 0.0))) == "retrying 1 request: Braze returned 429"
    waits.done()
    assert waiting_for(waits.now(5.0, (0, 0.0, 0.0))) == ""


def test_requests_without_a_response_are_told_with_their_timeout():
    assert waiting_for(LATE) == "no response to 4 requests for 23 s, timeout in 37 s"


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (80, ["users: no response to 4 requests for 23 s, timeout in 37 s"]),
        (40, ["users: no response to 4 requests for 23", "  s, timeout in 37 s"]),
    ],
)
def test_terminal_shows_it_below_the_numbers_and_knows_how_many_lines_it_has(width: int, shown: list[str]):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    display = _Display(console)
    display.add_task("users", total=300, completed=75, rates="", waiting=f"users: {waiting_for(LATE)}")
    console.print(display.get_renderable())
    assert isinstance(console.file, io.StringIO)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert (lines[1:], len(lines)) == (shown, display.lines)


class Log(io.StringIO):
    """What is written to stderr; `has_told` once it says that something is waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.has_told = threading.Event()

    def write(self, text: str) -> int:
        if '"waiting"' in text:
            self.has_told.set()
        return super().write(text)


class UntilTold(FakeClock):
    """A clock on which a wait is over when it was told."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self.log = log

    def wait(self, wait_s: float, stop: Any) -> None:
        self.log.has_told.wait()
        super().wait(wait_s, stop)


def test_program_is_told_in_numbers(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    log = Log()
    monkeypatch.setattr(sys, "stderr", log)
    shop.clock, shop.listener = UntilTold(log), JsonLines(every_s=0.02)  # type: ignore[assignment]
    shop.sync("it", ROWS.format(rows=10)).braze.add_fault(Fault("status", status=503))
    stderr.begin("sync", is_json=True)
    try:
        shop.run(policy=NEVER_ENDING)
    finally:
        stderr.begin("", is_json=False)
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    first = next(line for line in lines if "waiting" in line)
    assert 20 <= first["waiting"].pop("next_s") <= 40
    assert first["waiting"] == {
        "retried": 1,
        "why": "Braze returned 503: Service Unavailable",
        "status": 503,
        "unanswered": 0,
        "unanswered_s": 0.0,
        "timeout_s": 0.0,
    }
    assert "; retrying 1 request: Braze returned 503, next attempt in " in first["message"]
    assert (lines[-1]["event"], "waiting" in lines[-1]) == ("sent", False)
