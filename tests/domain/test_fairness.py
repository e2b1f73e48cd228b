"""How what nobody needs for itself is divided, and how past use counts."""

from dataclasses import replace
from fractions import Fraction

from corral.api import QueueSpec
from domain.quota.fairness import FairShares
from domain.quota.tree import QuotaTree
from domain.round import schedule
from tests.builders import NOON, AWorkload, a_cohort, a_node, a_queue, a_snapshot, a_workload, nodes, started


def fair(queues: list[QueueSpec], demand: dict[str, int], past: dict[str, Fraction] | None = None) -> dict[str, float]:
    tree = QuotaTree.at(queues, NOON)
    shares = FairShares.of(tree, {queue: amount * 1_000 for queue, amount in demand.items()}, past or {})
    return {name: float(share / 1_000) for name, share in shares.surplus.items()}


def test_surplus_goes_by_weight_as_far_as_it_is_wanted() -> None:
    cohort = a_cohort(a_queue("light", 0), a_queue("heavy", 0, weight=3), a_queue("idle", 12))
    assert fair(cohort, {"light": 50, "heavy": 50}) == {"cohort": 0, "light": 3, "heavy": 9, "idle": 0}
    assert fair(cohort, {"light": 50, "heavy": 2}) == {"cohort": 0, "light": 10, "heavy": 2, "idle": 0}


def test_what_an_owner_wants_of_its_own_is_no_surplus() -> None:
    cohort = a_cohort(a_queue("guest", 0), a_queue("owner", 12))
    assert fair(cohort, {"guest": 50, "owner": 8}) == {"cohort": 0, "guest": 4, "owner": 0}


def test_a_cohort_divides_what_it_got_among_its_own() -> None:
    inner = a_cohort(a_queue("one", 0), a_queue("two", 0), name="inner", parent="top", nominal=0)
    tree = [a_queue("top", 12), *inner, a_queue("three", 0, parent="top")]
    assert fair(tree, {"one": 50, "two": 50, "three": 50}) == {"top": 0, "inner": 6, "one": 3, "two": 3, "three": 6}


def test_without_weight_there_is_only_what_others_leave() -> None:
    cohort = a_cohort(a_queue("poor", 0, weight=0), a_queue("rich", 0), nominal=12)
    assert fair(cohort, {"poor": 50, "rich": 8})["poor"] == 4
    assert fair(cohort, {"poor": 50, "rich": 50})["poor"] == 0


def test_past_use_wears_a_weight_down() -> None:
    cohort = a_cohort(a_queue("greedy", 0), a_queue("modest", 0), nominal=12)
    assert fair(cohort, {"greedy": 50, "modest": 50}, {"greedy": Fraction(1, 2)}) == {"cohort": 0, "greedy": 4, "modest": 8}
    assert fair(cohort, {"greedy": 50, "modest": 50}, {"greedy": Fraction(1)})["greedy"] == 0


def contenders() -> list[AWorkload]:
    return [a_workload(f"{queue}-{index}", queue=queue, gpus=2) for queue in ("greedy", "modest") for index in range(4)]


def test_a_round_gives_each_queue_its_fair_share() -> None:
    cohort = a_cohort(a_queue("greedy", 0), a_queue("modest", 0), nominal=8)
    snapshot = a_snapshot(nodes(1), cohort, *contenders())
    assert set(started(schedule(snapshot, NOON))) == {"greedy-0", "greedy-1", "modest-0", "modest-1"}
    worn = replace(snapshot, past_use={"greedy": Fraction(1)})
    assert set(started(schedule(worn, NOON))) == {"modest-0", "modest-1", "modest-2", "modest-3"}


def test_history_does_not_keep_a_queue_from_its_own() -> None:
    cohort = a_cohort(a_queue("greedy", 8), a_queue("modest", 0))
    snapshot = replace(a_snapshot([a_node("a")], cohort, *contenders()), past_use={"greedy": Fraction(1)})
    assert set(started(schedule(snapshot, NOON))) == {f"greedy-{index}" for index in range(4)}
