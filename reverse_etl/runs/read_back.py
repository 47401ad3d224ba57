"""Users as Braze has them now, as far as records of them are to be compared: for a canary, and for `retl verify`."""

from collections.abc import Sequence

from reverse_etl.braze.comparing import Expected, fields_to_read, reads_groups
from reverse_etl.braze.modes import USER
from reverse_etl.braze.subscriptions import GROUPS, Read, User, kind_of, kinds_not_read
from reverse_etl.delivery.reading import HowToRead, read_users
from reverse_etl.delivery.session import Session
from reverse_etl.errors import ProjectError
from reverse_etl.project.spec import Sync

CANARY = "--canary"


def refuse_unreadable(sync: Sync, command: str) -> None:
    """Raises ProjectError if Braze does not tell what became of records of the sync. Of users who were deleted or
    merged, a state has hashes only."""
    mode, is_of_state = sync.mode, command != CANARY
    if not mode.is_exported or mode.about != USER or (is_of_state and mode.ends):
        why = f"the state does not tell whom it has {mode.ends.done}" if mode.ends else "Braze does not export them"
        what = f"{sync.name}: {command} cannot compare records of mode {mode.label}: {why}"
        hint = None if is_of_state else "run this sync without --canary"
        raise ProjectError(what, sync.where(), hint, code="P142")


class Profiles:
    """Reads what is expected of records. `tells_groups`: the states of groups can be read of their users."""

    def __init__(self, session: Session, how: HowToRead, of: Sequence[Expected]) -> None:
        self._session, self._how = session, how
        columns = {name for one in of for name in one.attributes}
        kinds = {kind_of(one.person) for one in of}
        self.tells_groups = reads_groups(columns) and not kinds_not_read(Read.GROUPS, kinds)
        self._fields = fields_to_read(columns)
        self._exports = not self.tells_groups or not columns <= {GROUPS, "subscription_state"}

    def of(self, people: Sequence[str]) -> dict[str, list[User]]:
        """The users that each of the people is. Raises StateError if Braze does not tell."""
        found: dict[str, list[User]] = {person: [] for person in people}
        if self._exports:
            found |= read_users(self._session, Read.STATES, people, self._fields, self._how)
        if self.tells_groups:
            for person, users in read_users(self._session, Read.GROUPS, people, (), self._how).items():
                groups = {name: state for user in users for name, state in user[GROUPS].items()}
                known = found[person] if self._exports else users[:1]
                found[person] = [{**user, GROUPS: groups} for user in known]
        return found
