"""The progress of a run as JSON Lines: the counterpart of `screen.Screen` for programs."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from reverse_etl.delivery.sender import Sender
from reverse_etl.plan.plan import Plan
from reverse_etl.project.spec import Sync
from reverse_etl.report.progress import LINE_EVERY_S, repeating, stopping_line, telling_of_signals, waiting_for
from reverse_etl.report.stderr import say
from reverse_etl.report.text import change_line
from reverse_etl.words import count


class JsonLines:
    """A listener that writes one JSON object per line, with counts and durations, without values."""

    def __init__(self, every_s: float = LINE_EVERY_S) -> None:
        self._every_s = every_s

    def notice(self, sync: Sync, text: str) -> None:
        say(f"{sync.name}: {text}", "notice", sync=sync.name)

    @contextmanager
    def planning(self, sync: Sync) -> Iterator[None]:
        text, began_s = f"{sync.name}: running the model and computing changes", time.monotonic()

        def tell() -> None:
            say(text, "planning", sync=sync.name, duration_s=round(time.monotonic() - began_s, 3))

        tell()
        with repeating(tell, self._every_s):
            yield

    def planned(self, sync: Sync, plan: Plan) -> None:
        counts = {name: value for name, value in asdict(plan).items() if name not in ("run_id", "since")}
        say(f"{sync.name}: {change_line(plan)}", "planned", sync=sync.name, run_id=plan.run_id, counts=counts)

    @contextmanager
    def sending(self, sync: Sync, plan: Plan, sender: Sender) -> Iterator[None]:
        began_s = time.monotonic()

        def tell(event: str) -> None:
            delivery = sender.delivery
            done = delivery.accepted + delivery.rejected
            counts = {
                "to_send": plan.to_send,
                "accepted": delivery.accepted,
                "rejected": delivery.rejected,
                "requests": delivery.requests,
            }
            duration_s = round(time.monotonic() - began_s, 3)
            text = f"{sync.name}: {done:,} of {count(plan.to_send, 'row')} processed"
            waiting = sender.waiting()
            text = "; ".join(filter(None, [text, waiting_for(waiting)]))
            more: dict[str, Any] = {"waiting": asdict(waiting)} if waiting else {}
            say(text, event, sync=sync.name, run_id=plan.run_id, counts=counts, duration_s=duration_s, **more)

        def stopping(requests: int) -> None:
            text = stopping_line(sync, requests)
            say(text, "stopping", "warning", sync=sync.name, run_id=plan.run_id, in_flight=requests)

        with telling_of_signals(sender, stopping), repeating(lambda: tell("sending"), self._every_s):
            yield
        tell("sent")
        if sender.delivery.interrupted:
            text = f"{sync.name}: interrupted: waited for the requests in flight and recorded the results"
            say(text, "interrupted", "warning", sync=sync.name, run_id=plan.run_id)
