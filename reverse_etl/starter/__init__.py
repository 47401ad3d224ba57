"""The project that `retl init` writes: small, and it works."""

from importlib.resources import as_file, files
from pathlib import Path

from reverse_etl.errors import ProjectError
from reverse_etl.project.json_schema import SCHEMA_FILE, json_schema
from reverse_etl.words import as_json

FILES = (
    "syncs.yml",
    "models/customers.sql",
    "models/users_track.sql",
    "models/orders.sql",
    "models/newsletter.sql",
    "seeds/raw_customers.csv",
    "seeds/raw_orders.csv",
    ".gitignore",
)


def write_starter(folder: Path) -> list[Path]:
    """Write the project into `folder`; the files written. Raises ProjectError rather than write over anything."""
    there = [name for name in (*FILES, SCHEMA_FILE) if (folder / name).exists()]
    if there:
        raise ProjectError(f"{folder / there[0]} is there already", hint="name an empty folder: retl init my_project")
    written = []
    with as_file(files(__name__) / "project") as source:
        texts = {name: (source / name.removeprefix(".")).read_text(encoding="utf-8") for name in FILES}
        for name, text in {**texts, SCHEMA_FILE: as_json(json_schema()) + "\n"}.items():
            path = folder / name
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            except OSError as error:
                raise ProjectError(f"{path} cannot be written: {error.strerror}") from error
            written.append(path)
    return written
