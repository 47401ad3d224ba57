"""Shows the progress of a run on stderr: a bar on a terminal, plain lines elsewhere."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from reverse_etl.delivery.sender import Sender
from reverse_etl.plan.plan import Plan
from reverse_etl.project.spec import Sync
from reverse_etl.report.progress import LINE_EVERY_S, _rates, answered_line, repeating
from reverse_etl.report.stderr import shown
from reverse_etl.report.text import change_line
from reverse_etl.runs.interrupts import Interrupts

BAR_EVERY_S = 0.2
_ERASED = b"\r\x1b[2K\x1b[?25h"  # of this line; with the cursor


class Screen:
    """A listener that shows plans and progress, without values."""

    def __init__(self, console: Console, interrupts: Interrupts, quiet: bool = False) -> None:
        self._console, self._interrupts, self._quiet = console, interrupts, quiet

    def notice(self, sync: Sync, text: str) -> None:
        self._say(f"{sync.name}: {text}")

    @contextmanager
    def planning(self, sync: Sync) -> Iterator[None]:
        began_s, text = time.monotonic(), f"{sync.name}: running the model and computing changes"
        if self._console.is_terminal and not self._quiet:
            spinner = SpinnerColumn("dots" if self._console.encoding.startswith("utf") else "line")
            columns = (spinner, TextColumn("{task.description}"), TimeElapsedColumn())
            with Progress(*columns, console=self._console, transient=True) as progress, self._erased():
                progress.add_task(text)
                yield
        else:
            with repeating(lambda: self._say(f"{text}, {time.monotonic() - began_s:.0f} s"), LINE_EVERY_S):
                yield

    def planned(self, sync: Sync, plan: Plan) -> None:
        self._say(f"{sync.name}: {change_line(plan)}")

    @contextmanager
    def sending(self, sync: Sync, plan: Plan, sender: Sender) -> Iterator[None]:
        shown = self._bar(sync, plan, sender) if self._console.is_terminal else self._lines(sync, plan, sender)
        with self._interrupts.stopping(sender), shown:
            yield
        if sender.delivery.interrupted:
            self._say(f"{sync.name}: interrupted: waited for the requests in flight and recorded the results")

    def _say(self, text: str) -> None:
        if not self._quiet:
            self._console.print(shown(text), markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def _bar(self, sync: Sync, plan: Plan, sender: Sender) -> Iterator[None]:
        rates = TextColumn("{task.fields[rates]}")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rates, TimeRemainingColumn())
        bar = Progress(*columns, console=self._console, transient=True, disable=self._quiet)
        with bar as progress, self._erased():
            task = progress.add_task(sync.name, total=plan.to_send, rates="")
            began_s = time.monotonic()

            def update() -> None:
                done = sender.delivery.accepted + sender.delivery.rejected
                name = f"{sync.name}: waiting for the requests in flight" if sender.delivery.interrupted else sync.name
                rates = _rates(sender, time.monotonic() - began_s)
                progress.update(task, description=name, completed=done, rates=rates)

            with repeating(update, BAR_EVERY_S):
                yield
            update()

    @contextmanager
    def _erased(self) -> Iterator[None]:
        """Inside the block, a bar is on the terminal, unless quiet; it is erased even if the process ends at once."""
        before = self._interrupts.before_exit
        if not self._quiet:
            self._interrupts.before_exit = self._erase
        try:
            yield
        finally:
            self._interrupts.before_exit = before

    def _erase(self) -> None:
        with suppress(OSError, ValueError):  # past rich, whose lock the thread may hold that the signal has interrupted
            os.write(self._console.file.fileno(), _ERASED)

    @contextmanager
    def _lines(self, sync: Sync, plan: Plan, sender: Sender) -> Iterator[None]:
        began_s = time.monotonic()

        with repeating(lambda: self._say(answered_line(sync, plan, sender, began_s)), LINE_EVERY_S):
            yield
