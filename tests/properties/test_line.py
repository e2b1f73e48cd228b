"""Whose turn it is: the line always leads with the best of all ranks, however the queues have come to stand since."""

from collections.abc import Iterable
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from corral.api import WHOLE, Ordering, QueueSpec, QuotaSpec, SlaTier, Target
from domain.facts import Facts
from domain.pool.standing import TIERS
from domain.pool.workload import Waiting, open_from
from domain.quota.usage import Usage
from domain.quota_models.ranking import Line, Rank, aged_priority
from domain.snapshot import Snapshot
from domain.worlds.request import form
from domain.worlds.world import World
from tests.builders import NOON, a_node, a_queue, a_snapshot, a_workload, seconds
from tests.properties.situations import STABLE

SKUS = ("a100", "h100")
LEAVES = ("a1", "a2", "b1", "b2", "b3")


def a_pool(random: Random) -> Snapshot:
    """Two departments with queues, some of them strict, and a few things that many ask for, one of them on either SKU."""

    def queue(name: str) -> QueueSpec:
        own = [QuotaSpec(sku=sku, nominal=random.randint(0, 6)) for sku in SKUS]
        made = a_queue(name, parent=name[0], quotas=own)
        return made.model_copy(update={"ordering": random.choice((*[Ordering.BEST_EFFORT_FIFO] * 3, Ordering.STRICT_FIFO))})

    waiting = [
        a_workload(
            f"w{n:02}",
            queue=random.choice(LEAVES),
            gpus=random.choice((1, 1, 2, 4)),
            tier=random.choice((SlaTier.STANDARD, SlaTier.STANDARD, SlaTier.BASIC)),
            priority=random.choice((0, 0, 1)),
            submitted_at=NOON - seconds(random.randint(0, 3 * 86_400)),
            targets=[Target(skus=random.choice((SKUS, SKUS[:1], SKUS[1:])))],
        )
        for n in range(random.randint(3, 40))
    ]
    departments = [a_queue(name, quotas=[QuotaSpec(sku=sku, nominal=2) for sku in SKUS]) for name in "ab"]
    return a_snapshot([a_node(sku, sku=sku) for sku in SKUS], [*departments, *map(queue, LEAVES)], *waiting)


def its_rank(workload: Waiting, usage: Usage, facts: Facts) -> Rank:
    """The order of `semantics.md` 1."""
    spec, tree = workload.spec, facts.tree
    is_within = any(
        usage.borrowed(spec.queue, sku) + wish.gang.minimum_milli <= 0
        for wish in form(workload).wishes
        if open_from(workload.submitted_at, wish.target.after_seconds) <= facts.now
        for sku in wish.target.skus or tree.skus
    )
    shares = tuple(share.key for share in facts.fair.of_queue(spec.queue, usage, is_within=is_within))
    tier, aged = TIERS.index(tree.tier(spec)), aged_priority(workload, facts)
    return tier, not is_within, shares, -aged, workload.submitted_at, workload.id


def who_may_lead(left: Iterable[Waiting], stepped: set[str], facts: Facts) -> list[Waiting]:
    """Everybody in queues without a strict order, and of a strict one the first in place, if those before it are done with."""
    every, strict = list(left), dict[str, list[Waiting]]()
    for each in every:
        if facts.queues[each.spec.queue].ordering is Ordering.STRICT_FIFO:
            strict.setdefault(each.spec.queue, []).append(each)

    def place(each: Waiting) -> tuple[object, ...]:
        return TIERS.index(facts.tree.tier(each.spec)), -aged_priority(each, facts), each.submitted_at, each.id

    heads = [min(those, key=place) for queue, those in strict.items() if queue in stepped]
    return [each for each in every if each.spec.queue not in strict] + heads


@STABLE
@given(st.integers(0, 10**9).map(Random))
def test_the_line_leads_with_the_best_of_all_ranks(random: Random) -> None:
    snapshot = a_pool(random)
    facts = Facts.of(snapshot, NOON)
    usage, left, ready = World.of(snapshot, facts.tree).usage, list(snapshot.waiting), set(LEAVES)
    for queue in LEAVES:
        usage = usage.plus(queue, random.choice(SKUS), random.randint(0, 8) * WHOLE, preemptible=True)
    line = Line(snapshot.waiting, usage, facts)
    while able := who_may_lead(left, ready, facts):
        best = min(able, key=lambda each: its_rank(each, usage, facts))
        assert line.next(usage) == best
        queue = best.spec.queue
        left.remove(best)
        ready.discard(queue)
        what = random.choice(("starts", "starts", "gives back", "is passed over", "is passed over"))
        if what == "is passed over":
            line.pass_over(best)
            if not line.is_strict(best):
                left = [each for each in left if facts.turn_kind(each) is not facts.turn_kind(best)]
        else:
            usage = usage.plus(queue, random.choice(SKUS), best.spec.groups[0].milli, preemptible=True)
        if what == "gives back":
            giving, sku = random.choice(LEAVES), random.choice(SKUS)
            usage = usage.plus(giving, sku, -random.randint(0, usage.use(giving, sku).total), preemptible=True)
            line.again({giving}, usage)
        if random.random() < 0.8:
            line.step(queue, usage)
            ready.add(queue)
    assert line.next(usage) is None
