"""A listener that logs the progress of runs with Python's logging: for programs that run syncs, not for a terminal.

The logger is "reverse_etl". Rows are named by key at most, and personal keys by a digest; no line contains a value.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from reverse_etl.delivery.sender import Sender
from reverse_etl.errors import Problem
from reverse_etl.masking import masked
from reverse_etl.plan.plan import Plan
from reverse_etl.project.spec import Sync
from reverse_etl.redaction import redact
from reverse_etl.report.progress import LINE_EVERY_S, answered_line, repeating
from reverse_etl.report.text import change_line, result_line
from reverse_etl.runs.outcome import RunResult

logger = logging.getLogger("reverse_etl")
logger.addHandler(logging.NullHandler())  # silent, unless the program configures logging


def _without_secrets(record: logging.LogRecord) -> bool:
    record.msg, record.args = redact(record.getMessage()), ()
    return True


logger.addFilter(_without_secrets)


class Logged:
    """Logs plans, progress and results."""

    def notice(self, sync: Sync, text: str) -> None:
        logger.info("%s: %s", sync.name, masked(text))

    @contextmanager
    def planning(self, sync: Sync) -> Iterator[None]:
        logger.info("%s: running the model and computing changes", sync.name)
        yield

    def planned(self, sync: Sync, plan: Plan) -> None:
        logger.info("%s: %s", sync.name, change_line(plan))

    @contextmanager
    def sending(self, sync: Sync, plan: Plan, sender: Sender) -> Iterator[None]:
        began_s = time.monotonic()
        with repeating(lambda: logger.info("%s", answered_line(sync, plan, sender, began_s)), LINE_EVERY_S):
            yield


def log_result(result: RunResult) -> None:
    """Log the result of a sync: as an error if it did not succeed."""
    logger.log(logging.ERROR if result.exit_code else logging.INFO, "%s", result_line(result))
    for problem in result.errors:
        logger.error("%s", masked(problem.with_code))


def log_note(problem: Problem) -> None:
    """Log what is meant, and could be written otherwise."""
    logger.info("%s", masked(str(problem)))


def log_warning(problem: Problem) -> None:
    """Log what is valid, and probably not meant."""
    logger.warning("%s", masked(str(problem)))
