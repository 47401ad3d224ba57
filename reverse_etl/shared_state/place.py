"""Where the state of one sync is stored: in a folder, and in an object store if machines share it."""

from dataclasses import dataclass
from pathlib import Path

from reverse_etl.project.spec import SPEC_FILE
from reverse_etl.shared_state.object_store import ObjectStore


@dataclass(frozen=True)
class StatePlace:
    """The state of a sync on a target: in `folder`; or in `objects`, and then the folder has a copy."""

    folder: Path
    sync: str
    target: str
    objects: ObjectStore | None = None

    @property
    def top(self) -> Path:
        """The folder of the states of all targets, .retl or `state.path`; of this target, if a project is in that."""
        top = self.folder.parents[1]
        return self.folder.parent if any((top / name).exists() for name in (SPEC_FILE, ".git")) else top

    @property
    def lock(self) -> Path:
        return self.folder / "lock"

    @property
    def state(self) -> Path:
        return self.folder / "state.duckdb"
