"""Where the state of one sync is stored: in a folder, and in an object store if machines share it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reverse_etl.braze.modes import Ends
from reverse_etl.errors import MovedError
from reverse_etl.plan.elsewhere import RowPlace
from reverse_etl.project.again import Resend
from reverse_etl.project.spec import SPEC_FILE
from reverse_etl.shared_state.object_store import ObjectStore


@dataclass(frozen=True)
class StatePlace:
    """The state of a sync on a target: in `folder`; or in `objects`, and then the folder has a copy.

    `formers` are the names of sync and target that a file may still have which was moved here. `resend`: what it does
    to send every row again; `ends`, if that is what nothing undoes. `suppresses`: whom the sync deletes is not sent by
    others again. `rows` is where the acknowledged rows are, if the state does not have them itself.
    """

    folder: Path
    sync: str
    target: str
    objects: ObjectStore | None = None
    formers: Sequence[tuple[str, str]] = ()
    resend: Resend = Resend.IS_SAFE
    ends: Ends | None = None
    suppresses: bool = True
    rows: RowPlace | None = field(default=None, compare=False)

    @property
    def start_over(self) -> str:
        """How to go on without the state, as a last resort: nothing is deleted, no event is sent twice, and nobody who
        has opted out is opted in."""
        reset = f"run `retl state reset {self.sync}`"
        if self.resend is Resend.MAY_OPT_IN:
            kept = f"{reset}, then `retl sync {self.sync} --read-first`: the old files are kept"
            return f"{kept}, and every row is sent again, but for opt-ins of users who have opted out in Braze"
        if self.resend is Resend.IS_SAFE:
            return f"{reset}: the old files are kept, and every row is sent again"
        baseline = f"pause its schedule, {reset}, then `retl state baseline {self.sync}`: the old files are kept"
        of_ends = f", no {self.ends.of} is {self.ends.done} again" if self.ends else ""
        return f"{baseline}{of_ends}, and what the model returns by now counts as sent"

    @property
    def restore(self) -> str:
        """What comes before that: a backup does not know what was sent since."""
        newest = "restore the newest backup"
        if self.ends:
            return f"{newest}, if no {self.ends.of} was {self.ends.done} since, who would be {self.ends.done} again"
        if self.resend is Resend.COUNTS_TWICE:
            return f"{newest}, if nothing was sent since, which would count twice"
        if self.resend is Resend.MAY_OPT_IN:
            return f"{newest}, if no user was opted in since, who may have opted out by now"
        return f"{newest}, and what was sent since is sent again"

    @property
    def mark(self) -> Path:
        """What is left behind when the state was moved elsewhere: an older checkout must not begin a new one here."""
        return self.folder / "moved.json"

    @property
    def begun(self) -> Path:
        """What is left beside the state before it is changed for the first time: should the state be lost, it says that
        there was one."""
        return self.folder / "has-run"

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


def was_moved(place: StatePlace, sync: str, target: str) -> MovedError:
    """Who still uses a former name would begin a new state, and send again what was sent."""
    name = sync if target == place.target else f"{sync} on target {target}"
    reset = f"run `retl state reset {place.sync}` once"
    hint = f"this is an older checkout, or a new sync of that name: for a new one, {reset}"
    return MovedError(f"{place.sync}: its state was moved to {name}, when it was renamed", hint=hint, code="S012")
