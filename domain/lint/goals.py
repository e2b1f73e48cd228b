"""Rules about stratum 4: preferences that can change nothing."""

from collections.abc import Iterator

from corral.policy import Preference
from domain.law import Case
from domain.lint.documents import Complaint, Documents, listed
from domain.lint.reach import Reach


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


def _cases(preference: Preference, reach: Reach, *, favoured: bool) -> Iterator[Case]:
    for queue in preference.queues or ("",):
        path = reach.documents.path(queue) if queue else ()
        yield from (case for case in reach.cases(queues=path) if _favours(preference, case) is favoured)


def _favours(preference: Preference, case: Case) -> bool:
    lists = {kind: getattr(preference, kind) for kind in ("skus", "regions", "providers", "capacity_types")}
    return all(names is None or case.value(kind) in names for kind, names in lists.items())
