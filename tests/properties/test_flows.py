"""What flows add up to, whatever ran and in whatever order it was told."""

from collections.abc import Sequence
from datetime import timedelta
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from domain.quota.accounting import MILLISECOND
from domain.quota.flows import (
    HOUR,
    WEIGHT_OF_NOW,
    Flow,
    Spell,
    decayed,
    decayed_beyond,
    flows_of,
    merged,
    milliseconds,
    since,
    used_until,
)
from tests.builders import NOON
from tests.properties.situations import STABLE

moments = st.integers(-40 * 3_600_000, 0).map(lambda before: NOON + before * MILLISECOND)


@st.composite
def spells(draw: st.DrawFn) -> list[Spell]:
    found = []
    for _ in range(draw(st.integers(0, 6))):
        began, ended = sorted((draw(moments), draw(moments)))
        milli, cost = draw(st.sampled_from((250, 1_000, 8_000))), draw(st.integers(0, 10**10))
        found.append(Spell("research", "h100", milli, cost, began, draw(st.sampled_from((ended, None)))))
    return found


def flows(found: Sequence[Spell]) -> tuple[Flow, ...]:
    return merged(each.milli for each in flows_of(found).values())


def overlap(spell: Spell, start: int, end: int) -> int:
    """Milliseconds of the spell between two times: the definition of use."""
    ended = end if spell.ended_at is None else min(end, milliseconds(spell.ended_at))
    return max(0, ended - max(start, milliseconds(spell.began_at)))


def by_hand(found: Sequence[Spell], start: int, end: int) -> int:
    return sum(spell.milli * overlap(spell, start, end) for spell in found)


@STABLE
@given(spells(), st.integers(0, 50), st.integers(0, 7_200_000))
def test_use_is_the_sum_of_what_every_spell_used(found: list[Spell], hours_ago: int, later: int) -> None:
    first, now = milliseconds(NOON) // HOUR - hours_ago, milliseconds(NOON) + later
    assert used_until(since(flows(found), first), now) == by_hand(found, first * HOUR, now)
    costs = merged(each.cost for each in flows_of(found).values())
    by_cost = sum(spell.hourly_cost * overlap(spell, first * HOUR, now) for spell in found)
    assert used_until(since(costs, first), now) == by_cost


@STABLE
@given(spells(), st.randoms(use_true_random=False))
def test_the_order_in_which_spells_are_told_changes_nothing(found: list[Spell], random: Random) -> None:
    assert flows_of(random.sample(found, len(found))) == flows_of(found)
    halves = [flows(found[:3]), flows(found[3:])]
    assert [flow for flow in merged(halves) if flow.change or flow.moment] == [
        flow for flow in flows(found) if flow.change or flow.moment
    ]


@STABLE
@given(spells(), st.sampled_from((3_600, 5_000, 86_400)), st.integers(0, 8_000), st.integers(0, 7_200_000))
def test_decay_weighs_every_hour_by_its_age(found: list[Spell], half_life: int, owned: int, later: int) -> None:
    now = milliseconds(NOON) + later
    this_hour = now // HOUR
    used = beyond = 0
    for hour in range(this_hour - 50, this_hour + 1):
        start, end = hour * HOUR, min(now, (hour + 1) * HOUR)
        age = this_hour - hour
        weight = round(WEIGHT_OF_NOW * 0.5 ** (age * 3_600 / half_life)) if age < -(-half_life * 16 // 3_600) else 0
        in_hour = by_hand(found, start, end)
        used += in_hour * weight
        beyond += max(0, in_hour - owned * (end - start)) * weight
    assert decayed(flows(found), half_life, now) == used // WEIGHT_OF_NOW
    assert decayed_beyond(flows(found), owned, half_life, now) == beyond // WEIGHT_OF_NOW


@STABLE
@given(spells())
def test_nothing_that_is_over_gains_weight(found: list[Spell]) -> None:
    over = [spell._replace(ended_at=spell.ended_at or NOON) for spell in found]
    then = [decayed(flows(over), 3_600, milliseconds(NOON + timedelta(hours=hours))) for hours in range(1, 20)]
    assert then == sorted(then, reverse=True)
    assert then[-1] == 0
