"""In a line by deserved quota those who ask for the same follow each other as they would if each stood there by itself."""

from collections.abc import Iterable, Sequence
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from corral.api import WHOLE, QueueSpec
from domain.pool.workload import Waiting
from domain.quota.tree import QuotaTree
from domain.quota.usage import Usage
from domain.quota_models.deserved.books import Books
from domain.quota_models.deserved.line import Line
from domain.quota_models.deserved.lineup import Entry, Lineup, Peers
from domain.remembered.lanes import Backlog, Lane
from domain.worlds.request import Kind
from tests.builders import NOON, a_queue, a_workload, seconds
from tests.properties.situations import STABLE

SKU, LEAVES = "h100", ("a1", "a2", "a3", "b1", "b2")


def a_tree(random: Random) -> list[QueueSpec]:
    """Two departments with queues, each a root."""

    def queue(name: str, parent: str | None = None) -> QueueSpec:
        made = a_queue(name, random.randint(0, 6), parent=parent)
        return made.model_copy(update={"priority": random.choice((0, 0, 0, 1))})

    return [*map(queue, "ab"), *(queue(name, name[0]) for name in LEAVES)]


def the_books(random: Random) -> Books:
    specs = {queue.name: queue for queue in a_tree(random)}
    fair = {(name, SKU): random.randint(0, 6) * WHOLE for name in specs}
    return Books(QuotaTree.at(specs.values(), NOON, common=True), (SKU,), specs, {SKU: 12 * WHOLE}, fair)


Asks = tuple[str, int, int]
"""Queue, priority and accelerators."""


def wishes(random: Random) -> list[tuple[Asks, Waiting]]:
    """Who waits, and for what."""
    kinds = [(random.choice(LEAVES), random.choice((0, 0, 1)), random.randint(1, 4)) for _ in range(random.randint(2, 8))]
    asked = [random.choice(kinds) for _ in range(random.randint(5, 50))]
    ages = [NOON - seconds(random.randint(0, 60)) for _ in asked]
    return [
        (asks, a_workload(f"w{n:02}", submitted_at=age).waiting())
        for n, (asks, age) in enumerate(zip(asked, ages, strict=True))
    ]


def lined_up(groups: Iterable[tuple[Asks, Sequence[Waiting]]]) -> Lineup:
    peers, lanes, lane_of, by_id = list[Peers](), dict[Kind, Lane](), dict[str, Lane](), dict[str, Waiting]()
    for (queue, priority, gpus), members in groups:
        lane = Lane(Kind())
        lane.join(list(members))
        lanes[lane.kind] = lane
        lane_of |= {each.id: lane for each in members}
        by_id |= {each.id: each for each in members}
        first = lane.members[0]
        rank = (0, -priority, 0, first.submitted_at, first.id)
        peers.append(Peers(lane, Entry(first.id, queue, rank, {SKU: gpus * WHOLE})))
    return Lineup((), peers, Backlog(lanes, lane_of, by_id))


def who_is_served(lineup: Lineup, asks: dict[str, Asks], books: Books, seed: int) -> list[str]:
    """In their order, where chance decides who gets something, but the same of all who ask for the same at one moment."""
    usage, served = Usage(books.tree), list[str]()
    line = Line(books, usage, lineup)
    while (entry := line.next()) is not None:
        if Random(f"{seed} {asks[entry.job_id]} {len(served)}").random() < 0.25:
            usage = usage.plus(entry.queue, SKU, entry.amounts[SKU], preemptible=True)
            served.append(entry.job_id)
            line.see(usage, (entry.queue,))
        else:
            line.pass_over()
    return served


@STABLE
@given(st.randoms(use_true_random=False))
def test_who_is_served_in_which_order(random: Random) -> None:
    books, seed, everybody = the_books(random), random.randrange(10**6), wishes(random)
    asks = {each.id: what for what, each in everybody}
    together: dict[Asks, list[Waiting]] = {}
    for what, each in everybody:
        together.setdefault(what, []).append(each)
    one_by_one = who_is_served(lined_up((what, [each]) for what, each in everybody), asks, books, seed)
    assert who_is_served(lined_up(together.items()), asks, books, seed) == one_by_one
