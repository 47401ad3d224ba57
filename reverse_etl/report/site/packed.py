"""What the page shows, as JSON that is small: rows without names of members, and texts that are written once. Pure.

    texts     every text but names of columns; others refer to them by number, 0 is the empty one
    names     names of all columns, one a line: how much of the one before it begins with, as a letter, and the rest;
              the columns of a sync refer to them as ranges: [first, how many, ...]
    syncs, runs, columns, ...     rows, whose members `assets/page.js` names: FIELDS there, the functions here

Times are seconds since 1970; those of changes are places in a list of them. In lists with a number for each column, [5]
stands for the same number in all of them. A number of a sync that is not known is null. The name of a run is written
without the time at which it started.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from string import ascii_letters
from typing import Any

from reverse_etl.runs.site_facts import Site, SiteColumn, SiteRun, SiteSync

_MOST_CHANGED = 12  # columns of a run, those that changed most; fewer where there are many runs
_ALL_CHANGED = 20_000
_LENGTHS = ascii_letters  # of what two names have in common: a is none of it


class _Texts:
    """Texts, each with a number."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {"": 0}

    def __call__(self, text: str) -> int:
        return self.numbers.setdefault(text, len(self.numbers))

    def all(self, texts: Iterable[str]) -> list[int]:
        return [self(text) for text in texts]


def packed(site: Site) -> dict[str, Any]:
    """The data of the page."""
    texts, names = _Texts(), _Texts()
    names.numbers.clear()
    runs = sum(len(sync.runs) for sync in site.syncs)
    most = max(2, min(_MOST_CHANGED, _ALL_CHANGED // max(runs, 1)))
    syncs = [_sync(sync, texts, names, most) for sync in site.syncs]
    return {
        "project": site.project,
        "target": site.target,
        "version": site.version,
        "at": _seconds(site.generated_at),
        "days": site.days,
        "most": site.most_runs,
        "syncs": syncs,
        "events": [
            [
                texts(event.name),
                [[texts(name), texts(of)] for name, of in event.properties.items()],
                [[name, _seconds(event.sent_at.get(name)), int(name in event.only)] for name in event.syncs],
            ]
            for event in site.events
        ],
        "nodes": [
            [node.id, list(node.parents), node.file, texts(node.description), texts(node.sql)] for node in site.nodes
        ],
        "orphans": list(site.orphans),
        "names": "\n".join(_front_coded(names.numbers)),
        "texts": list(texts.numbers),
    }


def _sync(sync: SiteSync, texts: _Texts, names: _Texts, most: int) -> list[Any]:
    columns = sync.columns
    times = sorted({_seconds(column.changed_at) for column in columns})
    return [
        sync.name,
        *texts.all((sync.description, sync.owner, sync.mode, sync.about, sync.sends, sync.model, sync.file)),
        sync.line,
        texts.all(sync.tags),
        list(sync.after),
        *texts.all((sync.ends, sync.ended, sync.schedule)),
        _seconds(sync.next_due),
        _seconds(sync.due_since),
        *texts.all((sync.status, sync.message)),
        _seconds(sync.tried_at),
        *(sync.rows, sync.rejected, sync.in_doubt, sync.to_send, sync.written),
        [_run(run, texts, columns, most) for run in sync.runs],
        [[*texts.all((one.status, one.column, one.reason, one.hint)), one.rows] for one in sync.rejects],
        texts.all(sync.notes),
        _ranges([names(column.name.replace("\n", " ")) for column in columns]),
        times,
        *(
            _alike(numbers)
            for numbers in (
                texts.all(column.type for column in columns),
                texts.all(column.description for column in columns),
                texts.all(column.owner for column in columns),
                [_empty(sync, column) for column in columns],
                [column.changes for column in columns],
                [-1 if column.data_points == column.changes else column.data_points for column in columns],
                [times.index(_seconds(column.changed_at)) for column in columns],
                texts.all(column.flaps for column in columns),
                texts.all(column.gone for column in columns),
            )
        ),
        {str(at): texts.all(column.accepted) for at, column in enumerate(columns) if column.accepted},
        {
            str(at): [[texts(value), rows] for value, rows in column.values]
            for at, column in enumerate(columns)
            if column.values
        },
        [[*texts.all((one.status, one.why)), _seconds(one.at), _seconds(one.until), one.times] for one in sync.tries],
        _alike(texts.all(column.unshown for column in columns)),
        int(sync.is_overdue),
        texts(sync.lasts),
        [texts.all((one.name, one.type, one.description, one.owner)) for one in sync.fields],
        [[texts(status), rows] for status, rows in sync.lost],
    ]


def _empty(sync: SiteSync, column: SiteColumn) -> int:
    """In how many of its sync's acknowledged rows a column has no value; -1 if that is not known."""
    return -1 if sync.rows is None or column.filled is None else sync.rows - column.filled


def _run(run: SiteRun, texts: _Texts, columns: Sequence[SiteColumn], most: int) -> list[Any]:
    place = {column.name: at for at, column in enumerate(columns)}
    lost = [run.invalid, run.rejected, run.in_doubt, run.unsent]
    known = [(place[name], cells) for name, cells in run.changed.items() if name in place][:most]
    return [
        run.run_id.removeprefix(f"{run.started_at:%Y%m%dT%H%M%S}"),
        _seconds(run.started_at),
        run.seconds,
        texts(run.status),
        *(run.rows, run.planned, run.accepted),
        lost if any(lost) else 0,
        run.requests,
        run.attributes,
        *texts.all((run.message, run.commit)),
        int(run.is_dirty),
        texts(run.started_by),
        _did(run, texts),
        [number for pair in known for number in pair],
        len(run.changed) - len(known),
    ]


def _did(run: SiteRun, texts: _Texts) -> int | list[int]:
    """What a run did, each with how many rows: as one number, if that is one thing, to all that was accepted."""
    if len(run.did) == 1 and run.did[0][1] == run.accepted:
        return texts(run.did[0][0])
    return [part for verb, rows in run.did for part in (texts(verb), rows)]


def _front_coded(names: Iterable[str]) -> Iterator[str]:
    before = ""
    for name in names:
        pairs = zip(before, name, _LENGTHS[1:], strict=False)
        shared = next((at for at, (one, other, _) in enumerate(pairs) if one != other), None)
        shared = min(len(before), len(name), len(_LENGTHS) - 1) if shared is None else shared
        yield _LENGTHS[shared] + name[shared:]
        before = name


def _ranges(numbers: Sequence[int]) -> list[int]:
    """Numbers as [first, how many, first, how many, ...]."""
    found = list[int]()
    for number in numbers:
        if found and found[-2] + found[-1] == number:
            found[-1] += 1
        else:
            found += [number, 1]
    return found


def _alike(numbers: Sequence[int]) -> list[int]:
    return [numbers[0]] if len(set(numbers)) == 1 else list(numbers)


def _seconds(time: datetime | None) -> int:
    return int(time.timestamp()) if time else 0
