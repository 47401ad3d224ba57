"""The project that `retl init` writes: small, and it works."""

from importlib.resources import as_file, files
from pathlib import Path

from reverse_etl.errors import ProjectError

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
    there = [name for name in FILES if (folder / name).exists()]
    if there:
        raise ProjectError(f"{folder / there[0]} is there already", hint="name an empty folder: retl init my_project")
    written = []
    with as_file(files(__name__) / "project") as source:
        for name in FILES:
            path = folder / name
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text((source / name.removeprefix(".")).read_text(encoding="utf-8"), encoding="utf-8")
            except OSError as error:
                raise ProjectError(f"{path} cannot be written: {error.strerror}") from error
            written.append(path)
    return written
