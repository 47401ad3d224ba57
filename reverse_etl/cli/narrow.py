"""`--help` and errors of the command line on terminals that are narrower than typer's 50 characters."""

import sys
from typing import Any

from typer.core import TyperGroup

from reverse_etl.report import terminal
from reverse_etl.report.tables import folded

_NARROW = 52  # characters: less than this, and typer's lines would be broken by the terminal
_NAMES = 6  # characters beside which an explanation begins, and not below


def settings() -> dict[str, int]:
    """Of typer's context: how wide help is, if the terminal is narrow."""
    width = terminal.width(sys.stdout)
    if width is None or width >= _NARROW:
        return {}
    context: Any = TyperGroup.context_class
    if context.formatter_class.__name__ != "Narrow":
        context.formatter_class = _narrow(context.formatter_class)
    return {"terminal_width": width}


def _narrow(formatter: Any) -> Any:
    class Narrow(formatter):  # type: ignore[misc]  # typer does not say its name
        def write_dl(self, rows: Any, col_max: int = 30, col_spacing: int = 2) -> None:
            super().write_dl(rows, _NAMES if self.width < _NARROW else col_max, col_spacing)

    return Narrow


def fitted_error(text: str) -> str:
    """What typer prints after "Error: "."""
    width = terminal.width(sys.stderr)
    return folded(f"Error: {text}", width).removeprefix("Error: ") if width else text
