"""Which work of a queue its nominal quota covers."""

from dataclasses import replace
from datetime import datetime
from random import Random

import pytest

from corral.api import ReplicaGroup, SlaTier, Target
from domain.pool.workload import Active, Waiting
from domain.quota.tree import QuotaTree
from domain.remembered import entitlement
from domain.remembered.census import Census
from domain.remembered.entitlement import Entitlement, within_quota
from tests.builders import NOON, AWorkload, a_node, a_queue, a_quota, a_snapshot, a_workload, seconds

NODE, A100 = a_node("a", gpus=64), a_node("b", gpus=64, sku="a100")


def covered(*workloads: AWorkload | Active, nominal: int = 8) -> dict[str, int]:
    snapshot = a_snapshot([NODE, A100], [a_queue("research", nominal, quotas=[a_quota(4, sku="a100")])], *workloads)
    return within_quota(snapshot, QuotaTree.at(snapshot.queues, NOON), NOON)


def a_runner(id: str, gpus: int, **fields: object) -> Active:
    return a_workload(id, gpus=gpus, **fields).on((NODE, gpus))  # type: ignore[arg-type]


def test_a_gang_is_covered_whole_or_not_at_all() -> None:
    assert covered(a_runner("a", 5), a_runner("b", 5), a_runner("c", 3)) == {"a": 5_000, "b": 0, "c": 3_000}


def test_tier_goes_before_priority_and_priority_before_age() -> None:
    first, second = NOON - seconds(20), NOON - seconds(10)
    ranked = (
        a_runner("d", 2, tier=SlaTier.BASIC, priority=9),
        a_runner("c", 3, submitted_at=second),
        a_runner("b", 3, submitted_at=first),
        a_runner("a", 3, priority=1, submitted_at=second),
        a_runner("e", 2, tier=SlaTier.PREMIUM),
    )
    assert covered(*ranked) == {"e": 2_000, "a": 3_000, "b": 3_000, "c": 0, "d": 0}


def test_work_that_waits_is_covered_as_work_that_runs() -> None:
    waits = a_workload("waits", gpus=8, tier=SlaTier.PREMIUM, targets=(Target(skus=("h100",)),))
    assert covered(waits, a_runner("runs", 8)) == {"waits": 8_000, "runs": 0}


def test_work_that_waits_is_covered_by_any_sku_that_it_takes() -> None:
    flexible = a_workload("w", gpus=4, targets=(Target(skus=("h100",)), Target(skus=("a100",))))
    assert covered(a_runner("a", 8), flexible) == {"a": 8_000, "w": 4_000}
    assert covered(a_runner("a", 8), a_workload("w", gpus=5, targets=flexible.spec.targets))["w"] == 0


def test_work_that_waits_is_covered_by_the_skus_that_its_groups_name() -> None:
    first = a_workload("w", tier=SlaTier.PREMIUM, groups=[ReplicaGroup(count=4, skus=("a100",))])
    assert covered(a_runner("a", 8), first) == {"a": 8_000, "w": 4_000}
    both = [ReplicaGroup(name="one", count=4, skus=("a100",)), ReplicaGroup(name="other", count=3)]
    mixed = a_workload("w", tier=SlaTier.PREMIUM, groups=both, targets=(Target(skus=("h100", "a100")),))
    assert covered(a_runner("a", 5), mixed) == {"a": 5_000, "w": 7_000}
    assert covered(a_runner("a", 6), mixed) == {"a": 0, "w": 7_000}
    too_much = a_workload("w", tier=SlaTier.PREMIUM, groups=[ReplicaGroup(count=5, skus=("a100",))])
    assert covered(a_runner("a", 8), too_much) == {"a": 8_000, "w": 0}


def test_what_an_elastic_gang_has_beyond_its_minimum_is_covered_as_far_as_quota_goes() -> None:
    elastic = a_workload("e", groups=[ReplicaGroup(count=12, minimum=2)]).on((NODE, 12))
    assert covered(elastic) == {"e": 8_000}
    assert covered(elastic, nominal=1) == {"e": 0}


def test_work_of_a_queue_that_is_gone_is_covered_by_nothing() -> None:
    assert covered(a_runner("a", 1, queue="gone")) == {}


def test_a_line_that_comes_and_goes_is_covered_as_if_it_were_seen_for_the_first_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entitlement, "BLOCK", 1)
    random, census, remembered, line, now = Random(7), Census(), Entitlement(), dict[str, Waiting | Active](), NOON
    for number in range(600):
        now += seconds(5)
        if (luck := random.random()) < 0.3:
            line[f"w{number}"] = a_comer(random, f"w{number}", now)
        elif luck < 0.6 and line:
            del line[random.choice(sorted(line))]
        nominal = (16, 30)[number // 40 % 2]
        snapshot = replace(
            a_snapshot([NODE, A100], [a_queue("research", nominal, quotas=[a_quota(4, sku="a100")])]),
            waiting=tuple(each for each in line.values() if isinstance(each, Waiting)),
            active=tuple(each for each in line.values() if isinstance(each, Active)),
        )
        tree = QuotaTree.at(snapshot.queues, now)
        coverage = remembered.take(*census.take(snapshot), snapshot.over_quota, tree, now)
        assert {**dict.fromkeys(coverage.over, 0), **coverage.covered} == within_quota(snapshot, tree, now)


def a_comer(random: Random, id: str, now: datetime) -> Waiting | Active:
    """Work that runs, or waits and may have more as time passes."""
    gpus, tier, came = random.choice((1, 2, 3, 5)), random.choice(list(SlaTier)), now - seconds(random.randrange(60))
    if random.random() < 0.2:
        return a_runner(id, gpus, tier=tier, submitted_at=came)
    later = Target(skus=("a100",), after_seconds=random.choice((0, 10, 100)))
    return a_workload(id, gpus=gpus, tier=tier, submitted_at=came, targets=(Target(skus=("h100",)), later)).waiting()
