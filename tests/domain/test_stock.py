"""Stocks: what outlives a round."""

from domain.pool.stock import ROUNDS_UNASKED, Atlas, NodeRoom, Stock
from tests.builders import a_node

NODES = [a_node("n1"), a_node("n2")]


class Looks:
    """A column that counts at how many nodes it has looked."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, entry: NodeRoom) -> int:
        self.number += 1
        return entry.whole


def a_stock() -> Stock:
    return Stock.of([NodeRoom.of(node, node.free) for node in NODES], Atlas(NODES))


def test_a_column_outlives_rounds_in_which_nobody_asks_for_it() -> None:
    stock, looks = a_stock(), Looks()
    assert stock.column("free", looks).tolist() == [8, 8]
    for _ in range(ROUNDS_UNASKED):
        stock.tidy()
    stock = stock.with_rooms([("n2", NODES[1].free - NODES[1].free)])
    assert stock.column("free", looks).tolist() == [8, 0]
    assert looks.number == 3


def test_a_column_that_nobody_has_asked_for_in_many_rounds_is_forgotten() -> None:
    stock, looks = a_stock(), Looks()
    stock.column("free", looks)
    for _ in range(ROUNDS_UNASKED + 1):
        stock.tidy()
    stock.column("free", looks)
    assert looks.number == 4


def test_a_stock_that_changes_as_it_did_before_is_the_same_version() -> None:
    stock = a_stock()
    full, idle = NODES[0].free - NODES[0].free, NODES[0].free
    taken = stock.with_rooms([("n1", full)])
    assert stock.with_rooms([("n2", full)]) is not taken
    assert stock.with_rooms([("n1", full)]) is taken
    assert stock.with_rooms([("n1", idle)]) is not taken
    stock.tidy()
    assert stock.with_rooms([("n1", full)]) is not taken
