"""What a person is told."""

import json
from dataclasses import replace

import pytest

from corral.api import Evidence, Explanation, QueueSpec, Reason, ReplicaGroup, SlaTier, Target
from corral.policy import QuotaModel
from domain.decision import Wait
from domain.explanation.wording import asked
from domain.pool.fleet import Health
from domain.round import schedule
from domain.snapshot import Snapshot
from domain.worlds.request import requests
from tests.builders import NOON, AWorkload, a_cohort, a_node, a_queue, a_snapshot, a_workload, by_model, nodes, seconds, why

PLENTY = [a_queue("research", 1000)]


def test_the_dominant_reason_is_the_rule_that_stopped_whoever_got_furthest() -> None:
    fleet = [
        a_node("sick", health=Health.LOST),
        a_node("lab", taints=["lab"]),
        a_node("a", sku="a100"),
        a_node("busy-eu", used=3, region="eu-west"),
        a_node("busy-us", used=6, region="us-east"),
    ]
    workload = a_workload(gpus=8, targets=[Target(skus=("h100",))])
    explanation = why(schedule(a_snapshot(fleet, PLENTY, workload), NOON))
    assert explanation.reason is Reason.NOT_ENOUGH_FREE_ACCELERATORS
    assert explanation.message == "needs 8 whole h100 on one node; the most free in one is 5 (aws eu-west)"
    assert explanation.evidence == (
        Evidence(reason=Reason.NOT_ENOUGH_FREE_ACCELERATORS, count=2, example=explanation.message),
        Evidence(
            reason=Reason.NODE_NOT_READY,
            count=1,
            example="no ready node is acceptable; h100 in aws eu-west would be, once ready: its cluster is lost, "
            "`corral clusters` says since when",
        ),
        Evidence(
            reason=Reason.TAINT_NOT_TOLERATED,
            count=1,
            example="h100 nodes in aws eu-west have a taint that is not tolerated",
        ),
        Evidence(reason=Reason.SKU_NOT_ACCEPTED, count=1, example="a100 is not accepted"),
    )


def test_a_gang_is_told_how_much_of_it_fits_in_one_region() -> None:
    fleet = [*nodes(2, used=2), a_node("us", region="us-east")]
    explanation = why(schedule(a_snapshot(fleet, PLENTY, a_workload(gpus=2, count=8)), NOON))
    assert (
        explanation.message == "needs 16 whole h100 (8 replicas of 2) in one region; the most free in one is 12 (aws eu-west)"
    )


def test_the_evidence_of_a_refusal_says_that_it_looked_at_an_idle_fleet() -> None:
    fleet = [a_node("busy", used=8), a_node("sick", health=Health.LOST)]
    explanation = why(schedule(a_snapshot(fleet, PLENTY, a_workload(gpus=8, count=3)), NOON))
    (found,) = explanation.evidence
    assert (explanation.reason, found.reason) == (Reason.NO_MATCHING_CAPACITY, Reason.NOT_ENOUGH_FREE_ACCELERATORS)
    needs = "needs 24 whole h100 (3 replicas of 8) in one region"
    assert found.example == f"{needs}; the most free in one is 16 (aws eu-west), were every node ready and idle"


@pytest.mark.parametrize(
    ("cohort", "message"),
    [
        (
            a_cohort(a_queue("research", 4, borrowing_limit=2), a_queue("other", 8)),
            "needs quota for 4 whole h100; the borrowing limit leaves queue research 2",
        ),
        (
            a_cohort(a_queue("research", 4), a_queue("other", 8), cap=7, nominal=0),
            "needs quota for 4 whole h100; the cap of cohort leaves 3",
        ),
        (
            a_cohort(a_queue("research", 4), a_queue("other", 1)),
            "needs quota for 4 whole h100; queue research has room for 1",
        ),
    ],
)
def test_quota_is_explained_by_what_is_left_of_it(cohort: list[QueueSpec], message: str) -> None:
    runner = a_workload("r", gpus=4).on((a_node("n0"), 4))
    assert why(schedule(a_snapshot(nodes(2), cohort, runner, a_workload(gpus=4)), NOON)).message == message


@pytest.mark.parametrize("model", [QuotaModel.RANKED, QuotaModel.DESERVED])
def test_whoever_fits_once_others_have_left_is_told_that_it_waits_for_them(model: QuotaModel) -> None:
    leaving = a_workload("leaves", gpus=4).on((a_node("n"), 4)).stopping()
    snapshot = a_snapshot([a_node("n")], PLENTY, leaving, a_workload(gpus=8), policy=by_model(model))
    explanation = why(schedule(snapshot, NOON))
    assert explanation.reason is Reason.WAITING_FOR_VICTIMS
    assert [(each.reason, each.count) for each in explanation.evidence] == [(Reason.NOT_ENOUGH_FREE_ACCELERATORS, 1)]


def told(snapshot: Snapshot) -> list[Explanation]:
    """What everybody who waits is told, by workload id."""
    waits = [decision for decision in schedule(snapshot, NOON).decisions if isinstance(decision, Wait)]
    return [wait.explanation for wait in sorted(waits, key=lambda wait: wait.workload_id)]


MEMORY = a_node("n", gpus=8, memory_mib=64)
STAYS = a_workload("stays", gpus=1, memory_mib=40).on((MEMORY, 1))


def test_who_needs_as_many_devices_but_more_memory_is_told_how_much_of_it_fits() -> None:
    gangs = [a_workload(f"gang-{memory:02}", count=4, memory_mib=memory) for memory in (7, 13)]
    lacking = "needs cpu and memory for 4 replicas beside their accelerators; the most that fit in one region is"
    messages = [explanation.message for explanation in told(a_snapshot([MEMORY], PLENTY, STAYS, *gangs))]
    assert messages == [f"{lacking} 3 (aws eu-west)", f"{lacking} 1 (aws eu-west)"]


def test_who_lacks_as_many_devices_waits_for_who_leaves_only_if_its_memory_fits_then() -> None:
    others = replace(MEMORY, free=replace(MEMORY.free, devices=(0, *MEMORY.free.devices[1:])))
    leaves = a_workload("leaves", gpus=7).on((others, 7)).stopping()
    singles = [a_workload(f"single-{memory}", gpus=7, memory_mib=memory) for memory in (10, 30)]
    found = told(a_snapshot([MEMORY], PLENTY, STAYS, leaves, *singles))
    assert [explanation.reason for explanation in found] == [Reason.WAITING_FOR_VICTIMS, Reason.NOT_ENOUGH_FREE_ACCELERATORS]
    assert found[0].evidence == found[1].evidence


def test_who_lacks_as_many_devices_is_told_of_the_quota_of_its_own_queue() -> None:
    queues = [a_queue(f"q{own}", own) for own in (2, 4)]
    snapshot = a_snapshot([a_node("n")], queues, *(a_workload(f"w-{queue.name}", queue=queue.name, gpus=2) for queue in queues))
    small = a_workload("other", queue="q2", gpus=1).on((a_node("n"), 1))
    full = replace(snapshot, active=(small,), nodes=(a_node("n", used=7),))
    assert [explanation.message for explanation in told(full)] == [
        "needs quota for 2 whole h100; queue q2 has room for 1",
        "needs 2 whole h100 on one node; the most free in one is 1 (aws eu-west)",
    ]


def test_words_for_what_was_asked() -> None:
    def words(workload: AWorkload) -> str:
        return asked(requests(workload.waiting())[0].gang, "b200")

    assert words(a_workload(gpus=1)) == "1 whole b200"
    assert words(a_workload(gpus=8, count=2)) == "16 whole b200 (2 replicas of 8)"
    assert words(a_workload(gpus=0.25)) == "0.25 of a b200"
    assert words(a_workload(gpus=0.25, count=3)) == "3 times 0.25 of a b200"
    assert words(a_workload(gpus=0, count=3)) == "3 replicas without accelerators"
    groups = [ReplicaGroup(name="a", accelerators=1), ReplicaGroup(name="b", accelerators=8, count=2)]
    assert words(a_workload(groups=groups)) == "17 b200 (3 replicas in 2 groups)"


def test_an_explanation_is_the_same_while_the_situation_is() -> None:
    snapshot = a_snapshot(nodes(1, used=8), PLENTY, a_workload())
    now, later = (why(schedule(snapshot, NOON + seconds(after))) for after in (0, 3600))
    assert now.model_copy(update={"as_of": None}) == later.model_copy(update={"as_of": None})
    assert (now.as_of, now.position, now.round_id) == (NOON, None, None)


def test_an_explanation_names_nobody_else_s_work() -> None:
    fleet = nodes(1)
    secret = a_workload("secret-project", gpus=8, tier=SlaTier.PREMIUM).on((fleet[0], 8))
    explanation = why(schedule(a_snapshot(fleet, PLENTY, secret, a_workload()), NOON))
    assert "secret" not in json.dumps(explanation.model_dump(mode="json"))


def test_who_finds_no_room_on_what_is_known_is_told_that_not_all_has_been_seen_yet() -> None:
    snapshot = a_snapshot([a_node("n", gpus=8)], PLENTY, a_workload("w", gpus=16))
    seen, partly = (why(schedule(replace(snapshot, is_complete=each), NOON), "w") for each in (True, False))
    assert partly.reason is Reason.NOT_ENOUGH_FREE_ACCELERATORS
    assert "not every provider has told yet what it has" in partly.message
    assert "not every provider" not in seen.message


def test_who_comes_before_any_node_is_known_is_told_so() -> None:
    assert "no node of the fleet is known yet" in why(schedule(a_snapshot([], PLENTY, a_workload("w")), NOON), "w").message
