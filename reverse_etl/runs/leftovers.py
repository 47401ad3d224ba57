"""Files about persons outside the states: artifacts and saved plans, the sandbox's log; and the user's own files."""

import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

import duckdb

from reverse_etl.delivery.sandbox_log import erase_from_log
from reverse_etl.project.project import LoadedProject
from reverse_etl.records.identity import WHO
from reverse_etl.runs.saved_plan import UNFINISHED, is_plan_file
from reverse_etl.sql import database
from reverse_etl.sql.quoting import identifier
from reverse_etl.state.persons import values_of
from reverse_etl.system.beside import drop_left
from reverse_etl.words import count

_CERTAIN = 4  # a shorter value is a part of many words; it counts only where it is a whole string of JSON
_SOURCES = ("models", "macros", "seeds", "tests", "syncs", "syncs.yml")


def delete_files_about(project: LoadedProject, texts: Collection[str]) -> list[str]:
    """Delete artifacts of target/ that name one of the persons, and saved plans with a record about one; their names.

    retl writes artifacts again with the next command. Unfinished plans of killed processes are deleted, too.
    """
    drop_left(project.folder, UNFINISHED)
    pattern, gone = _pattern(values_of(texts)), list[str]()
    artifacts = [path for path in sorted((project.folder / "target").rglob("*")) if _is_file(path)]
    plans = [path for path in sorted(project.folder.iterdir()) if _is_file(path) and is_plan_file(path)]
    for path in (*artifacts, *plans):
        if _is_about(path, texts) if is_plan_file(path) else _names(path, pattern):
            path.unlink(missing_ok=True)
            gone.append(str(path.relative_to(project.folder)))
    return gone


def erase_from_sandbox(project: LoadedProject, texts: Collection[str]) -> list[str]:
    """Erase what the sandbox of the target has logged about the persons, if there is one: how much, in words."""
    pattern, file = _pattern(values_of(texts)), project.sandbox_file
    if pattern is None:
        return []
    number = erase_from_log(file, lambda text: pattern.search(text) is not None)
    return [f"what {file.name} had of {count(number, 'request')}"] if number else []


def files_naming(project: LoadedProject, values: Collection[str]) -> list[str]:
    """Files of the project, which are the user's, that name one of the persons."""
    pattern = _pattern({value for value in values if len(value) >= _CERTAIN})
    return [str(path.relative_to(project.folder)) for path in _sources(project.folder) if _names(path, pattern)]


def _sources(folder: Path) -> Iterator[Path]:
    for name in _SOURCES:
        place = folder / name
        yield from filter(_is_file, sorted(place.rglob("*")) if place.is_dir() else [place])


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _pattern(values: Collection[str]) -> re.Pattern[bytes] | None:
    """What finds one of the values, if there are any: as a word, or if it is short, as a string of JSON."""
    if not values:
        return None
    words = "|".join(re.escape(value) for value in sorted(values) if len(value) >= _CERTAIN)
    strings = "|".join(re.escape(value) for value in sorted(values))
    found = f'"(?:{strings})"' + (rf"|(?<![\w.@+%-])(?:{words})(?![\w@-])" if words else "")
    return re.compile(found.encode(), re.IGNORECASE)


def _names(path: Path, pattern: re.Pattern[bytes] | None) -> bool:
    try:
        return pattern is not None and pattern.search(path.read_bytes()) is not None
    except OSError:
        return False


def _is_about(plan: Path, texts: Collection[str]) -> bool:
    """Whether a saved plan has a record about one of the persons; if it cannot be read, it may have one."""
    with suppress(duckdb.Error), database.connect(plan, read_only=True) as connection:
        found = connection.execute(
            "SELECT table_schema FROM information_schema.tables WHERE table_name = 'outbox'"
        ).fetchall()
        return any(
            connection.execute(
                f"SELECT 1 FROM {identifier(schema)}.outbox WHERE list_contains($texts, {WHO}) LIMIT 1",
                {"texts": sorted(texts)},
            ).fetchall()
            for (schema,) in found
        )
    return True
