"""A round does better than its turns alone where those that start can make room for others."""

from dataclasses import replace

import pytest

from corral.api import Ordering, SlaTier, StopPolicy, Target
from corral.policy import Goals, Improvement, Limits, Policy
from domain.decision import Fallback, Method, Plan, Wait
from domain.pool.fleet import Node
from domain.round import schedule
from tests.builders import LONG_AGO, NOON, AWorkload, a_node, a_queue, a_snapshot, a_workload, nodes_of, seconds, started

EU, US = Target(regions=("eu",)), Target(regions=("us",))
EITHER = (Target(regions=("eu", "us")),)
RESEARCH = a_queue("research", 64)


def policy(**fields: float) -> Policy:
    return Policy(goals=Goals(improvement=Improvement.model_validate(fields)))


GREEDY = policy(work=0)


def in_turn(*workloads: AWorkload) -> list[AWorkload]:
    """Whoever is named first came first."""
    return [replace(each, submitted_at=NOON - seconds(1000 - index)) for index, each in enumerate(workloads)]


def fragmenting() -> list[AWorkload]:
    """Two gangs that fit together, of which the first takes in its turn what the second needs."""
    first = a_workload("first", gpus=1, count=6)
    second = a_workload("second", gpus=4, count=2)
    return in_turn(first, second)


def decided(workloads: list[AWorkload], fleet: list[Node], chosen: Policy | None = None, nominal: int = 64) -> Plan:
    return schedule(a_snapshot(fleet, [a_queue("research", nominal)], *workloads, policy=chosen), NOON)


def quality_of(plan: Plan) -> tuple[Method, int, int, Fallback | None]:
    assert plan.quality is not None
    return plan.quality.method, plan.quality.improved, plan.quality.moved, plan.quality.fallback


def the_pool(tight_price: int = 1_200_000) -> list[Node]:
    """The first gang goes where it is cheapest, and breaks a node that the second needs whole."""
    cheap = [a_node(f"cheap{index}", gpus=4, price=1_000_000) for index in range(2)]
    return [*cheap, a_node("dear", gpus=4, price=1_200_000), a_node("tight", gpus=2, price=tight_price)]


def test_greedy_turns_leave_a_gang_without_room() -> None:
    plan = decided(fragmenting(), the_pool(), GREEDY)

    assert set(started(plan)) == {"first"}
    assert plan.quality is not None
    assert plan.quality.gap > 0


def test_both_gangs_start_where_the_first_can_make_room() -> None:
    plan = decided(fragmenting(), the_pool())

    assert set(started(plan)) == {"first", "second"}
    assert sum(nodes_of(started(plan)["first"]).values()) == 6
    assert quality_of(plan) == (Method.EXACT, 1, 1, None)
    assert plan.quality is not None
    assert plan.quality.gap == 0


def test_who_accepts_two_regions_leaves_the_one_to_who_accepts_no_other() -> None:
    fleet = [a_node("e", gpus=2, region="eu"), a_node("u", gpus=2, region="us")]
    flexible = [a_workload(f"flexible{index}", targets=EITHER) for index in range(2)]
    bound = [a_workload(f"bound{index}", targets=(EU,)) for index in range(2)]

    plan = decided(in_turn(*flexible, *bound), fleet)

    assert {id: placement.region for id, placement in started(plan).items()} == {
        "flexible0": "us",
        "flexible1": "us",
        "bound0": "eu",
        "bound1": "eu",
    }
    assert quality_of(plan) == (Method.FLOW, 2, 2, None)
    assert plan.quality is not None
    assert (plan.quality.worst_region_before, plan.quality.worst_region_after) == (2.0, 1.0)


def test_nobody_is_meant_for_a_region_that_has_no_room_for_it_even_alone() -> None:
    small = [a_node(f"e{at}", gpus=2, region="eu", price=1_000_000) for at in range(2)]
    fleet = [*small, a_node("u", gpus=8, region="us", price=2_000_000, used=2)]

    plan = decided([a_workload("large", gpus=4, targets=EITHER)], fleet)

    assert started(plan)["large"].region == "us"
    assert plan.quality is not None
    assert (plan.quality.worst_region_before, plan.quality.worst_region_after) == (0.75, 0.75)


def test_what_is_kept_for_who_waits_for_victims_counts_before_and_after() -> None:
    low = a_workload("low", gpus=2, tier=SlaTier.BASIC).on((a_node("e", gpus=4, region="eu"), 2), started_at=LONG_AGO)
    snapshot = a_snapshot([a_node("e", gpus=4, region="eu")], [a_queue("research", 100)], low, a_workload("w", gpus=4))

    quality = schedule(snapshot, NOON).quality

    assert quality is not None
    assert (quality.worst_region_before, quality.worst_region_after) == (1.0, 1.0)


def test_one_makes_room_on_a_full_node_for_another_that_leaves_a_third() -> None:
    fleet = [a_node(name, gpus=gpus, region=name[:2], price=1_000_000) for name, gpus in (("eu0", 2), ("eu1", 4), ("us0", 2))]
    movable = [a_workload(f"w{index}", targets=EITHER) for index in range(3)]
    workloads = in_turn(*movable, a_workload("here", targets=(EU,)), a_workload("large", gpus=4))

    assert "large" not in started(decided(workloads, fleet, GREEDY))
    assert nodes_of(started(decided(workloads, fleet))["large"]) == {"eu1": 1}


@pytest.mark.parametrize(("tight_price", "both"), [(5_000_000, True), (5_100_000, False)])
def test_what_starts_besides_may_cost_the_others_so_much_and_no_more(tight_price: int, both: bool) -> None:
    plan = decided(fragmenting(), the_pool(tight_price))

    assert ("second" in started(plan)) is both


def test_nobody_moves_where_that_costs_anything_if_nothing_may_be_dearer() -> None:
    assert set(started(decided(fragmenting(), the_pool(), policy(worth=0)))) == {"first"}


def test_the_rank_of_those_that_wait_decides_who_gets_the_room() -> None:
    fleet = [a_node("e", gpus=1, region="eu"), a_node("u", gpus=1, region="us")]
    flexible, later, sooner = in_turn(
        a_workload("flexible", targets=EITHER, tier=SlaTier.PREMIUM),
        a_workload("later", targets=(EU,), tier=SlaTier.BASIC),
        a_workload("sooner", targets=(EU,)),
    )

    assert set(started(decided([flexible, later, sooner], fleet))) == {"flexible", "sooner"}


def test_a_gang_of_lower_rank_never_takes_the_room_of_a_higher_one() -> None:
    """Eight would be used instead of two, if the small one did not come first."""
    small, large = in_turn(a_workload("small", gpus=1, count=2, targets=(EU,)), a_workload("large", gpus=8, targets=(EU,)))

    plan = decided([small, large], [a_node("e", gpus=8, region="eu")])

    assert set(started(plan)) == {"small"}
    assert plan.quality is not None
    assert (plan.quality.objective, plan.quality.bound, plan.quality.gap) == (2_000, 8_000, 0.75)


def test_what_runs_is_not_moved() -> None:
    running = a_workload("running", gpus=1).on((a_node("a", gpus=4), 1))
    snapshot = a_snapshot(
        [a_node("a", gpus=4), a_node("b", gpus=3)], [RESEARCH], running, a_workload("w", gpus=4), policy=policy()
    )

    assert not schedule(snapshot, NOON).starts


def test_quota_is_kept() -> None:
    plan = decided(fragmenting(), the_pool(), nominal=13)

    assert set(started(plan)) == {"first"}
    assert plan.quality is not None
    assert plan.quality.bound == 13_000


def test_a_gang_stays_in_the_domain_that_it_requires() -> None:
    racks = {rack: (("rack", rack),) for rack in ("a", "b")}
    fleet = [
        a_node("a1", gpus=4, topology=racks["a"], price=1_000_000),
        a_node("a2", gpus=4, topology=racks["a"], price=1_000_000),
        a_node("b1", gpus=4, topology=racks["b"], price=1_100_000),
    ]
    narrow, wide = in_turn(
        a_workload("narrow", gpus=2, count=2, required="rack"), a_workload("wide", gpus=4, count=2, required="rack")
    )

    placed = started(decided([narrow, wide], fleet))

    assert nodes_of(placed["narrow"]) == {"b1": 2}
    assert nodes_of(placed["wide"]) == {"a1": 1, "a2": 1}


def test_the_same_round_twice_gives_the_same_plan() -> None:
    assert decided(fragmenting(), the_pool()) == decided(fragmenting(), the_pool())


def test_a_round_that_runs_out_of_work_keeps_the_greedy_plan_and_says_so() -> None:
    plan = decided(fragmenting(), the_pool(), policy(work=1e-9))

    assert set(started(plan)) == {"first"}
    assert quality_of(plan) == (Method.GREEDY, 0, 0, Fallback.OUT_OF_WORK)


def test_whoever_waits_is_told_why_in_the_world_in_which_the_round_ends() -> None:
    third = replace(a_workload("third", gpus=4, count=2), submitted_at=NOON)

    plan = decided([*fragmenting(), third], the_pool())

    assert [wait.workload_id for wait in plan.decisions if isinstance(wait, Wait)] == ["third"]


def test_a_strict_queue_starts_its_work_in_turn() -> None:
    fleet = [a_node("e", gpus=2, region="eu"), a_node("u", gpus=2, region="us")]
    queues = [RESEARCH, a_queue("strict", 64, ordering=Ordering.STRICT_FIFO)]
    flexible = [a_workload(f"flexible{index}", targets=EITHER) for index in range(2)]
    strict = [a_workload(f"strict{index}", queue="strict", targets=(EU,)) for index in range(3)]

    plan = schedule(a_snapshot(fleet, queues, *in_turn(*flexible, *strict)), NOON)

    assert set(started(plan)) == {"flexible0", "flexible1", "strict0", "strict1"}


def test_a_queue_that_starts_nothing_counts_for_no_bound() -> None:
    stopped = RESEARCH.model_copy(update={"stop": StopPolicy.HOLD})
    plan = schedule(a_snapshot([a_node("n")], [stopped], a_workload("w")), NOON)

    assert plan.quality is not None
    assert plan.quality.bound == 0


def test_a_round_that_may_start_so_many_leaves_the_rest_to_the_next() -> None:
    limited = Policy(limits=Limits(starts_per_round=2))

    assert set(started(decided(fragmenting(), the_pool(), limited))) == {"first"}
