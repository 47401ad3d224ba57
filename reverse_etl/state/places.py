"""Where the state of a sync is: under its name, or still under a former one of the sync or its target."""

import json
from collections.abc import Callable
from dataclasses import replace

from reverse_etl.errors import StateError
from reverse_etl.ledger.places import InFolder
from reverse_etl.plan.elsewhere import RowPlace, RowTables
from reverse_etl.project.again import Resend, resend_of
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.spec import Sync
from reverse_etl.project.spec_targets import Spark
from reverse_etl.shared_state.object_store import ObjectStore
from reverse_etl.shared_state.place import StatePlace, was_moved
from reverse_etl.shared_state.reading import left_of, look


def place_named(project: LoadedProject, sync: str, target: str) -> StatePlace:
    """Where the state of a sync of that name is stored, on a target of that name."""
    url = project.states_url
    objects = ObjectStore(f"{url}/{target}/{sync}", project.network) if url else None
    known = project.by_name.get(sync)
    resend = resend_of(known) if known else Resend.IS_SAFE
    folder = project.states_folder / target / sync
    suppresses = known is None or known.suppresses
    return StatePlace(
        folder, sync, target, objects, (), resend, known.mode.ends if known else None, suppresses, _rows_of(project)
    )


def _rows_of(project: LoadedProject) -> RowPlace | None:
    """Where the acknowledged rows of a target are, if its warehouse can have them."""

    def opened(schema: str) -> RowTables:
        from reverse_etl.engines.warehouse import row_tables  # with DuckDB, which `run-due` mostly does without

        return row_tables(project, schema)

    target = project.spec.target
    return RowPlace(target.rows_in, opened) if isinstance(target.warehouse, Spark) else None


def present_place(project: LoadedProject, sync: Sync) -> StatePlace:
    """Where the state of a sync belongs."""
    place = place_named(project, sync.name, project.target_name)
    return replace(place, formers=project.former_names(sync))


def place_of(project: LoadedProject, sync: Sync) -> StatePlace:
    """Where the state of a sync is: under its name, or still under a former one."""
    present = present_place(project, sync)
    return former_place(project, present, has_state) or present


def folder_of(project: LoadedProject, sync: Sync) -> StatePlace:
    """The same, as far as the files on this machine tell; contacts no store."""
    present = present_place(project, sync)
    if present.objects and not present.state.exists():
        former = (place_named(project, *names) for names in present.formers)
        return next((place for place in former if place.state.exists()), present)
    return present if present.objects else place_of(project, sync)


def moved_to(place: StatePlace) -> tuple[str, str] | None:
    """The names of sync and target that the state which was here has now; None if it was not moved."""
    if place.objects:
        found = look(place.objects)
        moved = found[0].moved if found else None
        return (moved.sync, moved.target) if moved else None
    try:
        said = json.loads(place.mark.read_text())
        return said["sync"], said["target"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StateError(f"{place.mark} is damaged", hint="delete it if no sync was renamed", code="S006") from error


def refuse_moved(place: StatePlace, sync: str, target: str) -> None:
    """Raises StateError if the state that was in this folder is that of another name now than of this sync."""
    moved = None if place.objects else moved_to(place)
    if moved and moved != (sync, target):
        raise was_moved(place, *moved)


def refuse_lost(place: StatePlace) -> None:
    """Raises StateError if there was a state in this folder that is missing: to begin a new one would send everything
    again. A copy of a shared state may be missing."""
    sign = _of_lost(place)
    if sign:
        hint = f"{place.restore}; or {place.start_over}"
        raise StateError(f"{place.state} is missing, but {sign}", hint=hint, code="S006")


def is_lost(place: StatePlace) -> bool:
    """Whether `refuse_lost` would raise."""
    return _of_lost(place) is not None


def _of_lost(place: StatePlace) -> str | None:
    """What is beside a state that is missing, and only where there was one: a state is there before all of it, and a
    reset takes all of it aside."""
    if place.objects is not None or place.state.exists():
        return None
    if (place.folder / "outbox.duckdb").exists():
        return "a killed run is left next to it"
    if place.state.with_name("state.duckdb.wal").exists():
        return "its log is left next to it"
    if InFolder(place.folder).names():
        return "its ledger is left next to it: there were runs"
    if place.begun.exists():
        return f"{place.begun.name} is left next to it: there were runs"
    return None


def former_place(project: LoadedProject, present: StatePlace, is_in: Callable[[StatePlace], bool]) -> StatePlace | None:
    """The place under a former name that has the state; None if it is where it belongs, or nowhere."""
    if not present.formers or is_in(present) or has_begun(present):
        return None
    return next((place for names in present.formers if is_in(place := place_named(project, *names))), None)


def has_begun(place: StatePlace) -> bool:
    """Whether there is a state, or was one that was reset, or is lost: then nothing is moved here any more."""
    if place.objects is None:
        return has_state(place) or was_reset(place) or (place.begun.exists() and not place.state.exists())
    found = look(place.objects)
    if found is None:
        return bool(left_of(place.objects, but_moved=True))
    return found[0].generation > 0 or found[0].sending is not None


def was_reset(place: StatePlace) -> bool:
    """Whether there was a state before that of the present run, which has not been committed."""
    if place.objects is None:
        return any(place.folder.glob("before-reset-*"))
    found = look(place.objects)
    return found is not None and found[0].generation > 0


def has_state(place: StatePlace) -> bool:
    """Whether there is a state that knows of something, or a run that may leave one."""
    if place.objects is None:
        from reverse_etl.state.file import is_blank  # with DuckDB, which `run-due` mostly does without

        return place.state.exists() and not is_blank(place.state)
    found = look(place.objects)
    return found is not None and found[0].moved is None and bool(found[0].state or found[0].sending)
