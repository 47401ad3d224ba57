"""Lines of progress, for output other than a terminal; does not import rich."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from reverse_etl.delivery.sender import Sender
from reverse_etl.plan.plan import Plan
from reverse_etl.project.spec import Sync
from reverse_etl.words import count

LINE_EVERY_S = 10.0


def answered_line(sync: Sync, plan: Plan, sender: Sender, began_s: float) -> str:
    """The progress of sending that started at `began_s` of the monotonic clock."""
    done = sender.delivery.accepted + sender.delivery.rejected
    rates = _rates(sender, time.monotonic() - began_s)
    return f"{sync.name}: {done:,} of {count(plan.to_send, 'row')} processed, {rates}"


def _rates(sender: Sender, elapsed_s: float) -> str:
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
