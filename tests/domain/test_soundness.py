"""What a quota tree promises and cannot keep."""

from corral.api import QueueSpec
from domain.pool.fleet import Health, Node
from domain.quota.soundness import healthy_capacity, warnings
from domain.quota.tree import QuotaTree
from tests.builders import NOON, a_cohort, a_node, a_queue, a_quota, nodes, seconds


def warned(queues: list[QueueSpec], fleet: list[Node]) -> dict[str, tuple[str, ...]]:
    return warnings(QuotaTree.at(queues, NOON), healthy_capacity(fleet))


def test_a_tree_within_its_capacity_is_not_warned_of() -> None:
    assert warned(a_cohort(a_queue("one", 8), a_queue("two", 8)), nodes(2)) == {}


def test_only_nodes_that_may_be_given_work_count() -> None:
    fleet = [a_node("a"), a_node("b", health=Health.CORDONED), a_node("c", health=Health.SUSPECT)]
    assert warned([a_queue("one", 20)], fleet) == {
        "one": ("h100 is over-committed by 12: 20 are owned, 20 of them here, and 8 are healthy",)
    }


def test_trees_that_together_own_too_much_are_all_told() -> None:
    assert warned([a_queue("one", 6), a_queue("two", 4), a_queue("none")], nodes(1)) == {
        "one": ("h100 is over-committed by 2: 10 are owned, 6 of them here, and 8 are healthy",),
        "two": ("h100 is over-committed by 2: 10 are owned, 4 of them here, and 8 are healthy",),
    }


def test_a_grant_counts_while_it_is_valid() -> None:
    queue = a_queue("one", 4, quotas=[a_quota(20, valid_until=NOON + seconds(60))])
    assert "one" in warned([queue], nodes(1))
    assert warnings(QuotaTree.at([queue], NOON + seconds(60)), healthy_capacity(nodes(1))) == {}


def test_a_cap_below_what_is_owned_under_it_is_told() -> None:
    cohort = a_cohort(a_queue("one", 8), a_queue("two", 4), nominal=0, cap=10)
    assert warned(cohort, nodes(2)) == {"cohort": ("the cap of 10 h100 is 2 below what is owned here and below",)}


def test_nothing_is_said_about_capacity_that_nobody_has_seen_yet() -> None:
    assert warned([a_queue("one", 20)], []) == {}
