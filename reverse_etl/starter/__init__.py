"""The project that `retl init` writes: small, and ready to run; or one from workflows of Treasure Data.

writing.py        files, all of them or none
ci.py             the CI workflow of `retl init --ci`
treasure_data/    `retl init --from treasure-data DIR`
"""

from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path

from reverse_etl.errors import ProjectError
from reverse_etl.project.json_schema import SCHEMA_FILE, json_schema
from reverse_etl.starter.writing import all_or_none
from reverse_etl.words import as_json

IGNORED = ".gitignore"
FILES = (
    "syncs.yml",
    "models/customers.sql",
    "models/users_track.sql",
    "models/orders.sql",
    "models/newsletter.sql",
    "seeds/raw_customers.csv",
    "seeds/raw_orders.csv",
    IGNORED,
)


def write_starter(folder: Path) -> list[Path]:
    """Write the project into `folder`; returns the files written. Raises ProjectError rather than overwrite a file."""
    with as_file(files(__name__) / "project") as source:
        texts = {name: (source / name.removeprefix(".")).read_text(encoding="utf-8") for name in FILES}
    return _write(folder, texts)


def write_project(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """The same, for a project of other files than those of the starter."""
    with as_file(files(__name__) / "project") as source:
        ignored = (source / IGNORED.removeprefix(".")).read_text(encoding="utf-8")
    return _write(folder, {**texts, IGNORED: ignored})


def _write(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """A .gitignore that is there is the user's: it gets the lines that it lacks."""
    texts = {**texts, SCHEMA_FILE: as_json(json_schema()) + "\n"}
    there = [name for name in texts if name != IGNORED and (folder / name).exists()]
    if there:
        raise ProjectError(
            f"{folder / there[0]} already exists", hint="use an empty folder: `retl init my_project`", code="P080"
        )
    with all_or_none() as writing:
        for name, text in texts.items():
            writing.add(folder / name, text, lines_only=name == IGNORED)
    return [folder / name for name in texts]
