"""Fair shares: what each queue may expect of one SKU, its deserved quota first and its part of the surplus then."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction

from corral.api import WHOLE
from domain.pool.fleet import Amount

NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Claim:
    """What one queue brings to a division; amounts in thousandths of an accelerator.

    `demand` is what its workloads have and ask for. A `deserved` of none takes whatever there is, a `limit` of none does not
    limit. Of equal remainders the older queue has the first.
    """

    name: str
    demand: Amount
    deserved: Amount | None = 0
    limit: Amount | None = None
    weight: int = 1
    priority: int = 0
    created_at: datetime | None = None

    @property
    def wanted(self) -> Amount:
        """The demand as far as the limit lets it count."""
        return self.demand if self.limit is None else min(self.limit, self.demand)


@dataclass(frozen=True, slots=True)
class Division:
    """The share of each queue, and what nobody is given; both in thousandths of an accelerator."""

    shares: Mapping[str, Amount]
    left: Amount


def divide(total: Amount, claims: Iterable[Claim]) -> Division:
    """Divide an amount among sibling queues (KAI, `resource_division.go`).

    Everybody first gets what they deserve and want, even beyond the total. What is left after that goes to the queues of the
    highest priority by weight, in whole accelerators where a queue gets less than it wants, then to those of the next.
    """
    ordered = sorted(claims, key=lambda claim: claim.name)
    shares = {claim.name: min(total if claim.deserved is None else claim.deserved, claim.wanted) for claim in ordered}
    left = max(0, total - sum(shares.values()))
    for priority in sorted({claim.priority for claim in ordered}, reverse=True):
        peers = [claim for claim in ordered if claim.priority == priority and claim.weight]
        left = _divide_surplus(left, peers, shares)
    return Division(shares, left)


def _divide_surplus(left: Amount, peers: Sequence[Claim], shares: dict[str, Amount]) -> Amount:
    """Fill the shares of equal queues by weight, as long as one of them is satisfied with less; gives what is left."""
    remainders: dict[str, Fraction] = {}
    is_settled = False
    while left and not is_settled and (hungry := [claim for claim in peers if claim.wanted > shares[claim.name]]):
        amount, weights, is_settled = left, sum(claim.weight for claim in hungry), True
        for claim in hungry:
            missing, fair = claim.wanted - shares[claim.name], Fraction(amount * claim.weight, weights)
            given = missing if missing <= fair else int(fair) // WHOLE * WHOLE
            is_settled = is_settled and missing >= fair
            shares[claim.name] += given
            left -= given
            if missing > fair > given:
                remainders[claim.name] = fair - given
    return _hand_out(left, [claim for claim in peers if claim.name in remainders], remainders, shares)


def _hand_out(left: Amount, peers: Sequence[Claim], remainders: Mapping[str, Fraction], shares: dict[str, Amount]) -> Amount:
    """Give one accelerator each, the largest remainder first, then the oldest queue; gives what is left after that."""
    for claim in sorted(peers, key=lambda claim: (-remainders[claim.name], claim.created_at or NEVER, claim.name)):
        given = min(WHOLE, left, claim.wanted - shares[claim.name])
        shares[claim.name] += given
        left -= given
    return left


def divide_tree(total: Amount, roots: Sequence[Claim], children: Callable[[str], Sequence[Claim]]) -> dict[str, Amount]:
    """The share of every queue of a tree: the roots divide the total, and what each is given its children divide."""
    shares = dict(divide(total, roots).shares)
    for claim in roots:
        if below := children(claim.name):
            shares |= divide_tree(shares[claim.name], below, children)
    return shares
