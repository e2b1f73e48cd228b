"""Budgets: what is left of a queue's accelerator-hours or money, and what a start would take of it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil, log2

from corral.api import HOUR_SECONDS, WHOLE, BudgetSpec, BudgetUnit
from domain.pool.fleet import Amount
from domain.quota.accounting import MILLISECOND, MILLISECONDS
from domain.quota.flows import HOUR, Flows, decayed, merged, milliseconds, since, used_until

ONE = {BudgetUnit.ACCELERATOR_HOURS: WHOLE * HOUR, BudgetUnit.DOLLARS: 10**9 * HOUR}
"""One accelerator-hour in thousandths of an accelerator times milliseconds; one dollar in nanodollars an hour times them."""


@dataclass(frozen=True, slots=True)
class Balance:
    """What is left of a budget, for what runs between two times (milliseconds from now; without an end, for ever)."""

    budget: BudgetSpec
    left: int
    opens: int = 0
    closes: int | None = None

    @property
    def is_money(self) -> bool:
        """Whether dollars are counted, and not accelerator-hours."""
        return self.budget.unit is BudgetUnit.DOLLARS

    def commitment(self, milli: Amount, hourly_cost: int, seconds: int | None) -> int:
        """What work that runs for so long from now on will have used up; nothing is known of work of unknown length."""
        return (hourly_cost if self.is_money else milli) * self.within(seconds)

    def within(self, seconds: int | None) -> int:
        """Milliseconds of work of that length that fall between the two times."""
        ends = (seconds or 0) * MILLISECONDS
        return max(0, (ends if self.closes is None else min(ends, self.closes)) - self.opens)

    def is_used_up(self, committed: int) -> bool:
        """Whether nothing new may start now, however little it needs."""
        return self.opens == 0 and self.left - committed <= 0

    def missing(self, milli: Amount, hourly_cost: int, seconds: int | None, committed: int) -> int:
        """How much more it would have to have left for such work to start; at least one while it is used up."""
        missing = self.commitment(milli, hourly_cost, seconds) + committed - self.left
        return max(missing, committed - self.left + 1) if self.is_used_up(committed) else max(0, missing)

    def back(self, now: datetime, missing: int) -> Iterator[datetime]:
        """When what is missing may have come back by itself: at the next period, or once so much of what is spent has decayed.

        Running work goes on spending meanwhile, so that it may take longer; a grant never comes back.
        """
        if self.closes is not None:
            yield now + self.closes * MILLISECOND
        spent = self.budget.amount * ONE[self.budget.unit] - self.left
        if self.budget.half_life_seconds is not None and 0 < missing < spent:
            halvings = log2(spent / (spent - missing))
            hours = ceil(halvings * self.budget.half_life_seconds / HOUR_SECONDS)
            yield from (now + timedelta(hours=each) for each in (hours, hours + 1, 2 * hours, 4 * hours))

    def thousandths(self, amount: int) -> int:
        """An amount of the budget in thousandths of its unit, for people; never negative."""
        return max(0, amount) * 1_000 // ONE[self.budget.unit]


def balances(budget: BudgetSpec, spent: int, now: datetime) -> tuple[Balance, ...]:
    """The balance now and, of a budget by periods, that of the next one.

    Work that is running lasts at most as long in every later period as in the next, so that two periods are enough.
    """
    amount = budget.amount * ONE[budget.unit]
    if budget.period_seconds is None:
        return (Balance(budget, amount - spent),)
    length, today = budget.period_seconds * MILLISECONDS, milliseconds(now)
    closes = _counts_from(budget, today) + length - today
    return (Balance(budget, amount - spent, 0, closes), Balance(budget, amount, closes, closes + length))


def beyond_unspent(budget: BudgetSpec, milli: Amount, hourly_cost: int, seconds: int | None) -> tuple[int, int] | None:
    """What such work would use up, and the most that it could have if nothing else used any; none where that is enough.

    Work that runs over the end of a period takes a part of two, and of as many as it likes where each lasts for a whole one.
    Both are amounts of the budget, as in a balance.
    """
    unspent = Balance(budget, budget.amount * ONE[budget.unit])
    needs, most = unspent.commitment(milli, hourly_cost, seconds), unspent.left
    if budget.period_seconds is not None:
        lasts = unspent.commitment(milli, hourly_cost, budget.period_seconds) <= most
        most = max(2 * most, needs) if lasts else 2 * most
    return (needs, most) if needs > most or not unspent.left else None


def spent_later(
    budget: BudgetSpec, spent: int, uses: Iterable[tuple[int, datetime | None]], now: datetime, then: datetime
) -> int:
    """What will be spent of a budget of which so much is spent now: `uses` are what runs by the hour, and until when.

    Without an end it runs on; what it still spends is not taken to decay meanwhile.
    """
    today, until = milliseconds(now), milliseconds(then)
    begins = _counts_from(budget, until)
    if budget.half_life_seconds is not None:
        hours = (until - today) // HOUR
        spent = ceil(spent * 2 ** (-hours * HOUR_SECONDS / budget.half_life_seconds))
    elif begins > today:
        spent = 0
    first = max(today, begins)
    ends = ((use, until if end is None else min(milliseconds(end), until)) for use, end in uses)
    return spent + sum(use * max(0, last - first) for use, last in ends)


def spent(flows: Iterable[Flows], budget: BudgetSpec, now: datetime) -> int:
    """What of a budget is used up by all that the flows of its queue, and of those below, say has run: a pure fold.

    By periods it is what ran since the last one began; replenishing, every hour of use weighs half as much after each
    half-life; else all since the budget began.
    """
    in_dollars = budget.unit is BudgetUnit.DOLLARS
    until = milliseconds(now)
    used = since(merged(each.cost if in_dollars else each.milli for each in flows), _counts_from(budget, until) // HOUR)
    if budget.half_life_seconds is not None:
        return decayed(used, budget.half_life_seconds, until)
    return used_until(used, until)


def _counts_from(budget: BudgetSpec, now: int) -> int:
    """Since when the budget that counts now counts, in milliseconds since the epoch."""
    began = milliseconds(budget.since)
    if budget.period_seconds is None:
        return began
    length = budget.period_seconds * MILLISECONDS
    return began + (now - began) // length * length


def called(queue: str, budget: BudgetSpec) -> str:
    """A budget as people are told of it."""
    how = f", replenished by half every {budget.half_life_seconds} s" if budget.half_life_seconds else ""
    when = f" in every {budget.period_seconds} s" if budget.period_seconds else ""
    return f"{queue} ({budget.amount} {budget.unit}{when}{how})"
