"""No limit is exceeded by any round: hard budgets, limits per user, and the caps of classes of SKUs."""

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from corral.api import BudgetSpec, BudgetUnit, UserLimit
from corral.policy import Limits, Policy
from domain.quota.budgets import ONE
from domain.quota.tree import QuotaTree
from domain.round import schedule
from domain.snapshot import Snapshot
from domain.worlds.world import World
from tests.builders import NOON, a_cohort, a_node, a_queue, a_quota, a_snapshot, a_workload, seconds
from tests.properties.situations import STABLE, carried_out

POLICY = Policy(limits=Limits(sku_classes={"hopper": ("h100", "h200")}, starts_per_round=6))
USERS = ("ann", "bob", None)


@st.composite
def limited(draw: st.DrawFn) -> Snapshot:
    """A world in which most things have a limit."""
    fleet = [
        a_node(f"n{index}", gpus=4, sku=draw(st.sampled_from(("h100", "h200"))), price=draw(st.sampled_from((1, 3))) * 10**6)
        for index in range(draw(st.integers(1, 4)))
    ]
    budgets = tuple(
        BudgetSpec(
            unit=draw(st.sampled_from(list(BudgetUnit))),
            amount=draw(st.integers(0, 30)),
            period_seconds=draw(st.sampled_from((None, 7_200))),
            since=NOON - seconds(3_600),
        )
        for _ in range(draw(st.integers(0, 2)))
    )
    limits = draw(st.sampled_from(((), (UserLimit(accelerators=3),), (UserLimit(running=1), UserLimit(user="ann", running=2)))))
    queues = [a_queue(name, quotas=[a_quota(8, sku="hopper"), a_quota(6, sku="h100")]) for name in ("one", "two")]
    cohort, *members = a_cohort(*queues, quotas=[a_quota(0, sku="hopper", cap=draw(st.integers(0, 12)))])
    cohort = cohort.model_copy(update={"budgets": budgets, "user_limits": limits})
    waiting = [
        a_workload(
            f"w{index}",
            queue=draw(st.sampled_from(("one", "two"))),
            user=draw(st.sampled_from(USERS)),
            gpus=draw(st.integers(0, 3)),
            count=draw(st.integers(1, 3)),
            minimum=1,
            expected_seconds=draw(st.sampled_from((None, 1_800, 3_600, 10_000))),
        )
        for index in range(draw(st.integers(1, 8)))
    ]
    spent = {("cohort", index): draw(st.integers(0, 20)) * ONE[budget.unit] for index, budget in enumerate(budgets)}
    return replace(a_snapshot(fleet, [cohort, *members], *waiting, policy=POLICY), spent=spent)


@STABLE
@given(limited())
def test_no_limit_is_exceeded(snapshot: Snapshot) -> None:
    plan = schedule(snapshot, NOON)
    assert len(plan.starts) <= 6
    prices = {node.id: node.price for node in snapshot.nodes}
    after = carried_out(snapshot, plan)
    active = [
        replace(each, hourly_cost=sum(share.room.milli * prices[share.node_id] for share in each.placement.shares))
        for each in after.active
    ]
    tree = QuotaTree.at(snapshot.queues, NOON, POLICY.limits.sku_classes, snapshot.spent)
    usage = World.of(replace(after, active=tuple(active)), tree).usage
    for account, balance in tree.balances_of("one"):
        assert usage.committed.get(account, 0) <= max(0, balance.left)
    cap = tree.standings["cohort", "hopper"].quota.cap
    assert cap is not None
    assert usage.use("cohort", "hopper").total <= cap
    check_users(snapshot, {user: [each.milli for each in active if each.spec.user == user] for user in USERS})


def check_users(snapshot: Snapshot, had: dict[str | None, list[int]]) -> None:
    limits = next(queue for queue in snapshot.queues if queue.name == "cohort").user_limits
    most = {limit.user: limit for limit in limits}
    running = Counter({user: len(each) for user, each in had.items()})
    for user, amounts in had.items():
        if (limit := most.get(user, most.get(None))) is not None:
            assert limit.accelerators is None or sum(amounts) <= limit.accelerators * 1_000
            assert limit.running is None or running[user] <= limit.running
