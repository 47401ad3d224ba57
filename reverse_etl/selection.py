"""Which syncs a command is about, and in which order they run. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from reverse_etl.errors import ProjectError, nearest
from reverse_etl.spec import SPEC_FILE, Sync

# What a sync is chosen by beside its name, and what is said if none has it.
METHODS: Mapping[str, tuple[Callable[[Sync], Sequence[str]], str]] = {
    "tag": (lambda sync: sync.tags, "no sync has the tag"),
    "mode": (
        lambda sync: (sync.mode, *([sync.track_record_type] if sync.track_record_type else [])),
        "no sync has the mode",
    ),
    "model": (lambda sync: (sync.model,), "no sync has the model"),
}


def select(syncs: Sequence[Sync], wanted: Iterable[str], unwanted: Iterable[str] = ()) -> list[Sync]:
    """The syncs that any of `wanted` names, less those that any of `unwanted` names, in the order in which they run.

    A selector is a name, a glob (`users_*`), or one of METHODS with a value or a glob: `tag:hourly`. Several in one
    text, with blanks between, add up; with commas between, a sync has to match each of them. Raises ProjectError for
    one that matches nothing.
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
    if colon and method not in METHODS:
        hint = f"a selector is a name, a glob, or begins with {', '.join(f'{name}:' for name in METHODS)}"
        raise ProjectError(f'unknown selector "{selector}"', hint=hint)
    words, what = METHODS[method] if colon else (lambda sync: (sync.name,), "there is no sync")
    found = {sync.name for sync in syncs if any(fnmatchcase(word, pattern) for word in words(sync))}
    if not found:
        valid = sorted({word for sync in syncs for word in words(sync)}) if colon else [sync.name for sync in syncs]
        raise ProjectError(f'{what} "{pattern}" in {SPEC_FILE}', hint=nearest(pattern, valid))
    return found
