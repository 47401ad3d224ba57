"""Reads the files of a project, and no others: a link that leads out of it is an error.

syncs.yml   syncs/**/*.yml   models/**/*.sql   macros/**/*.sql   seeds/*.csv   .env
"""

from collections.abc import Mapping
from functools import partial
from io import StringIO
from pathlib import Path

from reverse_etl.errors import Location, ProjectError, nearest
from reverse_etl.project.environment import MACROS, Library, TemplateProblem, macros_in
from reverse_etl.project.models import FUNCTIONS, Model
from reverse_etl.project.spec import SPEC_FILE
from reverse_etl.system.private_files import is_private

SYNCS = "syncs"  # the folder of syncs beside syncs.yml


def spec_file(folder: Path) -> Path:
    """The file with the syncs. Raises ProjectError where it has another name, or is in the folder around this one.

    Two of them are an error: whoever edits the one that is not read would not see any effect.
    """
    path, other = folder / SPEC_FILE, folder / Path(SPEC_FILE).with_suffix(".yaml")
    if other.exists():
        what = f"{other.name} is not read: the file must be called {SPEC_FILE}"
        hint = f"rename it: `mv {other.name} {SPEC_FILE}`"
        if path.exists():
            what = f"{other.name} is not read: {SPEC_FILE} is there, too"
            hint = f"rename it to something else, such as {other.name}.old; or {SPEC_FILE}, if that is the old one"
        raise ProjectError(what, hint=hint, code="P001")
    around = folder.absolute().parent
    if not path.exists() and (around / SPEC_FILE).exists():
        raise ProjectError(
            f"{path.name} not found in {folder.absolute()}", hint=f"pass --project-dir {around}", code="P001"
        )
    return own_file(folder, path)


def sync_files_of(folder: Path) -> dict[str, str]:
    """The texts of syncs/*.yml, by file. Raises ProjectError for one that would not be read."""
    found = dict[str, str]()
    for path in sorted((folder / SYNCS).rglob("*.y*ml")):
        file = path.relative_to(folder).as_posix()
        if path.suffix != ".yml":
            hint = f"rename it: `mv {file} {Path(file).with_suffix('.yml')}`"
            raise ProjectError("files in syncs/ must end with .yml", Location(file), hint, code="P001")
        found[file] = text_of(own_file(folder, path), "")
    return found


def dotenv_of(path: Path) -> dict[str, str]:
    """What .env sets, if there is one. Raises ProjectError if it cannot be read."""
    if not path.is_file():
        return {}
    from dotenv import dotenv_values

    text = text_of(path, "")
    return {name: value for name, value in dotenv_values(stream=StringIO(text)).items() if value is not None}


def models_of(folder: Path) -> dict[str, Model]:
    models: dict[str, Model] = {}
    for path in sorted((folder / "models").rglob("*.sql")):
        file = path.relative_to(folder).as_posix()
        if path.stem in models:
            what = f'duplicate model name "{path.stem}": also {models[path.stem].file}'
            raise ProjectError(
                what, Location(file), "rename one: ref() and model: refer to models by file name", code="P014"
            )
        models[path.stem] = Model(path.stem, file, text_of(own_file(folder, path), ""))
    return models


def library_of(folder: Path) -> Library:
    """The macros of a project. Raises ProjectError for two of the same name."""
    macros = {
        path.relative_to(folder).as_posix(): text_of(own_file(folder, path), "")
        for path in sorted((folder / MACROS).rglob("*.sql"))
    }
    return Library(macros_in(macros, FUNCTIONS), partial(_included, folder, macros))


def _included(folder: Path, macros: Mapping[str, str], file: str) -> str:
    """The text of a file that a template includes, by its path in the project. Raises TemplateProblem."""
    if file in macros:
        return macros[file]
    path = folder / file
    is_inside = not Path(file).is_absolute() and ".." not in Path(file).parts and not is_private(file, is_top=True)
    if not is_inside or any(is_private(part) for part in Path(file).parts):
        hint = "copy it into the project: templates import and include files by their path in it, and none with secrets"
        raise TemplateProblem(f'Jinja: "{file}" is not a file that templates can read', hint, code="P136")
    if not path.is_file():
        there = [one.relative_to(folder).as_posix() for one in path.parent.glob("*.sql")]
        hint = nearest(file, there) or "write its path in the project: macros/money.sql"
        raise TemplateProblem(f'Jinja: "{file}" does not exist', hint, code="P136")
    return text_of(own_file(folder, path), "")


def own_file(folder: Path, path: Path) -> Path:
    """A file of the project. Raises ProjectError for a link to anything else, or to .env: pull requests bring links."""
    real, root = path.resolve(), folder.resolve()
    if real.is_relative_to(root) and not any(is_private(part) for part in real.relative_to(root).parts):
        return path
    place = Location(path.relative_to(folder).as_posix())
    hint = "replace the link with a copy of the file"
    raise ProjectError(
        f"this is a symbolic link to {real}, which is not a file of the project", place, hint, code="P025"
    )


def text_of(path: Path, hint: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ProjectError(f"{path.name} not found in {path.parent.absolute()}", hint=hint, code="P001") from error
    except UnicodeDecodeError as error:
        raise ProjectError(
            f"{path} is not UTF-8 text (byte {error.start})", hint="save it as UTF-8", code="P002"
        ) from error
    except OSError as error:
        raise ProjectError(f"cannot read {path}: {error.strerror}", code="P002") from error
