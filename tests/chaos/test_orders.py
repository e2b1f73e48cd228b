"""An ordered fault strikes once, whoever comes by, and is counted."""

from collections import Counter
from pathlib import Path

from tests.chaos.faults import Fault, Orders


def test_of_all_who_come_by_one_is_struck(tmp_path: Path) -> None:
    Orders(tmp_path).give(Fault.LAUNCH_REPEATED)
    struck = [Orders(tmp_path).take(Fault.LAUNCH_REPEATED) for _ in range(3)]
    assert struck == [True, False, False]
    assert Orders(tmp_path).taken() == {Fault.LAUNCH_REPEATED: 1}


def test_each_order_counts(tmp_path: Path) -> None:
    orders = Orders(tmp_path)
    for _ in range(2):
        orders.give(Fault.SIGNAL_LATE)
        assert orders.take(Fault.SIGNAL_LATE)
    orders.give(Fault.SIGNAL_LATE)
    assert orders.open() == {Fault.SIGNAL_LATE: 1}
    assert orders.taken() == {Fault.SIGNAL_LATE: 2}


def test_what_is_withdrawn_strikes_nobody(tmp_path: Path) -> None:
    orders = Orders(tmp_path)
    orders.give(Fault.PROVIDER_CUT)
    assert orders.withdraw() == Counter({Fault.PROVIDER_CUT: 1})
    assert not orders.take(Fault.PROVIDER_CUT)
    assert orders.taken() == {}
