"""Objects in a store that nothing names any more: those of killed runs, and of machines that were overtaken."""

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta

from reverse_etl.errors import StateError
from reverse_etl.shared_state.head import Head, read_head
from reverse_etl.shared_state.journal_shipping import TAKEN_OVER
from reverse_etl.shared_state.lock import HeadLock
from reverse_etl.shared_state.names import NAMES, is_kept_head, is_kept_list, listed_in
from reverse_etl.shared_state.object_store import Listed
from reverse_etl.shared_state.reading import look

_END_FOR = timedelta(days=1)  # the end of a journal, which keeps a machine that was overtaken from going on


def delete_garbage(lock: HeadLock) -> None:
    """Delete the objects that neither the head nor what a reset has kept names. Never raises because of the store.

    The head is read after the list: what it does not name was uploaded by somebody who has lost the lock, as this
    process holds it, and who can not make a head name it any more.
    """
    with suppress(StateError, ValueError):  # of something kept that cannot be read
        listed, found = lock.objects.listed(), look(lock.objects)
        if found is None or found[0].holder is None or found[0].holder.token != lock.token:
            return
        heads, lost = [found[0]], set[str]()
        for name in (one for one in listed if is_kept_head(one) or is_kept_list(one)):
            kept = lock.objects.read(name)
            if kept and lock.now() - listed[name].written_at < _stays(name, listed[name]):
                if is_kept_list(name):
                    lost |= listed_in(kept[0])
                else:
                    heads.append(read_head(kept[0]))
        lock.objects.delete(name for name in unnamed(listed, heads, lock.now()) if name not in lost)


def unnamed(listed: Mapping[str, Listed], heads: list[Head], now: datetime) -> list[str]:
    """Those of the listed objects that no head names, and that are not to stay any longer. Pure."""
    named = {stored.name for head in heads for stored in head.objects()}
    folders = {head.sending.folder for head in heads if head.sending}
    free = {name: one for name, one in listed.items() if name not in named and name.partition("/")[0] not in folders}
    return [name for name, one in free.items() if now - one.written_at >= _stays(name, one)]


def _stays(name: str, one: Listed) -> timedelta:
    if "/journal-" in name and one.size == len(TAKEN_OVER):
        return _END_FOR
    return next((stays for pattern, stays in NAMES.items() if re.fullmatch(pattern, name)), timedelta.max)
