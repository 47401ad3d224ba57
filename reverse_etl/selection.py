"""Which syncs a command is about, and in which order they run. Pure."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from reverse_etl.errors import ProjectError, nearest
from reverse_etl.spec import SPEC_FILE, Sync


def select(syncs: Sequence[Sync], wanted: Iterable[str], unwanted: Iterable[str] = ()) -> list[Sync]:
    """The syncs that any of `wanted` names, less those that any of `unwanted` names, in the order in which they run.

    A selector is a name, a glob (`users_*`), or `tag:` with a tag or a glob. Several in one text, with blanks between,
    add up; with commas between, a sync has to match each of them. Raises ProjectError for one that matches nothing.
    """
    chosen = {name for text in wanted for part in text.split() for name in _matching(syncs, part)}
    left_out = {name for text in unwanted for part in text.split() for name in _matching(syncs, part)}
    return [sync for sync in in_order(syncs) if sync.name in chosen - left_out]


def in_order(syncs: Sequence[Sync]) -> list[Sync]:
    """The syncs in the order of the file, each after those that its `after` names."""
    by_name = {sync.name: sync for sync in syncs}
    ordered: dict[str, Sync] = {}

    def place(sync: Sync) -> None:
        for name in sync.after:
            if name not in ordered:
                place(by_name[name])
        ordered.setdefault(sync.name, sync)

    for sync in syncs:
        place(sync)
    return list(ordered.values())


def _matching(syncs: Sequence[Sync], text: str) -> set[str]:
    parts = [_one(syncs, part) for part in text.split(",") if part]
    return set.intersection(*parts) if parts else set()


def _one(syncs: Sequence[Sync], selector: str) -> set[str]:
    method, colon, pattern = selector.rpartition(":")
    if method == "tag":
        valid = sorted({tag for sync in syncs for tag in sync.tags})
        found = {sync.name for sync in syncs if any(fnmatchcase(tag, pattern) for tag in sync.tags)}
        what = f'no sync in {SPEC_FILE} has the tag "{pattern}"'
    elif colon:
        raise ProjectError(f'unknown selector "{selector}"', hint="a selector is a name, a glob or tag:TAG")
    else:
        valid = [sync.name for sync in syncs]
        found = {name for name in valid if fnmatchcase(name, pattern)}
        what = f'there is no sync "{pattern}" in {SPEC_FILE}'
    if not found:
        raise ProjectError(what, hint=nearest(pattern, valid))
    return found
