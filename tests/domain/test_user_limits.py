"""How much of a queue one of its users may have."""

from typing import Any

import pytest

from corral.api import QueueSpec, QuotaSpec, Reason, UserLimit
from domain.round import schedule
from tests.builders import NOON, UNPROMISED, AWorkload, a_cohort, a_queue, a_snapshot, a_workload, nodes, started, why

EVERYBODY = UserLimit(accelerators=4)


def limited(*limits: UserLimit, queue: QueueSpec | None = None) -> QueueSpec:
    return (queue or a_queue("research", 64)).model_copy(update={"user_limits": limits})


def first_of(user: str | None, gpus: int, **fields: Any) -> AWorkload:
    return a_workload("w", user=user, gpus=gpus, **fields)


def test_a_user_waits_at_its_limit_while_others_start() -> None:
    fleet = nodes(2)
    running = a_workload("running", user="ann", gpus=3).on((fleet[0], 3))
    arrivals = [first_of("ann", 2), a_workload("other", user="bob", gpus=4)]
    plan = schedule(a_snapshot(fleet, [limited(EVERYBODY)], running, *arrivals), NOON)
    assert set(started(plan)) == {"other"}
    assert why(plan).reason is Reason.USER_LIMIT_REACHED
    assert why(plan).message == "needs 2 whole h100; the limit of user ann in queue research leaves 1"


def test_a_limit_by_name_replaces_the_general_one() -> None:
    queue = limited(EVERYBODY, UserLimit(user="ann", accelerators=8))
    plan = schedule(a_snapshot(nodes(2), [queue], first_of("ann", 8)), NOON)
    assert set(started(plan)) == {"w"}


def test_work_that_names_no_user_is_limited_together() -> None:
    arrivals = [a_workload(f"w{index}", gpus=3) for index in range(2)]
    assert len(started(schedule(a_snapshot(nodes(2), [limited(EVERYBODY)], *arrivals), NOON))) == 1


def test_running_workloads_are_counted_even_without_accelerators() -> None:
    fleet = nodes(1)
    running = a_workload("running", user="ann").on((fleet[0], 1))
    queue = limited(UserLimit(running=1))
    plan = schedule(a_snapshot(fleet, [queue], running, first_of("ann", 0)), NOON)
    assert why(plan).reason is Reason.USER_RUNNING_LIMIT_REACHED
    assert why(plan).message == "user ann runs as many workloads in queue research as its limit allows"


def test_a_limit_of_a_cohort_counts_in_all_its_queues() -> None:
    fleet = nodes(2)
    cohort, *queues = a_cohort(a_queue("research", 8), a_queue("sales", 8))
    running = a_workload("running", queue="sales", user="ann", gpus=3).on((fleet[0], 3))
    plan = schedule(a_snapshot(fleet, [limited(EVERYBODY, queue=cohort), *queues], running, first_of("ann", 2)), NOON)
    assert why(plan).message.endswith("the limit of user ann in queue cohort leaves 1")


def test_elastic_work_takes_what_its_users_limit_leaves() -> None:
    plan = schedule(a_snapshot(nodes(2), [limited(EVERYBODY)], first_of("ann", 1, count=8, minimum=2)), NOON)
    assert started(plan)["w"].replicas == 4


def test_what_exceeds_its_users_limit_is_refused_for_good() -> None:
    plan = schedule(a_snapshot(nodes(2), [limited(EVERYBODY)], first_of("ann", 8)), NOON)
    assert why(plan).reason is Reason.NEVER_WITHIN_QUOTA
    assert "queue research could never have more than 4 for user ann" in why(plan).message


def test_a_user_at_its_limit_may_stop_lower_work_of_its_own() -> None:
    fleet = nodes(2)
    own = a_workload("own", user="ann", gpus=4).on((fleet[0], 4))
    others = a_workload("others", user="bob", gpus=4).on((fleet[1], 4))
    urgent = first_of("ann", 4, priority=5)
    snapshot = a_snapshot(fleet, [limited(EVERYBODY)], own, others, urgent, policy=UNPROMISED)
    assert schedule(snapshot, NOON).preempts == (("own.1", "w"),)


def test_limits_that_say_nothing_or_twice_are_refused() -> None:
    with pytest.raises(ValueError, match="names accelerators, running"):
        UserLimit(user="ann")
    with pytest.raises(ValueError, match="everybody is given twice"):
        QueueSpec(name="q", quotas=(QuotaSpec(sku="h100", nominal=1),), user_limits=(EVERYBODY, UserLimit(running=1)))
