"""Which syncs a command is about, in dbt's selector syntax, and in which order they run. Pure.

users_*          a name or a glob; with a +, the name of a model works too
tag: mode:       what a sync has
model: path:     what it is built on: a model's name, its file, a folder, a glob
source:          what its model reads: shop, shop.orders
config.KEY:      what a key of it is
state:           new, old, modified, unmodified, compared with another manifest (`--state`)
result:          error, or a status: what became of it in a run
+x  x+  2+x+1    also what x runs after; also what runs after x, or is built from it; within so many steps
a,b   a b        both; either
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from reverse_etl.errors import ProjectError, closest, nearest
from reverse_etl.project.graph import Graph
from reverse_etl.project.spec import SPEC_FILE, Sync

Fingerprints = Mapping[str, str]  # by a sync's name

# What a sync can be selected by besides its name, and the message if no sync has it.
METHODS: Mapping[str, tuple[Callable[[Sync, Graph], Sequence[str]], str]] = {
    "tag": (lambda sync, graph: sync.tags, "no sync has the tag"),
    "mode": (
        lambda sync, graph: (sync.mode_name, *([sync.track_record_type] if sync.track_record_type else [])),
        "no sync has the mode",
    ),
    "model": (lambda sync, graph: (sync.model,), "no sync has the model"),
    "path": (lambda sync, graph: paths(graph.files[sync.model]), "no sync has a model at"),
    "source": (lambda sync, graph: _sources(graph, sync.model), "no sync has a model that reads the source"),
}
# How a sync can differ from the other manifest: its fingerprint then (None: it did not exist) and now.
STATES: Mapping[str, Callable[[str | None, str], bool]] = {
    "new": lambda then, now: then is None,
    "old": lambda then, now: then is not None,
    "modified": lambda then, now: then != now,  # as in dbt, new syncs are modified too
    "unmodified": lambda then, now: then == now,
}
_WELL = ("success", "skipped", "running", "already_run")
# By what became of a sync in a run: its status there.
RESULTS: Mapping[str, Callable[[str], bool]] = {
    "error": lambda status: status not in _WELL,
    **{
        name: (lambda status, name=name: status == name)  # type: ignore[misc]
        for name in ("success", "incomplete", "blocked", "failed", "interrupted", "skipped")
    },
}
_CONFIG = "config."
_SOME = 8  # of many words that are listed
_SELECTOR = re.compile(r"^(?P<before>(?P<up>\d*)\+)?(?P<what>.+?)(?P<behind>\+(?P<down>\d*))?$")


@dataclass(frozen=True)
class Compared:
    """What `state:` compares: fingerprints of another manifest, if one was given, and the current ones; and for
    `result:` the status of each sync of a run, if there was one."""

    then: Fingerprints | None
    now: Fingerprints
    results: Mapping[str, str] | None = None


def paths(file: str) -> list[str]:
    """What `path:` may be for a file: `models/crm/a.sql`, `models/crm`, `models`."""
    parts = file.split("/")
    return ["/".join(parts[:number]) for number in range(len(parts), 0, -1)]


def select(
    graph: Graph, wanted: Iterable[str], unwanted: Iterable[str] = (), compared: Compared | None = None
) -> list[Sync]:
    """The syncs that any of `wanted` matches, except those that any of `unwanted` matches, in the order they run in.

    Raises ProjectError for a selector that matches nothing, except `state:` and `result:`: it is not an error if
    nothing changed, or failed.
    """
    compared = compared or Compared(None, {})
    chosen, left_out = (
        {name for text in texts for part in text.split() for name in _matching(graph, compared, part)}
        for texts in (wanted, unwanted)
    )
    return [sync for sync in in_order(graph.syncs) if sync.name in chosen - left_out]


def in_order(syncs: Sequence[Sync]) -> list[Sync]:
    """The syncs in the order of the file, each after the syncs listed in its `after`."""
    by_name = {sync.name: sync for sync in syncs}
    ordered: dict[str, Sync] = {}

    def place(sync: Sync) -> None:
        for name in sync.predecessors:
            if name not in ordered:
                place(by_name[name])
        ordered.setdefault(sync.name, sync)

    for sync in syncs:
        place(sync)
    return list(ordered.values())


def _matching(graph: Graph, compared: Compared, text: str) -> set[str]:
    parts = [_with_relatives(graph, compared, part) for part in text.split(",") if part]
    return set.intersection(*parts) if parts else set()


def _with_relatives(graph: Graph, compared: Compared, selector: str) -> set[str]:
    parsed = _SELECTOR.match(selector)
    if parsed is None or parsed["what"].startswith("+"):
        raise ProjectError(
            f'unknown selector "{selector}"', hint="graph selectors have the form +x, x+, 2+x or x+1", code="P071"
        )
    steps = {side: int(parsed[side]) if parsed[side] else None for side in ("up", "down")}
    method, pattern = _parsed(parsed["what"])
    models = _models(graph, method, pattern)
    is_model = bool(models) and (method in _OF_MODELS or not _named(graph, pattern))
    if is_model and (parsed["before"] or parsed["behind"]):
        found = {sync.name for sync in graph.syncs if sync.model in models}
    else:
        found = _one(graph, compared, method, pattern)
    chosen = set(found)
    if parsed["before"]:
        chosen |= graph.before(found, steps["up"])
    if parsed["behind"]:
        chosen |= graph.built_from(models, steps["down"]) if is_model else graph.behind(found, steps["down"])
    if not chosen and method not in ("state", "result"):
        hint = f'to select what is built from it: "{parsed["what"]}+"'
        raise ProjectError(f'"{selector}" matches no sync', hint=None if parsed["behind"] else hint, code="P071")
    return chosen


def _parsed(what: str) -> tuple[str, str]:
    method, colon, pattern = what.partition(":")
    if colon and method not in (*METHODS, "state", "result") and not method.startswith(_CONFIG):
        names = (*METHODS, "config.KEY", "state", "result")
        close = closest(method, (*METHODS, "state", "result"))
        hint = f"use a name, a glob, or a method: {', '.join(f'{name}:' for name in names)}"
        hint = f'did you mean "{close}:{pattern}"?' if close else hint
        raise ProjectError(f'unknown selector "{what}"', hint=hint, code="P071")
    return (method, pattern.rstrip("/") if method == "path" else pattern) if colon else ("", what)


def _models(graph: Graph, method: str, pattern: str) -> set[str]:
    """Names of the models that a selector is about, if it is about models."""
    of = _OF_MODELS.get(method or "model")
    if of is None:
        return set()
    words = {name: of(graph, name) for name in graph.files}
    return {name for name in words if any(fnmatchcase(word, pattern) for word in words[name])}


def _sources(graph: Graph, model: str) -> list[str]:
    """What `source:` may be for a model: `shop`, `shop.orders`."""
    return [word for table in graph.sources.get(model, ()) for word in (table.partition(".")[0], table)]


# By what models are selected: words of a model.
_OF_MODELS: Mapping[str, Callable[[Graph, str], Sequence[str]]] = {
    "model": lambda graph, model: [model],
    "path": lambda graph, model: paths(graph.files[model]),
    "source": _sources,
}


def _config(sync: Sync, key: str) -> list[str]:
    """The values of a key of a sync, such as `tags` or `guards.max_changes`, as they are written."""
    value: Any = sync.model_dump(mode="json", by_alias=True)
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    values = value if isinstance(value, list) else [value]
    inside = [inner for one in values for inner in (one.values() if isinstance(one, dict) else [one])]
    return [str(one).lower() if isinstance(one, bool) else str(one) for one in inside if one is not None]


def _by_config(graph: Graph, key: str, pattern: str) -> set[str]:
    keys = [field.alias or name for name, field in Sync.model_fields.items()]
    if key.split(".")[0] not in keys:
        close = closest(key, keys)
        hint = f'did you mean "{_CONFIG}{close}:{pattern}"?' if close else nearest(key, keys)
        raise ProjectError(f'unknown selector "{_CONFIG}{key}:"', hint=hint, code="P071")
    values = {sync.name: _config(sync, key) for sync in graph.syncs}
    found = {name for name in values if any(fnmatchcase(word, pattern) for word in values[name])}
    if not found:
        valid = sorted({word for words in values.values() for word in words})
        raise ProjectError(f"no sync has {key}: {pattern}", hint=nearest(pattern, valid), code="P071")
    return found


def _by_result(graph: Graph, compared: Compared, word: str) -> set[str]:
    if word not in RESULTS:
        raise ProjectError(f'unknown selector "result:{word}"', hint=nearest(word, RESULTS), code="P071")
    if compared.results is None:
        hint = "run `retl sync --all` first, or pass --state DIR: a folder with the run_results.json of a run"
        raise ProjectError(f'"result:{word}" needs the results of a run', hint=hint, code="P072")
    return {name for name, status in compared.results.items() if RESULTS[word](status)} & {s.name for s in graph.syncs}


def _named(graph: Graph, pattern: str) -> set[str]:
    return {sync.name for sync in graph.syncs if fnmatchcase(sync.name, pattern)}


def _one(graph: Graph, compared: Compared, method: str, pattern: str) -> set[str]:
    if method == "state":
        return _in_state(graph, compared, pattern)
    if method == "result":
        return _by_result(graph, compared, pattern)
    if method.startswith(_CONFIG):
        return _by_config(graph, method.removeprefix(_CONFIG), pattern)
    if not method:
        if not (found := _named(graph, pattern)):
            is_model = pattern in graph.files
            of_model = f'to select the syncs built from this model: "{pattern}+"'
            is_tag = any(pattern in sync.tags for sync in graph.syncs)
            of_tag = f'to select by this tag: "tag:{pattern}"'
            near = of_tag if is_tag else _near(pattern, [s.name for s in graph.syncs])
            hint = of_model if is_model else near
            raise ProjectError(f'no sync matches "{pattern}"', hint=hint, code="P071")
        return found
    words, what = METHODS[method]
    found = {sync.name for sync in graph.syncs if any(fnmatchcase(word, pattern) for word in words(sync, graph))}
    if not found:
        valid = sorted({word for sync in graph.syncs for word in words(sync, graph)})
        is_built_on = f'to select what is built from it: "{method}:{pattern}+"'
        hint = is_built_on if _models(graph, method, pattern) else _near(pattern, valid)
        raise ProjectError(f'{what} "{pattern}" in {SPEC_FILE}', hint=hint, code="P071")
    return found


def _near(pattern: str, valid: Sequence[str]) -> str | None:
    """A hint with the word that is meant, or all of them if they are few, or else some."""
    some = f"there are {len(valid)}, such as {', '.join(valid[:_SOME])}" if valid else None
    return nearest(pattern, valid) or some


def _in_state(graph: Graph, compared: Compared, word: str) -> set[str]:
    if word not in STATES:
        raise ProjectError(f'unknown selector "state:{word}"', hint=nearest(word, STATES), code="P071")
    if compared.then is None:
        hint = "pass --state DIR: a folder with the manifest.json to compare against, such as main's target/"
        raise ProjectError(f'"state:{word}" needs a manifest to compare against', hint=hint, code="P072")
    then = compared.then
    return {sync.name for sync in graph.syncs if STATES[word](then.get(sync.name), compared.now[sync.name])}
