"""Which sync may be planned, and which may send, while others are under way: commands that are made up, step by step."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reverse_etl.runs.turns import CONSENT, MOST_OPEN, Stage, Turn, may_send, next_to_plan
from tests.shop import examples

LANES = ["users_track", "subscription_status_set", CONSENT]


@st.composite
def commands(draw: st.DrawFn) -> tuple[dict[str, Turn], frozenset[str], bool]:
    """Syncs in their order; those that turn out to touch no consent when they are planned; --fail-fast."""
    turns: dict[str, Turn] = {}
    for number in range(draw(st.integers(1, 6))):
        direct = draw(st.sets(st.sampled_from(list(turns)))) if turns else set()
        after = frozenset(direct).union(*(turns[name].after for name in direct))
        lanes = frozenset(draw(st.sets(st.sampled_from(LANES), min_size=1)))
        turns[f"s{number}"] = Turn(after, lanes, draw(st.booleans()) and draw(st.booleans()))
    return turns, frozenset(draw(st.sets(st.sampled_from(list(turns))))), draw(st.booleans())


@settings(max_examples=examples(200, 2000), deadline=None)
@given(commands(), st.data())
@pytest.mark.long
def test_every_command_comes_to_its_end_and_nothing_overtakes_what_it_depends_on(command, data):
    """Whatever ends first."""
    turns, without_consent, fail_fast = command
    stages = dict.fromkeys(turns, Stage.WAITING)
    planned_when: dict[str, dict[str, Stage]] = {}
    sent_when: dict[str, dict[str, Stage]] = {}
    while set(stages.values()) != {Stage.DONE}:
        moves = [(name, Stage(stages[name] + 1)) for name in turns if stages[name] in (Stage.SENDING, Stage.SENT)]
        moves += [(name, Stage.READY) for name in turns if stages[name] is Stage.PLANNING]
        moves += [(name, Stage.DONE) for name in turns if stages[name] in (Stage.PLANNING, Stage.SENDING)]
        moves += [(name, Stage.SENDING) for name in turns if may_send(turns, stages, name, fail_fast)]
        if (planned := next_to_plan(turns, stages)) is not None:
            moves.append((planned, Stage.PLANNING))
        assert moves, f"it is stuck: {stages}"
        name, stage = data.draw(st.sampled_from(moves))
        if stage is Stage.PLANNING:
            planned_when[name] = dict(stages)
        if stage is Stage.READY and name in without_consent:
            turns[name] = Turn(turns[name].after, turns[name].lanes - {CONSENT}, turns[name].alone)
        if stage is Stage.SENDING:
            sent_when[name] = dict(stages)
        stages[name] = stage
        assert sum(Stage.WAITING < one < Stage.DONE for one in stages.values()) <= MOST_OPEN
        assert list(stages.values()).count(Stage.PLANNING) <= 1
    order = list(turns)
    assert list(planned_when) == order
    for number, name in enumerate(order):
        for first in order[:number]:
            if first in turns[name].after or turns[first].alone or turns[name].alone:
                assert planned_when[name][first] is Stage.DONE
            if name in sent_when and not turns[first].lanes.isdisjoint(turns[name].lanes):
                assert sent_when[name][first] >= Stage.SENT
            if name in sent_when and fail_fast:
                assert sent_when[name][first] is Stage.DONE


TRACK, GROUPS = frozenset({"users_track"}), frozenset({"subscription_status_set"})
NOBODY = frozenset[str]()
S = Stage


@pytest.mark.parametrize(
    ("first", "second", "plans_from", "sends_from"),
    [
        pytest.param(Turn(NOBODY, TRACK), Turn(NOBODY, TRACK), S.SENDING, S.SENT, id="the same family"),
        pytest.param(Turn(NOBODY, TRACK), Turn(NOBODY, GROUPS), S.READY, S.READY, id="families of their own"),
        pytest.param(Turn(NOBODY, TRACK), Turn(frozenset({"first"}), GROUPS), S.DONE, S.DONE, id="after"),
        pytest.param(Turn(NOBODY, TRACK, alone=True), Turn(NOBODY, GROUPS), S.DONE, S.DONE, id="the first is alone"),
        pytest.param(Turn(NOBODY, TRACK), Turn(NOBODY, GROUPS, alone=True), S.DONE, S.DONE, id="the second is alone"),
        pytest.param(
            Turn(NOBODY, TRACK | {CONSENT}),
            Turn(NOBODY, GROUPS | {CONSENT}),
            S.SENDING,
            S.SENT,
            id="both opt users out",
        ),
    ],
)
def test_second_of_two_syncs_waits_for_the_first(first: Turn, second: Turn, plans_from: Stage, sends_from: Stage):
    turns = {"first": first, "second": second}
    plans = [
        stage
        for stage in Stage
        if next_to_plan(turns, {"first": stage, "second": S.WAITING}) == "second" and stage is not S.WAITING
    ]
    sends = [stage for stage in Stage if may_send(turns, {"first": stage, "second": S.READY}, "second", False)]
    assert (plans[0], sends[0]) == (plans_from, sends_from)
    assert (plans, sends) == ([*Stage][plans_from:], [*Stage][sends_from:])
    failing = [stage for stage in Stage if may_send(turns, {"first": stage, "second": S.READY}, "second", True)]
    assert failing == [S.DONE]
