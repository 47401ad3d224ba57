"""What a shell completes: names of syncs, models and targets, ids of runs, from the project's files.

It runs no model and reads no secret. What cannot be read completes nothing: the command itself says what is wrong.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from reverse_etl.cli.here import SPEC_FILE, project_here

_METHODS = ("tag:", "mode:", "model:", "path:", "source:", "config.", "result:", "state:")


def sync_names(context: typer.Context, incomplete: str) -> list[str]:
    """Names of syncs."""
    return [name for name in dict.fromkeys(_syncs(_folder(context))) if name.startswith(incomplete)]


def model_names(context: typer.Context, incomplete: str) -> list[str]:
    """Names of models, and of syncs."""
    folder = _folder(context)
    names = [path.stem for path in sorted((folder / "models").rglob("*.sql"))]
    return [name for name in dict.fromkeys([*names, *_syncs(folder)]) if name.startswith(incomplete)]


def selectors(context: typer.Context, incomplete: str) -> list[str]:
    """Names of syncs, with a + where there is one; and methods of selectors."""
    plus = "+" if incomplete.startswith("+") else ""
    names = dict.fromkeys(plus + name for name in _syncs(_folder(context)))
    return [word for word in (*names, *_METHODS) if word.startswith(incomplete)]


def target_names(context: typer.Context, incomplete: str) -> list[str]:
    """Names of targets."""
    data = _parsed(_folder(context), SPEC_FILE)
    found = data.get("targets")
    return [name for name in found if str(name).startswith(incomplete)] if isinstance(found, dict) else []


def run_ids(context: typer.Context, incomplete: str) -> list[str]:
    """Ids of runs whose ledger is on this machine and is not yet merged by the day, the last one first."""
    begun, dots, last = incomplete.rpartition("..")
    target = context.params.get("target") or "*"
    files = (_folder(context) / ".retl").glob(f"{target}/*/ledger/[0-9]*.requests.parquet")
    ids = sorted((path.name.partition(".")[0] for path in files), reverse=True)
    return [f"{begun}{dots}{one}" for one in ids if one.startswith(last)]


def _folder(context: typer.Context) -> Path:
    return Path(context.params.get("project_dir") or project_here())


def _syncs(folder: Path) -> Iterator[str]:
    files = [SPEC_FILE, *(path.relative_to(folder).as_posix() for path in sorted((folder / "syncs").rglob("*.yml")))]
    for file in files:
        listed = _parsed(folder, file).get("syncs")
        for sync in listed if isinstance(listed, list) else ():
            name = sync.get("name") if isinstance(sync, dict) else None
            if isinstance(name, str) and "{" not in name:
                yield name


def _parsed(folder: Path, file: str) -> dict[str, Any]:
    from reverse_etl.errors import ProjectError
    from reverse_etl.project.yaml_places import parse_yaml

    try:
        data = parse_yaml((folder / file).read_text(encoding="utf-8"), file)[0]
    except (OSError, UnicodeDecodeError, ProjectError):
        return {}
    return data if isinstance(data, dict) else {}
