"""How it is with each sync of a target, and what each alert has told of it last: .retl/<target>/alerts.json, private.

now    sync -> what is wrong with it
told   alert -> sync -> what it told last
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from reverse_etl.alerts.decide import Condition
from reverse_etl.project.project import LoadedProject
from reverse_etl.system.small_files import read_mapping, write_mapping


@dataclass(frozen=True)
class Memory:
    """What is remembered of a target. Syncs and alerts that syncs.yml does not have any more are forgotten."""

    now: Mapping[str, Condition] = field(default_factory=dict)
    told: Mapping[str, Mapping[str, Condition]] = field(default_factory=dict)


def file_of(project: LoadedProject) -> Path:
    return project.target_folder / "alerts.json"


def remembered(project: LoadedProject, alerts: list[str]) -> Memory:
    """What is remembered; nothing if the file is missing or damaged."""
    found = read_mapping(file_of(project))
    told = found.get("told")
    return Memory(
        _conditions(project, found.get("now")),
        {name: _conditions(project, told.get(name)) for name in alerts} if isinstance(told, dict) else {},
    )


def remember(project: LoadedProject, memory: Memory) -> None:
    """Raises OSError if it cannot be written."""
    told = {alert: _as_json(conditions) for alert, conditions in memory.told.items() if conditions}
    write_mapping(file_of(project), {"now": _as_json(memory.now), "told": told})


def _as_json(conditions: Mapping[str, Condition]) -> dict[str, Any]:
    return {sync: {**asdict(one), "since": one.since.isoformat()} for sync, one in conditions.items()}


def _conditions(project: LoadedProject, value: Any) -> dict[str, Condition]:
    if not isinstance(value, dict):
        return {}
    found = {name: _condition(value.get(name)) for name in project.sync_names}
    return {name: one for name, one in found.items() if one}


def _condition(value: Any) -> Condition | None:
    """What was written; None for anything else."""
    try:
        since, lines, codes = datetime.fromisoformat(value["since"]), tuple(value["lines"]), tuple(value["codes"])
        how_often = int(value["runs"]), bool(value["at_once"])
        return Condition(str(value["kind"]), str(value["cause"]), since, *how_often, lines, codes)
    except (TypeError, KeyError, ValueError):
        return None
