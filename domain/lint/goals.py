"""Rules about stratum 4: preferences, weights and facts that can change nothing."""

from collections.abc import Iterator

from corral.policy import Goal, Goals, Hazard, Preference
from domain.lint.documents import Complaint, Documents, listed
from domain.lint.reach import Reach
from domain.pool.data import terms_of
from domain.worlds.law import Case


def prefers_the_forbidden(documents: Documents) -> Iterator[Complaint]:
    """A preference favours only capacity that the constraints forbid to the work that it selects."""
    reach = Reach.of(documents)
    for at, preference in enumerate(documents.policy.goals.preferences):
        favoured = list(_cases(preference, reach, favoured=True))
        if reach.permitted(favoured) is None:
            blame = listed(reach.breaches(favoured))
            yield Complaint(
                f"goals.preferences[{at}]",
                f"{preference.name} favours only what {blame} forbid",
                "expected capacity that the work it selects may use; change one or the other",
            )


def never_decides(documents: Documents) -> Iterator[Complaint]:
    """A preference favours all that the constraints leave to the work it selects: there is no alternative to it."""
    reach = Reach.of(documents)
    for at, preference in enumerate(documents.policy.goals.preferences):
        is_possible = reach.permitted(_cases(preference, reach, favoured=True)) is not None
        if is_possible and reach.permitted(_cases(preference, reach, favoured=False)) is None:
            yield Complaint(
                f"goals.preferences[{at}]",
                f"{preference.name} never decides: the constraints leave no alternative to what it favours",
                "leave the preference out",
            )


def repeated_name(documents: Documents) -> Iterator[Complaint]:
    """Two preferences have one name, so that no explanation can tell them apart."""
    seen: dict[str, int] = {}
    for at, preference in enumerate(documents.policy.goals.preferences):
        if (first := seen.setdefault(preference.name, at)) != at:
            yield Complaint(
                f"goals.preferences[{at}].name",
                f"{preference.name} is the name of goals.preferences[{first}] already",
                "expected a name of its own",
            )


def goal_without_weight(documents: Documents) -> Iterator[Complaint]:
    """A limit of a goal that counts nothing, or a goal whose limit is nothing."""
    goals = documents.policy.goals
    default = type(goals)()
    if goals.price_weight == 0 and goals.price_limit != default.price_limit:
        yield Complaint("goals.price_limit", "limits a price that counts nothing (price_weight is 0)", "leave it out")
    if goals.price_weight > 0 and goals.price_limit == 0:
        yield Complaint("goals.price_weight", "counts nothing: price_limit is 0", "raise the limit, or set the weight to 0")
    if goals.preferences and goals.preference_limit == 0:
        yield Complaint("goals.preferences", "count nothing: preference_limit is 0", "raise the limit, or leave them out")
    if not goals.preferences and goals.preference_limit != default.preference_limit:
        yield Complaint("goals.preference_limit", "limits preferences that are not there", "leave it out")
    for term in ("egress", "staging", "hazard", "affinity", "spread"):
        yield from _weightless(f"goals.{term}", getattr(goals, term), getattr(default, term))
    yield from _unread_transfers(goals, default)
    yield from _unread_hazard(goals.hazard, default.hazard)


def _weightless(field: str, goal: Goal, default: Goal) -> Iterator[Complaint]:
    if goal.weight == 0 and goal.limit != default.limit:
        yield Complaint(f"{field}.limit", "limits a term that counts nothing (its weight is 0)", "leave it out")
    if goal.weight > 0 and goal.limit == 0:
        yield Complaint(f"{field}.weight", "counts nothing: the limit is 0", "raise the limit, or set the weight to 0")


def _unread_transfers(goals: Goals, default: Goals) -> Iterator[Complaint]:
    if not (goals.egress.weight or goals.staging.weight) and goals.transfers != default.transfers:
        message = "is read by nothing: egress and staging both have weight 0"
        yield Complaint("goals.transfers", message, "leave it out, or give one of them a weight")


def _unread_hazard(hazard: Hazard, default: Hazard) -> Iterator[Complaint]:
    for name in ("interruptions_per_hour", "lost_seconds"):
        if hazard.weight == 0 and getattr(hazard, name) != getattr(default, name):
            yield Complaint(
                f"goals.hazard.{name}", "counts nothing: the weight is 0", "leave it out, or give the hazard a weight"
            )


def idle_route(documents: Documents) -> Iterator[Complaint]:
    """A route changes nothing: its region lacks nothing of its own, it differs in nothing, or no work may go where it leads."""
    transfers, reach = documents.policy.goals.transfers, Reach.of(documents)
    usual = terms_of(None, transfers)
    for source, routes in transfers.routes.items():
        for destination, route in routes.items():
            field = f"goals.transfers.routes.{source}.{destination}"
            if source == destination:
                yield Complaint(field, f"leads from {source} to itself, where nothing needs to be brought", "leave it out")
            elif terms_of(route, transfers) == usual:
                yield Complaint(field, "says what holds between any two regions", "leave it out, or say what differs")
            elif reach.permitted(reach.cases(regions=(destination,))) is None:
                blame = listed(reach.breaches(reach.cases(regions=(destination,))))
                yield Complaint(field, f"leads to {destination}, where {blame} let no work go", "leave it out")


def _cases(preference: Preference, reach: Reach, *, favoured: bool) -> Iterator[Case]:
    for queue in preference.queues or ("",):
        path = reach.documents.path(queue) if queue else ()
        yield from (case for case in reach.cases(queues=path) if _favours(preference, case) is favoured)


def _favours(preference: Preference, case: Case) -> bool:
    lists = {kind: getattr(preference, kind) for kind in ("skus", "regions", "providers", "capacity_types")}
    return all(names is None or case.value(kind) in names for kind, names in lists.items())
