"""What the SQL of a project may read besides the tables of the warehouse.

the project's folder, the folder of the warehouse, dbt's project_dir     except private names, and links that lead out
`files:` of the warehouse                                                folders, files, prefixes of URLs
tables of `collect`                                                      wherever its path is

Nothing else of the machine: a model comes with a pull request, and so does a symbolic link to /proc/self/environ.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from reverse_etl.errors import Location, ProjectError
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.spec_targets import DuckDB, is_url
from reverse_etl.system.clock import Clock
from reverse_etl.system.private_files import NEVER_READ, is_private

_FILES = ("warehouse", "files")


@dataclass(frozen=True)
class Readable:
    """Folders with all that is in them, single files, and prefixes of URLs, which `where` lists."""

    folders: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    where: Location | None = None
    start: Path | None = None  # where relative paths start


def readable_by_models(project: LoadedProject) -> Readable:
    """What models, data tests and unit tests may read. Raises ProjectError for an entry of `files:` that they may not.

    Without the settings of a target, its warehouse and its `files:` do not count.
    """
    spec = project.spec
    own = spec.chosen.warehouse if spec.chosen else None
    listed = dict(enumerate(own.files if isinstance(own, DuckDB) else ()))
    places = {n: _listed(project, n, text) for n, text in listed.items() if not is_url(text)}
    walk = _Walk(tuple(dict.fromkeys(_roots(project))), tuple(places.values()))
    walk.all()
    for place in places.values():
        walk.folders.append(str(place))
        walk.files.append(str(place))
    walk.folders += _collected(project)
    urls = tuple(text for text in listed.values() if is_url(text))
    where = spec.in_target(*_FILES) if urls else None
    return Readable(tuple(walk.folders), tuple(walk.files), urls, where, project.folder.resolve())


def _roots(project: LoadedProject) -> Iterator[Path]:
    """The folders of the project, the warehouse and dbt, except those that are more than that, such as a home or /."""
    spec, own = project.spec, project.folder.resolve()
    if own != Path("/"):
        yield own
    warehouse = (project.warehouse or (project.attached.file if project.attached else None)) if spec.chosen else None
    beside = [warehouse.resolve().parent] if warehouse else []
    if spec.dbt:
        dbt = (own / Path(spec.dbt.project_dir).expanduser()).resolve()
        beside += [dbt] if (dbt / "dbt_project.yml").exists() else []
    for folder in beside:
        if folder not in (Path("/"), Path.home().resolve()) and not _never(folder):
            yield folder


def _collected(project: LoadedProject) -> list[str]:
    """The folders of what is collected, whether they are there yet or not; none that is a link."""
    sources = project.spec.collect.sources if project.spec.collect else {}
    folder = project.collect_folder.resolve() if sources else project.folder
    tables = (folder / name / table for name, source in sources.items() for table in source.tables)
    return [str(table) for table in tables if table.resolve() == table]


def _never(place: Path) -> str | None:
    """What a place is in, or contains, that models never read; None if nothing of it."""
    return next((one for one in NEVER_READ if place.is_relative_to(one) or Path(one).is_relative_to(place)), None)


def _listed(project: LoadedProject, number: int, text: str) -> Path:
    """The place that an entry of `files:` names, its links resolved."""
    place = (project.folder / Path(text).expanduser()).resolve()

    def refused(why: str, hint: str) -> ProjectError:
        return ProjectError(f'files: "{text}" {why}', project.spec.in_target(*_FILES, number), hint, code="P026")

    never = _never(place)
    if never:
        verb = "is in" if place.is_relative_to(never) else "contains"
        raise refused(f"{verb} {never}, which models never read", "list the folders or files that the models need")
    if any(is_private(part) for part in place.parts):
        raise refused("is private, and models never read it", "keep the data in another file or folder")
    if project.folder.resolve().is_relative_to(place):
        hint = "remove it: models read the project's files anyway; or list folders in it"
        raise refused("contains this project with its private files, such as .env", hint)
    return place


@dataclass(frozen=True)
class _Entries:
    """What is directly in a folder, without what is private."""

    folders: tuple[str, ...]
    files: tuple[str, ...]
    links: tuple[str, ...]
    has_private: bool


_SETTLED_NS = 3 * 10**9  # file systems note the time of a change in steps of up to two seconds
_entries: dict[tuple[str, bool], tuple[int, _Entries]] = {}  # of folders, by when they were changed


def _entries_of(folder: str, is_root: bool) -> _Entries:
    """What is in a folder. It is listed once in a process, as long as nothing comes or goes: a hundred syncs that run
    one after the other have the same folders. Raises OSError."""
    changed_ns = os.stat(folder).st_mtime_ns
    seen = _entries.get((folder, is_root))
    if seen and seen[0] == changed_ns:
        return seen[1]
    folders, files, links, has_private = list[str](), list[str](), list[str](), False
    now_ns = int(Clock().utc().timestamp() * 1e9)
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_private(entry.name, is_top=is_root):
                has_private = True
            elif entry.is_symlink():
                links.append(entry.path)
            else:
                (folders if entry.is_dir(follow_symlinks=False) else files).append(entry.path)
    found = _Entries(tuple(folders), tuple(files), tuple(links), has_private)
    if now_ns - changed_ns > _SETTLED_NS:
        _entries[folder, is_root] = changed_ns, found
    return found


@dataclass
class _Walk:
    """Finds what is readable in the `roots`. A folder is listed as a whole if everything in it, at any depth, is."""

    roots: tuple[Path, ...]
    listed: tuple[Path, ...]
    folders: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)

    def all(self) -> None:
        for root in self.roots:
            self._add(*self._readable(str(root), is_root=True))

    def _add(self, folders: list[str], files: list[str]) -> None:
        self.folders += folders
        self.files += files

    def _readable(self, folder: str, is_root: bool = False) -> tuple[list[str], list[str]]:
        """The folders and files in `folder` that may be read; the folder itself if all of them may."""
        try:
            entries = _entries_of(folder, is_root)
        except OSError:
            return [], []
        # DuckDB follows links by itself, and asks for what they lead to.
        is_whole = not entries.has_private and not any(map(self._leads_out, entries.links))
        folders, files = list[str](), [*entries.files]
        for inner in entries.folders:
            inner_folders, inner_files = self._readable(inner)
            is_whole = is_whole and inner_folders == [inner]
            folders += inner_folders
            files += inner_files
        return ([folder], []) if is_whole else (folders, files)

    def _leads_out(self, link: str) -> bool:
        target = Path(os.path.realpath(link))
        if any(target.is_relative_to(place) for place in self.listed):
            return False
        inside = next((root for root in self.roots if target.is_relative_to(root)), None)
        if inside is None:
            return True
        parts = target.relative_to(inside).parts
        return any(is_private(part, is_top=depth == 0) for depth, part in enumerate(parts))
