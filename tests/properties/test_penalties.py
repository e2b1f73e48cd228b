"""What charges come to, in whatever order entries are told and however often."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from domain.quota.penalties import Entry, charged_beyond, charges, outstanding, settlement
from domain.quota.tree import QuotaTree
from tests.builders import NOON, a_cohort, a_queue
from tests.properties.situations import STABLE

QUEUES, SKUS = ("one", "other"), ("a100", "h100")
amounts = st.dictionaries(st.sampled_from(SKUS), st.integers(0, 8_000), min_size=1)


@st.composite
def charged(draw: st.DrawFn) -> list[Entry]:
    gangs = draw(st.lists(st.tuples(st.sampled_from(QUEUES), amounts, st.integers(0, 900)), max_size=6))
    return [
        entry for number, (queue, by_sku, seconds) in enumerate(gangs) for entry in charges("w", number, queue, by_sku, seconds)
    ]


@STABLE
@given(charged(), st.randoms(use_true_random=False))
def test_order_and_repetition_change_nothing(entries: list[Entry], random: Random) -> None:
    told = entries + [settlement(charge) for charge in random.sample(entries, len(entries) // 2)]
    again = told + random.choices(told, k=3) if told else []
    assert outstanding(random.sample(again, len(again))) == outstanding(told)


@STABLE
@given(charged(), st.randoms(use_true_random=False))
def test_what_is_settled_sums_to_zero_and_the_rest_is_as_it_was(entries: list[Entry], random: Random) -> None:
    settled = random.sample(entries, random.randint(0, len(entries)))
    left = [charge for charge in entries if charge not in settled]
    assert outstanding(entries + [settlement(charge) for charge in settled]) == outstanding(left)
    assert outstanding(entries + [settlement(charge) for charge in entries]) == {}


@STABLE
@given(charged(), amounts, st.integers(0, 8), st.integers(0, 900))
def test_nobody_is_charged_beyond_more_than_was_charged(
    entries: list[Entry], has: dict[str, int], nominal: int, seconds: int
) -> None:
    tree = QuotaTree.at(a_cohort(*(a_queue(queue, nominal) for queue in QUEUES)), NOON)
    held = {("one", sku): milli for sku, milli in has.items()}
    found = charged_beyond(tree, outstanding(entries), held, seconds)
    for node, queues in {"one": ("one",), "other": ("other",), "cohort": QUEUES}.items():
        mine = [entry.milli_seconds for entry in entries if entry.queue in queues]
        assert 0 <= found.get(node, 0) <= min(sum(mine), sum(has.values()) * seconds)
