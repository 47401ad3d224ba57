"""What a command loads before a model runs, and what it does meanwhile."""

import json
import subprocess
import sys
import threading

import pytest

from reverse_etl.system.meanwhile import Meanwhile

# What takes long to load, and what a run of which nothing differs has no use for.
LATER = ("urllib3", "rich", "pyarrow", "numpy", "sqlglot", "sqlite3")
OURS = ("braze.client", "engines.pulled", "engines.spark", "engines.postgres", "report.artifacts", "sandbox")


@pytest.mark.long
def test_what_plans_a_run_loads_neither_what_sends_nor_what_reports():
    loaded = "import reverse_etl.cli, reverse_etl.runs.sequence, reverse_etl.report.progress, sys; print(*sys.modules)"
    names = subprocess.run([sys.executable, "-c", loaded], check=True, capture_output=True, text=True).stdout.split()
    later = {*LATER, *(f"reverse_etl.{name}" for name in OURS)}
    assert later & {*names} == set()


class Work:
    """What is done meanwhile: it counts how often, and says in which thread."""

    def __init__(self) -> None:
        self.times, self.threads = 0, set[str]()
        self.is_done = threading.Event()

    def __call__(self) -> None:
        self.times += 1
        self.threads.add(threading.current_thread().name)
        self.is_done.set()


def test_a_thread_does_it_meanwhile_and_only_once():
    work = Work()
    later = Meanwhile(work)
    later.begin()
    assert work.is_done.wait(60)
    later.begin()
    later.finish()
    assert (work.times, work.threads) == (1, {"retl-meanwhile"})


def test_its_error_is_that_of_who_waits_for_it():
    later = Meanwhile(lambda: json.loads("{"))
    later.begin()
    with pytest.raises(json.JSONDecodeError):
        later.finish()


def test_it_is_done_at_the_end_if_it_has_not_begun():
    work = Work()
    for later in (Meanwhile(work), Meanwhile(work, delay_s=1000)):
        later.finish()
    begun = Meanwhile(work, delay_s=1000)
    begun.begin()
    begun.finish()
    assert (work.times, work.threads) == (3, {threading.current_thread().name})
