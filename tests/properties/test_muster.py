"""The muster says in columns what the rules of protection say of one attempt after the other."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from domain.facts import Facts
from domain.pool.standing import TIERS
from domain.quota.headroom import stop_cost
from domain.remembered.memory import Memory
from domain.remembered.muster import Columns, are_stoppable, costs_of_a_stop, tiers_run_as
from domain.snapshot import Snapshot
from tests.builders import NOON, seconds
from tests.properties.changes import a_change
from tests.properties.situations import STABLE, worlds

ROUNDS = 4


def check(sku: str, columns: Columns, facts: Facts) -> None:
    policy, now = facts.policy, facts.now
    may_stop = are_stoppable(columns, policy, now)
    by_rules = [each.active for each in facts.stoppable.get(sku, ())]
    assert [each for each, may in zip(columns.active, may_stop, strict=True) if may] == by_rules
    surplus = {each.victim.active.attempt_id: each.surplus for each in facts.elastic.get(sku, ())}
    spare = zip(columns.active, columns.surplus, strict=True)
    assert {each.attempt_id: left for each, left in spare if left is not None} == surplus
    assert costs_of_a_stop(columns, policy, now).tolist() == [stop_cost(each, policy.rank, now) for each in columns.active]
    tiers = [TIERS[at] for at in tiers_run_as(columns, facts.protection)]
    assert tiers == [facts.protection.runs_as(each) for each in columns.active]
    queues = [facts.muster.queues[each.spec.queue] for each in columns.active]
    assert columns.field("queue").tolist() == queues


def check_rows(columns: Columns, numbers: dict[str, int]) -> None:
    rows = zip(columns.owner.tolist(), columns.node.tolist(), columns.milli.tolist(), strict=True)
    assert list(rows) == [
        (at, numbers.get(share.node_id, -1), share.room.milli)
        for at, active in enumerate(columns.active)
        for share in active.placement.shares
    ]


@STABLE
@given(worlds, st.randoms(use_true_random=False))
def test_whatever_happens_between_two_rounds(snapshot: Snapshot, random: Random) -> None:
    memory = Memory()
    for number in range(ROUNDS):
        facts = Facts.of(snapshot, NOON + seconds(60 * number), memory)
        atlases = [stock.atlas for stock in facts.idle.classes.values()]
        for atlas in atlases[:1] if random.random() < 0.7 else ():  # in some rounds nobody asks
            columns = facts.muster.take(facts.active.values(), atlas)
            assert facts.stoppable.keys() | facts.elastic.keys() <= columns.keys()
            for sku, its in columns.items():
                check(sku, its, facts)
                check_rows(its, dict(atlas.node_numbers))
        snapshot = a_change(snapshot, random)
