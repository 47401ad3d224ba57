"""Which sync of a command may be planned now, and which may send, while others of it are under way. Pure.

    waiting ──> planning ──> ready ──> sending ──> sent ──> done
                   │           └── not sent after all ───────^
                   └── there is nothing to send, or an error ^

Syncs are planned one at a time, in the order of the command. Of two of them, the second

                                                is planned, when the first    sends, when the first
    runs after it, or one of both is `alone`    is done                       is done
    sends where it sends (`lanes`)              is sending                    has sent
    sends elsewhere                             is planned                    is planned; with --fail-fast, is done

So what is sent to one family of endpoints is sent in the order of the command, and of two syncs that write the same
user the second is the last. What a sync reads of the states of others: see `Job.await_others`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

CONSENT = "consent"  # a lane: subscriptions of one user are written by several endpoints
MOST_OPEN = 3  # states that are open at once: one that is planned, one that sends, one that is committed


class Stage(IntEnum):
    WAITING = 0
    PLANNING = 1
    READY = 2
    SENDING = 3
    SENT = 4
    DONE = 5


@dataclass(frozen=True)
class Turn:
    """What the turn of a sync depends on: whom it runs `after`, directly or not; its `lanes`, which are the families of
    endpoints that it sends to, and CONSENT; and whether nothing else may be under way beside it (`alone`)."""

    after: frozenset[str]
    lanes: frozenset[str]
    alone: bool = False


def next_to_plan(turns: Mapping[str, Turn], stages: Mapping[str, Stage]) -> str | None:
    """The sync to plan now; None if it has to wait, or none is left. `turns` are in the order of the command."""
    name = next((name for name in turns if stages[name] is Stage.WAITING), None)
    is_open = [stage for stage in stages.values() if Stage.WAITING < stage < Stage.DONE]
    if name is None or len(is_open) >= MOST_OPEN or Stage.PLANNING in is_open:
        return None
    before = _before(turns, name)
    return name if all(stages[one] >= _to_plan(turns[one], turns[name], one) for one in before) else None


def may_send(turns: Mapping[str, Turn], stages: Mapping[str, Stage], name: str, fail_fast: bool) -> bool:
    """Whether a sync that is ready may send now."""
    least = Stage.DONE if fail_fast else Stage.READY
    return stages[name] is Stage.READY and all(
        stages[one] >= max(least, _to_send(turns[one], turns[name], one)) for one in _before(turns, name)
    )


def _before(turns: Mapping[str, Turn], name: str) -> Sequence[str]:
    names = list(turns)
    return names[: names.index(name)]


def _to_plan(first: Turn, second: Turn, first_name: str) -> Stage:
    if first.alone or second.alone or first_name in second.after:
        return Stage.DONE
    return Stage.READY if first.lanes.isdisjoint(second.lanes) else Stage.SENDING


def _to_send(first: Turn, second: Turn, first_name: str) -> Stage:
    if first.alone or second.alone or first_name in second.after:
        return Stage.DONE
    return Stage.READY if first.lanes.isdisjoint(second.lanes) else Stage.SENT
