"""What models send, compared with braze.lock.yml and with what the workspace has. Pure.

An entry is what one line of the file is about: an attribute, an event, a property of an event or of purchases.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from reverse_etl.braze.data_types import DataType, fits
from reverse_etl.plan.writers import alike
from reverse_etl.project.lock_file import LOCK_FILE, Lock
from reverse_etl.records.attributes import attributes_of, properties_of
from reverse_etl.records.layout import Layout


@dataclass(frozen=True)
class Sent:
    """What models send, as the file has it; `owners` are the syncs that send an entry."""

    lock: Lock
    owners: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def by(self, entry: str) -> str:
        names = self.owners.get(entry, ())
        return f" (sync {', '.join(names)})" if names else ""


def sent_by(layouts: Iterable[tuple[Layout, Iterable[str]]]) -> Sent:
    """What syncs send: of each its layout, and the names of the events in its rows. No name is checked."""
    attributes, events, purchases = dict[str, DataType](), dict[str, dict[str, DataType]](), dict[str, DataType]()
    owners = dict[str, list[str]]()
    for layout, names in layouts:
        own = {name: one.type for name, one in attributes_of(layout).items() if one.type}
        is_of_events = layout.mode.record_type == "events"
        found, properties = list(names), properties_of(layout)
        _add(attributes, own)
        for name in found:
            _add(events.setdefault(name, {}), properties)
        _add(purchases, {} if is_of_events else properties)
        one = Lock(
            attributes=own, events=dict.fromkeys(found, properties), purchases={} if is_of_events else properties
        )
        for entry in entries(one):
            owners.setdefault(entry, []).append(layout.sync.name)
    lock = Lock.model_construct(attributes=attributes, events=events, purchases=purchases)
    return Sent(lock, {entry: tuple(names) for entry, names in owners.items()})


def _add(known: dict[str, DataType], more: Mapping[str, DataType]) -> None:
    """Add types by name; of two types, the one that says more, and `any` if they contradict each other."""
    for name, of in more.items():
        before = known.get(name, DataType.ANY)
        known[name] = of if before is DataType.ANY else before if fits(before, of) else DataType.ANY


def entries(lock: Lock) -> dict[str, DataType | None]:
    """The types of a lock, by what they are of; an event has none."""
    found: dict[str, DataType | None] = {f'attribute "{name}"': of for name, of in lock.attributes.items()}
    for event, properties in lock.events.items():
        found[f'event "{event}"'] = None
        found |= {f'property "{name}" of event "{event}"': of for name, of in properties.items()}
    return found | {f'property "{name}" of purchases': of for name, of in lock.purchases.items()}


def with_known_events(sent: Sent, before: Lock | None, has_events: bool) -> Lock:
    """What is to be in the file: also events that it had, of which there may be no rows at present, as long as some
    sync sends events; and what it has of Braze."""
    kept = before.events if before and has_events else {}
    return sent.lock.model_copy(update={"events": {**kept, **sent.lock.events}, "braze": before and before.braze})


def differences(before: Lock, now: Lock, sent: Sent) -> Iterator[str]:
    """What differs between the file and what it should be: one line for each entry, and for each name of Braze."""
    yield from not_in_lock(before, sent)
    there = entries(now)
    for entry in entries(before):
        if entry not in there:
            yield f"{entry}: in {LOCK_FILE}, but no sync sends it"
    if now.braze != before.braze:
        yield f"braze: what the workspace has is not what {LOCK_FILE} says: {', '.join(_moved(before, now))}"


def _moved(before: Lock, now: Lock) -> Iterator[str]:
    """The names that are other ones in Braze now, with another type, or blocked or not."""
    old, new = ([*_of_braze(lock)] for lock in (before, now))
    gone, come = [one for one in old if one not in new], [one for one in new if one not in old]
    yield from (f"+ {one}" for one in come)
    yield from (f"- {one}" for one in gone)


def _of_braze(lock: Lock) -> Iterator[str]:
    if lock.braze:
        yield from (f'attribute "{name}" ({of})' for name, of in sorted(lock.braze.attributes.items()))
        yield from (f'blocked "{name}"' for name in sorted(lock.braze.blocked))
        yield from (f'event "{name}"' for name in sorted(lock.braze.events or ()))


def not_in_lock(lock: Lock, sent: Sent) -> Iterator[str]:
    """What is sent, and not in the file, or with another type than there."""
    known = entries(lock)
    for entry, of in entries(sent.lock).items():
        if entry not in known:
            yield f"{entry}: new{f', {of}' if of else ''}{sent.by(entry)}"
        elif known[entry] is not of:
            yield f"{entry}: {known[entry]} in {LOCK_FILE}, and {of} now{sent.by(entry)}"


def clashes_with_braze(lock: Lock, sent: Sent) -> Iterator[str]:
    """What Braze would drop or convert of what is sent, and names that are almost those of the workspace.

    A name that is in the file has been reviewed. A string may be a time: Braze reads times from strings.
    """
    if not lock.braze:
        return
    theirs = lock.braze.attributes
    for name, of in sent.lock.attributes.items():
        entry = f'attribute "{name}"'
        if name in lock.braze.blocked:
            yield f"{entry}: blocked in Braze, which accepts its values and does not keep them{sent.by(entry)}"
        elif name in theirs and not _may_be(theirs[name], of):
            why = "values of another type are converted or dropped without an error"
            yield f"{entry}: {theirs[name]} in Braze, and {of} here{sent.by(entry)}: {why}"
    for names in alike([*sent.lock.attributes, *theirs]):
        for new in [name for name in names if name in sent.lock.attributes and name not in {*theirs, *lock.attributes}]:
            others = ", ".join(f'"{name}"' for name in names if name in theirs)
            if others:
                entry = f'attribute "{new}"'
                yield f"{entry}: almost the name of {others} in Braze{sent.by(entry)}"


def _may_be(theirs: DataType, ours: DataType) -> bool:
    return fits(theirs, ours) or {theirs, ours} == {DataType.STRING, DataType.TIME}
