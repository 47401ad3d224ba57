"""Shows the progress of runs on a terminal: a spinner or a bar for each sync. Elsewhere, it is `Lines`."""

import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from reverse_etl.delivery.sender import Sender
from reverse_etl.plan.plan import Plan
from reverse_etl.project.spec import Sync
from reverse_etl.report import terminal
from reverse_etl.report.progress import (
    Lines,
    planning_line,
    rates_so_far,
    repeating,
    stopping_line,
    telling_of_signals,
    waiting_for,
)
from reverse_etl.report.stderr import saying, shown
from reverse_etl.report.tables import folded
from reverse_etl.runs.interrupts import Interrupts

BAR_EVERY_S = 0.2
_WIDE, _NARROW = 100, 60  # columns of a terminal
_ERASED, _AND_ABOVE, _CURSOR = b"\r\x1b[2K", b"\x1b[1A\x1b[2K", b"\x1b[?25h"


class _Display(Progress):
    """A line per sync: with a bar while it is sent, with a spinner while it is planned, as nobody knows how long.

    Below them, what a sync waits for.
    """

    def __init__(self, console: Console) -> None:
        name, rates = TextColumn("{task.description}"), TextColumn("{task.fields[rates]}")
        spinner = SpinnerColumn("dots" if console.encoding.startswith("utf") else "line")
        bar, left = (BarColumn(), TimeRemainingColumn()) if console.width >= _WIDE else (None, None)
        parts = (name, bar, MofNCompleteColumn(), rates if console.width >= _NARROW else None, left)
        self._of_sent = tuple(part for part in parts if part is not None)  # numbers before a picture of them
        self._of_planned = (spinner, name, TimeElapsedColumn())
        is_shared = terminal.is_terminal(
            sys.stdout
        )  # else what is printed belongs into the file, whatever is shown here
        self.lines = 1  # on the terminal
        super().__init__(console=console, transient=True, redirect_stdout=is_shared)

    def get_renderables(self) -> Iterable[RenderableType]:
        for is_sent, columns in ((True, self._of_sent), (False, self._of_planned)):
            self.columns = columns
            tasks = [task for task in self.tasks if (task.total is not None) == is_sent]
            if tasks:
                yield self.make_tasks_table(tasks)
        waits = [folded(shown(text), self.console.width) for task in self.tasks if (text := task.fields["waiting"])]
        self.lines = len(self.tasks) + sum(text.count("\n") + 1 for text in waits)
        yield from (Text(text) for text in waits)


class Screen(Lines):
    """A listener that shows plans and progress on a terminal, without values."""

    def __init__(self, console: Console, interrupts: Interrupts) -> None:
        self._console, self._interrupts = console, interrupts
        self._display: _Display | None = None
        self._shown_syncs = 0
        self._lock = threading.RLock()

    @contextmanager
    def planning(self, sync: Sync) -> Iterator[None]:
        with self._shown(planning_line(sync), None):
            yield

    @contextmanager
    def sending(self, sync: Sync, plan: Plan, sender: Sender) -> Iterator[None]:
        def stopping(requests: int) -> None:
            self._say(stopping_line(sync, requests))

        with telling_of_signals(sender, stopping), self._bar(sync, plan, sender):
            yield
        self._sent(sync, sender)

    def _say(self, text: str) -> None:
        width = terminal.width(self._console.file)
        said = folded(shown(text), width) if width else shown(text)
        with saying:
            self._console.print(said, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def _bar(self, sync: Sync, plan: Plan, sender: Sender) -> Iterator[None]:
        with self._shown(sync.name, plan.to_send) as (display, task):
            began_s = time.monotonic()

            def update() -> None:
                done = sender.delivery.accepted + sender.delivery.rejected
                name = f"{sync.name}: waiting for the requests in flight" if sender.delivery.interrupted else sync.name
                rates = rates_so_far(sender, time.monotonic() - began_s)
                waiting = waiting_for(sender.waiting())
                text = f"{sync.name}: {waiting}" if waiting else ""
                display.update(task, description=name, completed=done, rates=rates, waiting=text)

            with repeating(update, BAR_EVERY_S):
                yield
            update()

    @contextmanager
    def _shown(self, text: str, total: int | None) -> Iterator[tuple[Progress, TaskID]]:
        """Inside the block, a line is on the terminal; it is erased even if the process ends at once."""
        with self._lock:
            if self._display is None:
                self._display = _Display(self._console)
                self._display.start()
            display = self._display
            self._shown_syncs += 1
            task = display.add_task(text, total=total, rates="", waiting="")
            self._interrupts.before_exit = self._erase
        try:
            yield display, task
        finally:
            with self._lock:
                display.remove_task(task)
                self._shown_syncs -= 1
                if not self._shown_syncs:
                    display.stop()
                    self._display, self._interrupts.before_exit = None, lambda: None

    def _erase(self) -> None:
        with suppress(OSError, ValueError):  # past rich, whose lock the thread may hold that the signal has interrupted
            lines = self._display.lines if self._display else 1
            os.write(self._console.file.fileno(), _ERASED + _AND_ABOVE * (lines - 1) + _CURSOR)
