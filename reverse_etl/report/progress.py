"""Lines of progress, for output other than a terminal; does not import rich."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from reverse_etl.delivery.sender import Sender
from reverse_etl.delivery.waiting import Waiting
from reverse_etl.plan.plan import Plan
from reverse_etl.project.spec import Sync
from reverse_etl.report.stderr import say
from reverse_etl.report.text import change_line
from reverse_etl.words import count, duration

LINE_EVERY_S = 10.0
LOOK_EVERY_S = 0.2


class Lines:
    """A listener that writes plans and progress as lines, without values."""

    def notice(self, sync: Sync, text: str) -> None:
        self._say(f"{sync.name}: {text}")

    @contextmanager
    def planning(self, sync: Sync) -> Iterator[None]:
        began_s, text = time.monotonic(), planning_line(sync)
        with repeating(lambda: self._say(f"{text}, {time.monotonic() - began_s:.0f} s"), LINE_EVERY_S):
            yield

    def planned(self, sync: Sync, plan: Plan) -> None:
        self._say(f"{sync.name}: {change_line(plan)}")

    @contextmanager
    def sending(self, sync: Sync, plan: Plan, sender: Sender) -> Iterator[None]:
        began_s = time.monotonic()
        with (
            telling_of_signals(sender, lambda requests: self._say(stopping_line(sync, requests))),
            repeating(lambda: self._say(answered_line(sync, plan, sender, began_s)), LINE_EVERY_S),
        ):
            yield
        self._sent(sync, sender)

    def _sent(self, sync: Sync, sender: Sender) -> None:
        if sender.delivery.interrupted:
            self._say(f"{sync.name}: interrupted: waited for the requests in flight and recorded the results")

    def _say(self, text: str) -> None:
        say(text)


@contextmanager
def telling_of_signals(sender: Sender, tell: Callable[[int], None]) -> Iterator[None]:
    """Inside the block, a first signal is answered: `tell` is called once, with the requests that are waited for.

    In a thread: what handles the signal may have interrupted somebody who writes.
    """
    said: list[int] = []

    def look() -> None:
        if sender.delivery.interrupted and not said and (requests := sender.in_flight):
            said.append(requests)
            tell(requests)

    with repeating(look, LOOK_EVERY_S):
        yield


def planning_line(sync: Sync) -> str:
    return f"{sync.name}: running the model and computing changes"


def stopping_line(sync: Sync, requests: int) -> str:
    """What a sync waits for after a signal, and what another signal costs."""
    is_held = not sync.mode.is_idempotent and sync.on_in_doubt == "hold"
    rows = "its rows are" if requests == 1 else "their rows are"
    rows += " in doubt" if is_held else " sent again, or in doubt"
    return f"{sync.name}: waiting for {count(requests, 'request')} in flight; Ctrl-C again stops at once, and {rows}"


def answered_line(sync: Sync, plan: Plan, sender: Sender, began_s: float) -> str:
    """The progress of sending that started at `began_s` of the monotonic clock."""
    done = sender.delivery.accepted + sender.delivery.rejected
    rates = rates_so_far(sender, time.monotonic() - began_s)
    text = f"{sync.name}: {done:,} of {count(plan.to_send, 'row')} processed, {rates}"
    return f"{text}; {waiting}" if (waiting := waiting_for(sender.waiting())) else text


def waiting_for(waiting: Waiting | None) -> str:
    """What sending waits for, why, and until when; empty if it does not."""
    if waiting is None:
        return ""
    parts, left = list[str](), "" if waiting.next_s is None else _whole(waiting.next_s)
    if waiting.retried:
        why = f"Braze returned {waiting.status}" if waiting.status else waiting.why
        parts.append(f"retrying {count(waiting.retried, 'request')}: {why}{left and f', next attempt in {left}'}")
    elif left:
        parts.append(f"waiting for the rate limit: next request in {left}")
    if waiting.unanswered:
        since, left = _whole(waiting.unanswered_s), _whole(waiting.timeout_s)
        requests = count(waiting.unanswered, "request")
        parts.append(f"no response to {requests} for {since}, timeout in {left}")
    return "; ".join(parts)


def _whole(seconds: float) -> str:
    return f"{max(1, round(seconds))} s" if seconds <= 59 else duration(seconds)


def rates_so_far(sender: Sender, elapsed_s: float) -> str:
    delivery, elapsed_s = sender.delivery, max(elapsed_s, 0.001)
    rows, requests = (delivery.accepted + delivery.rejected) / elapsed_s, delivery.requests / elapsed_s
    rejected = f", {delivery.rejected:,} rejected" if delivery.rejected else ""
    return f"{rows:,.0f} rows/s, {requests:,.0f} requests/s{rejected}"


@contextmanager
def repeating(action: Callable[[], None], every_s: float) -> Iterator[None]:
    """Repeat an action in a thread, until the block ends."""
    done = threading.Event()

    def repeat() -> None:
        while not done.wait(every_s):
            action()

    thread = threading.Thread(target=repeat, daemon=True)
    with suppress(RuntimeError):  # no memory for a thread: what the block does is worth more than its progress
        thread.start()
    try:
        yield
    finally:
        done.set()
        if thread.ident:
            thread.join()
