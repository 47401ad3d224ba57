"""Who is meant: finding users by identifier, choosing among several, merging two."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from reverse_etl.sandbox.exact import Json
from reverse_etl.sandbox.store import Transaction, User
from reverse_etl.sandbox.users.identifiers import alias_of, is_alias, is_text
from reverse_etl.sandbox.users.times import moment

_NEVER = datetime.min.replace(tzinfo=UTC)  # what is stored was checked: each is a time
PRIORITIES = ("identified", "unidentified", "most_recently_updated", "least_recently_updated")
CLASHING = (PRIORITIES[:2], PRIORITIES[2:])
CLASH = "Request can not contain both of '{}' and '{}' values in the 'prioritization' array"  # (clients)


def usual_choice(users: Sequence[User]) -> User | None:
    """Among users with the same email, the most recently updated one with an external id, else of all (track).

    `users` come with the most recently updated last. For a shared phone the same: a guess.
    """
    return next(iter([user for user in users if user.external_id is not None][::-1] or users[::-1]), None)


def choose(users: Sequence[User], prioritization: Sequence[str]) -> User | None:
    """The one user that a prioritization leaves, or None: then nothing is done (identify, delete).

    `users` come with the most recently updated last.
    """
    left = list(users)
    for word in prioritization:
        match word:
            case "identified":
                left = [user for user in left if user.external_id is not None]
            case "unidentified":
                left = [user for user in left if user.external_id is None]
            case "most_recently_updated":
                left = left[-1:]
            case "least_recently_updated":
                left = left[:1]
    return left[0] if len(left) == 1 else None


def prioritization_problem(sent: Json) -> str | None:
    """Optional list; one of each pair excludes the other (identify, clients)."""
    if sent is None:
        return None
    if not isinstance(sent, list) or not all(word in PRIORITIES for word in sent):
        return f"'prioritization' must be an array of {', '.join(PRIORITIES)}"  # a guess
    return next((CLASH.format(*pair) for pair in CLASHING if all(word in sent for word in pair)), None)


def names_someone(sent: Json) -> bool:
    """Whether an object has an external_id, user_alias, email or phone that `find` can use."""
    if not isinstance(sent, dict):
        return False
    return is_alias(sent.get("user_alias")) or any(map(is_text, map(sent.get, ("external_id", "email", "phone"))))


def find(work: Transaction, sent: Mapping[str, Json]) -> User | None:
    """The user of an identifier object; emails and phones by their prioritization."""
    if is_text(sent.get("external_id")):
        return work.by_external_id(sent["external_id"])
    if is_alias(sent.get("user_alias")):
        return work.by_alias(alias_of(sent["user_alias"]))
    users = work.with_email(sent["email"]) if is_text(sent.get("email")) else work.with_phone(sent["phone"])
    return choose(users, sent.get("prioritization") or [])


def merge(work: Transaction, source: User, target: User) -> None:
    """Fields that only the source has move to the target, with all it did; the source disappears (identify, merging).

    Events and purchases add up, of session dates the first and the last stay (merge). Push tokens and subscription
    groups that the target lacks move too, an alias whose label it has is lost: guesses, no page names them.
    """
    for name, better in (("date_of_first_session", min), ("date_of_last_session", max)):  # the earlier, the later
        both = [user.fields[name] for user in (target, source) if name in user.fields]
        if both:
            target.fields[name] = better(both, key=lambda entry: moment(entry[0]) or _NEVER)
    for mine, theirs in ((target.fields, source.fields), (target.custom, source.custom)):
        mine.update((name, value) for name, value in theirs.items() if name not in mine)
    work.change(target)
    work.move_belongings(source, target)
    work.delete(source)


def same_email(work: Transaction, user: User) -> list[User]:
    """The user, and all with the same email."""
    email = user.value("email")
    return [user] if email is None else work.with_email(email)
