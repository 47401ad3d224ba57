"""Endpoints that change who is who: aliases, identify, merge, delete, external ids. Each is one function.

Where only "success says received" is known, an entry that changes nobody is a success (errors, alias, identify); it is
recorded as a silent drop, unless what it asks for is so already.
"""

from collections.abc import Callable, Mapping

from reverse_etl.sandbox.exact import Json
from reverse_etl.sandbox.http.answers import (
    MAX_IDS,
    TOO_MANY_IDS,
    TOO_MANY_IDS_AND_ALIASES,
    Answer,
    RefusedError,
    Settings,
    array_of,
    object_error,
)
from reverse_etl.sandbox.store import Transaction, User
from reverse_etl.sandbox.users.identifiers import alias_of, is_alias, is_text
from reverse_etl.sandbox.users.people import choose, find, merge, names_someone, prioritization_problem

NO_EXTERNAL_ID = "'external_id' is required"  # (clients)
NO_MERGES = "'merge_updates' must be an array of objects"  # this and the next three: (merge)
TOO_MANY_MERGES = "a single request may not contain more than 50 merge updates"
BAD_MERGE = "'merge_updates' must only have 'identifier_to_merge' and 'identifier_to_keep'"
BAD_MERGE_IDENTIFIER = (
    "identifiers must be objects with an 'external_id' property that is a string, 'user_alias' property that is an "
    "object, 'email' property that is a string, or 'phone' property that is a string"
)
ALIAS_SHAPE = "'alias_name' and 'alias_label' are required"  # a guess


def alias_new(work: Transaction, body: Mapping[str, Json], settings: Settings) -> Answer:
    """Attach aliases to known users, or make alias-only users (alias)."""
    sent = array_of(body, "user_aliases", too_many=TOO_MANY_IDS_AND_ALIASES)
    errors: list[dict[str, Json]] = []
    for index, one in enumerate(sent):
        problem = _alias_problem(one) or settings.refusal(one)
        if problem:
            errors.append(object_error(problem, "user_aliases", index))
        elif reason := _attach_alias(work, one):
            work.drop("user_aliases", index, "", reason)
    if len(errors) == len(sent):
        raise RefusedError("Valid data must be provided in the 'user_aliases' field.", errors)  # text: a guess
    answer = {"aliases_processed": len(sent) - len(errors), "message": "success"}
    return 201, {**answer, "errors": errors} if errors else answer


def _alias_problem(one: Json) -> str | None:
    if not is_alias(one):
        return ALIAS_SHAPE
    external_id = one.get("external_id")
    return None if external_id is None or is_text(external_id) else "'external_id' must be a non-empty string"


def _attach_alias(work: Transaction, one: Mapping[str, Json]) -> str | None:
    """Why nothing happens: the id is unknown (alias), the pair is taken, or the user has another one with this label
    (life); None if the alias is there now."""
    alias = alias_of(one)
    owner = work.by_alias(alias)
    if one.get("external_id") is None:
        if owner is None:
            work.add_alias(work.create(), alias)
        return None
    user = work.by_external_id(one["external_id"])
    if user is None:
        return "no user has this external_id"
    if owner is not None:
        return None if owner is user else "another user has this alias"
    if not work.add_alias(user, alias):
        return "the user has another alias with this label"
    work.touch(user)
    return None


def alias_update(work: Transaction, body: Mapping[str, Json], settings: Settings) -> Answer:
    """Rename aliases; unknown pairs do nothing (alias-upd). No response body is printed: this one is a guess."""
    sent = array_of(body, "alias_updates", too_many=TOO_MANY_IDS_AND_ALIASES)
    names = ("alias_label", "old_alias_name", "new_alias_name")
    for one in sent:
        if not isinstance(one, dict) or not all(is_text(one.get(name)) for name in names):
            raise RefusedError("'alias_updates' must have 'alias_label', 'old_alias_name' and 'new_alias_name'")
    for index, one in enumerate(sent):
        user = work.by_alias((one["alias_label"], one["old_alias_name"]))
        if user is None:
            work.drop("alias_updates", index, "", "no user has this alias")
        elif work.rename_alias(*(one[name] for name in names)):
            work.touch(user)
        else:
            work.drop("alias_updates", index, "", "another user has the new alias")
    return 201, {"message": "success"}


IDENTIFY = {  # array -> (counter, identifier)
    "aliases_to_identify": ("aliases_processed", "user_alias"),
    "emails_to_identify": ("emails_processed", "email"),
    "phone_numbers_to_identify": ("phone_numbers_processed", "phone"),
}


def identify(work: Transaction, body: Mapping[str, Json], settings: Settings) -> Answer:
    """Give anonymous users an external id, or merge them into the user who has it (identify)."""
    arrays = {name: array_of(body, name) for name in IDENTIFY if body.get(name) is not None}
    if not arrays:
        raise RefusedError(f"one of {', '.join(map(repr, IDENTIFY))} is required")  # a guess
    if sum(map(len, arrays.values())) > MAX_IDS:
        raise RefusedError(TOO_MANY_IDS)
    answer: dict[str, Json] = {}
    errors = []
    for name, entries in arrays.items():
        counter, identifier = IDENTIFY[name]
        answer[counter] = 0
        for index, one in enumerate(entries):
            problem = _identify_problem(one, identifier) or settings.refusal(one)
            if problem:
                errors.append(object_error(problem, "user_identifiers", index))  # at a 2xx (clients)
            else:
                answer[counter] += 1
                if reason := _identify(work, one, identifier):
                    work.drop(name, index, "", reason)
    answer["message"] = "success"
    return 201, {**answer, "errors": errors} if errors else answer


def _identify_problem(one: Json, identifier: str) -> str | None:
    if not isinstance(one, dict) or not is_text(one.get("external_id")):
        return NO_EXTERNAL_ID
    value = one.get(identifier)
    if not (is_alias(value) if identifier == "user_alias" else is_text(value)):
        return f"'{identifier}' is required"  # a guess
    return prioritization_problem(one.get("prioritization"))


def _identify(work: Transaction, one: Mapping[str, Json], identifier: str) -> str | None:
    """Why nothing happens, or None."""
    anonymous = find(work, {identifier: one[identifier], "prioritization": one.get("prioritization")})
    if anonymous is None:
        what = "this alias" if identifier == "user_alias" else f"this {identifier}, or more than one"
        return f"no user has {what}"
    known = work.by_external_id(one["external_id"])
    if anonymous is known:
        return None
    if anonymous.external_id is not None:
        return "the user has another external_id"  # two identified users are a case for merge: a guess
    if known is None:
        work.rename(anonymous, one["external_id"])
        return None
    if _labels(work, known) & _labels(work, anonymous):
        return "both users have an alias with one label"  # they are not combined (identify)
    merge(work, source=anonymous, target=known)
    return None


def _labels(work: Transaction, user: User) -> set[str]:
    return {label for label, _ in work.aliases(user)}


def merge_users(work: Transaction, body: Mapping[str, Json], settings: Settings) -> Answer:
    """Merge one user into another (merge)."""
    sent = body.get("merge_updates")
    if not isinstance(sent, list) or not sent or not all(isinstance(one, dict) for one in sent):
        raise RefusedError(NO_MERGES)
    if len(sent) > MAX_IDS:
        raise RefusedError(TOO_MANY_MERGES)
    for one in sent:
        if one.keys() != {"identifier_to_merge", "identifier_to_keep"}:
            raise RefusedError(BAD_MERGE)
        for identifier in one.values():
            if not names_someone(identifier):
                raise RefusedError(BAD_MERGE_IDENTIFIER)
            if problem := prioritization_problem(identifier.get("prioritization")):
                raise RefusedError(problem)
    for index, one in enumerate(sent):
        source, target = find(work, one["identifier_to_merge"]), find(work, one["identifier_to_keep"])
        if source is None or target is None:
            work.drop("merge_updates", index, "", "one of the identifiers means no user, or more than one")
        elif source is not target:
            merge(work, source, target)
    return 202, {"message": "success"}


DELETE: Mapping[str, Callable[[Json], bool]] = {  # array -> whether an item is well-formed
    "external_ids": is_text,
    "user_aliases": is_alias,
    "braze_ids": is_text,
    "email_addresses": lambda one: isinstance(one, dict) and is_text(one.get("email")),  # objects, not strings:
    "phone_numbers": lambda one: isinstance(one, dict) and is_text(one.get("phone")),  # the page has both
}


def delete(work: Transaction, body: Mapping[str, Json], settings: Settings) -> Answer:
    """Delete users for good. One kind of id per request; the count is of ids, not of users found (delete, rec21)."""
    kinds = [name for name in DELETE if body.get(name) is not None]
    if len(kinds) != 1:
        raise RefusedError(f"exactly one of {', '.join(map(repr, DELETE))} is required")  # a guess
    kind = kinds[0]
    ids = array_of(body, kind, too_many=TOO_MANY_IDS_AND_ALIASES if "alias" in kind else TOO_MANY_IDS)
    for one in ids:
        problem = _delete_problem(one) if kind in ("email_addresses", "phone_numbers") else None
        if problem or not DELETE[kind](one):
            raise RefusedError(problem or f"'{kind}' has an item of the wrong shape")  # a guess
    for index, one in enumerate(ids):
        found = _to_delete(work, kind, one)
        user = choose(found, one.get("prioritization") or [] if isinstance(one, dict) else [])
        if user is not None:
            work.delete(user)
        elif found:
            work.drop(kind, index, "", "more than one user is left: none is deleted")
    return 201, {"deleted": len(ids), "message": "success"}


def _delete_problem(one: Json) -> str | None:
    """An email or phone needs a prioritization here, and least_recently_updated is none of its words (delete)."""
    if not isinstance(one, dict):
        return None
    sent = one.get("prioritization")
    if sent in (None, []):
        return "'prioritization' is required"  # this text and the next: guesses
    if isinstance(sent, list) and "least_recently_updated" in sent:
        return "'prioritization' must not contain 'least_recently_updated'"
    return prioritization_problem(sent)


def _to_delete(work: Transaction, kind: str, one: Json) -> list[User]:
    """Users with the identifier, the most recently updated last. A deprecated id deletes its user too (rename)."""
    match kind:
        case "email_addresses":
            return work.with_email(one["email"])
        case "phone_numbers":
            return work.with_phone(one["phone"])
        case "user_aliases":
            user = work.by_alias(alias_of(one))
        case "braze_ids":
            user = work.by_braze_id(one)
        case _:
            user = work.by_external_id(one)
    return [] if user is None else [user]


def rename_ids(work: Transaction, body: Mapping[str, Json], settings: Settings) -> Answer:
    """Give users a new external id; the old one stays valid as deprecated (rename). Status and texts: guesses."""
    done, errors = [], []
    for index, one in enumerate(array_of(body, "external_id_renames")):
        problem = _rename(work, one)
        if problem is None:
            done.append(one["new_external_id"])
        else:
            errors.append([index, problem])
    return 201, {"message": "success", "external_ids": done, "rename_errors": errors}


def _rename(work: Transaction, one: Json) -> str | None:
    names = ("current_external_id", "new_external_id")
    if not isinstance(one, dict) or not all(is_text(one.get(name)) for name in names):
        return "'current_external_id' and 'new_external_id' are required"
    current, new = (one[name] for name in names)
    user = work.by_external_id(current)
    if user is None or user.external_id != current:
        return "'current_external_id' is not the primary id of a user"
    if current == new or work.by_external_id(new) is not None:
        return "new_external_id is already in use"  # (rename)
    work.rename(user, new)
    work.flush()
    work.deprecate(current, user)
    return None


def remove_ids(work: Transaction, body: Mapping[str, Json], settings: Settings) -> Answer:
    """Remove external ids, deprecated ones only (remove). Status and texts: guesses."""
    done, errors = [], []
    for index, one in enumerate(array_of(body, "external_ids")):
        if is_text(one) and work.remove_deprecated(one):
            done.append(one)
        else:
            errors.append([index, "not a deprecated external_id"])
    return 201, {"message": "success", "removed_ids": done, "removal_errors": errors}
