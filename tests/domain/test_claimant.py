"""What is worked out of terms is shared by all who have them, and goes when nobody has them any more."""

import gc
from weakref import ref

from corral.api import ReplicaGroup, Target, WorkloadTerms
from domain.pool.claimant import OfTerms
from domain.pool.workload import Waiting
from domain.worlds.request import form, known_asked
from tests.builders import NOON


def some_terms(**fields: object) -> WorkloadTerms:
    return WorkloadTerms.model_validate({"queue": "research", "groups": (ReplicaGroup(accelerators=2),), **fields})


def test_it_is_worked_out_once_for_the_same_object_and_again_for_another() -> None:
    asked: list[str] = []

    @OfTerms
    def number(terms: WorkloadTerms) -> int:
        asked.append(terms.queue)
        return len(asked)

    terms, alike, other = some_terms(), some_terms(), some_terms(queue="other")
    assert [number(each) for each in (terms, alike, other, terms)] == [1, 2, 3, 1]
    assert asked == ["research", "research", "other"]


def test_it_goes_with_the_terms() -> None:
    queue_of = OfTerms(lambda terms: terms.queue)
    lasting = some_terms()
    for number in range(100):
        assert queue_of(some_terms(queue=f"queue-{number}")) == f"queue-{number}"
    assert queue_of(lasting) == "research"
    gc.collect()
    assert len(queue_of) == 1


def test_of_who_has_gone_neither_terms_nor_form_are_left() -> None:
    targets = Target(skus=("h100",)), Target(skus=("a100",), after_seconds=60)
    waiting = [
        Waiting("plain", some_terms(), NOON),
        Waiting("choosy", some_terms(targets=targets), NOON),
        Waiting("array", some_terms(tasks=20), NOON, tasks_done=3),
    ]
    kept = [ref(each.spec) for each in waiting] + [ref(form(each)) for each in waiting]
    waiting.clear()
    gc.collect()
    assert [each() for each in kept] == [None] * len(kept)


def test_those_who_ask_for_the_same_in_other_terms_have_one_form() -> None:
    one, other, array = some_terms(), some_terms(priority=7), some_terms(tasks=5)
    assert form(Waiting("a", one, NOON)) is form(Waiting("b", one, NOON))
    first, second = Waiting("a", one, NOON), Waiting("b", other, NOON)
    assert form(first) is form(second)
    begun, shorter = Waiting("c", array, NOON, tasks_done=2), Waiting("d", some_terms(tasks=3), NOON)
    assert form(begun) is form(shorter)
    assert form(begun) is not form(Waiting("e", array, NOON))


def test_what_is_asked_for_is_kept_once_and_for_as_long_as_anybody_asks_for_it() -> None:
    gc.collect()
    before = len(known_asked)
    waiting = [Waiting(f"w{number}", some_terms(minimum_replicas=1, priority=number), NOON) for number in range(5)]
    forms = [form(each) for each in waiting]
    assert len(known_asked) == before + 1
    waiting.clear()
    forms.clear()
    gc.collect()
    assert len(known_asked) == before
