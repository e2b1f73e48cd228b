"""Tables and cards: what a person is told of each kind of answer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from corral.api import (
    HOUR_SECONDS,
    Acknowledgement,
    BudgetStatus,
    ClusterStatus,
    DatasetStatus,
    EvacuationForecast,
    EvacuationMove,
    Explanation,
    FixSearch,
    FleetStatus,
    Following,
    Moment,
    NodePoolStatus,
    NodeStatus,
    OperationStatus,
    OrderRecord,
    ProvisioningStatus,
    QueueSpec,
    QueueStatus,
    QueueUsage,
    QuotaSpec,
    Reason,
    RoundStatus,
    WakeUp,
    Where,
    WorkloadEvent,
    WorkloadResult,
    WorkloadStatus,
)
from corral.cli.pages import Column, Page, Table, card, table, text_of
from corral.client import Submission
from corral.policy import PolicyRecord
from corral.reservation import Purpose, ReservationAnswer, ReservationStatus
from corral.rollout import Effect, WhatIf
from corral.schedule import MandateStatus, ScheduleStatus

ID = Column("ID")
STATE = Column("STATE")
SKU = Column("SKU")
EVENT_COLUMNS = (
    Column("ID", is_right=True, least_width=6),
    Column("AT"),
    Column("KIND", least_width=12),
    Column("MESSAGE", is_text=True),
)
"""Wide enough for usual ids and kinds, so that lines which come later stand in the same columns."""


def workloads(statuses: Sequence[WorkloadStatus]) -> Page:
    """One line for each workload."""
    columns = (
        *(ID, Column("QUEUE"), *_spare(Column("TIER"), *_numbers("PRIO")), STATE),
        *(*_spare(Column("SINCE")), _text("WHERE"), Column("REASON")),
    )
    return (table(columns, map(_workload, statuses)),)


def _workload(status: WorkloadStatus) -> tuple[object, ...]:
    where = status.where
    place = f"{where.provider}/{where.region} {_accelerators(where)}" if where else None
    told = status.explanation
    why = told.reason if told and told.reason is not Reason.FAILED else status.outcome
    return (status.id, status.queue, status.tier, _priority_in_short(status), status.state, status.since, place, why)


def _priority_in_short(status: WorkloadStatus) -> str:
    return f"{status.priority} ({status.fallen.counts_as})" if status.fallen else f"{status.priority}"


def _priority(status: WorkloadStatus) -> str:
    if (fallen := status.fallen) is None:
        return f"{status.priority}"
    since = f" since {text_of(fallen.since)}" if fallen.since else ""
    return f"{status.priority}, counts as {fallen.counts_as}{since}: it has run for {fallen.after_seconds / HOUR_SECONDS:.3g} h"


def status(status: WorkloadStatus) -> Page:
    """A card with what is known of one workload."""
    facts = {
        "Workload": status.id,
        "Queue": status.queue,
        "Tier": status.tier,
        "Priority": _priority(status),
        "State": status.state,
        "Since": status.since,
        "Submitted": status.submitted_at,
        "Ended": status.ended_at,
        "Outcome": status.outcome,
        "Exit code": status.exit_code,
        "Attempts": status.epoch,
        "Preemptions": status.preemptions or None,
        "Tasks done": status.tasks_done,
    }
    facts["Does not leave"] = _on_nodes(status.remnants) or None
    places = _facts_of_place(status.where) | _facts_of_next_place(status.next_where)
    return (card(facts | places | _facts_of_following(status.following) | _facts_of_reason(status.explanation)),)


def _facts_of_following(following: Following | None) -> dict[str, object]:
    if following is None:
        return {}
    return {"Wanted": following.wanted, "Demand unknown since": following.stale_since, "Problem": following.problem or None}


def _facts_of_place(where: Where | None) -> dict[str, object]:
    if where is None:
        return {}
    return {
        "Where": _place(where),
        "Accelerators": _accelerators(where),
        "Nodes": _on_nodes(where.nodes),
    }


def _on_nodes(replicas: Mapping[str, int]) -> str:
    return ", ".join(f"{node} ({count})" for node, count in replicas.items())


def _facts_of_next_place(where: Where | None) -> dict[str, object]:
    return {} if where is None else {"Goes on": f"{_place(where)} with {_accelerators(where)}"}


def _place(where: Where) -> str:
    return f"{where.provider}/{where.region}/{where.cluster}"


def _accelerators(where: Where) -> str:
    return " + ".join(f"{number:g} {sku}" for sku, number in where.by_sku.items())


def _facts_of_reason(explanation: Explanation | None) -> dict[str, object]:
    if explanation is None:
        return {}
    return {"Reason": explanation.reason, "Message": explanation.message, "Position": explanation.position}


def explanation(status: WorkloadStatus) -> Page:
    """Why a workload waits, was refused or has failed, with the evidence."""
    facts: dict[str, object] = {"Workload": status.id, "State": status.state}
    if status.fallen:
        facts["Priority"] = _priority(status)
    told = status.explanation
    if told is None:
        nothing = {"Message": "neither waits nor was refused, and has not failed"}
        rest = _facts_of_next_place(status.next_where) | _facts_of_following(status.following)
        return (card(facts | nothing | rest),)
    reasons = card(
        facts
        | _facts_of_reason(told)
        | _facts_of_search(told)
        | {"As of": _moment(told)}
        | _facts_of_following(status.following)
    )
    return (reasons, *([_evidence(told)] if told.evidence else ()), *([_fixes(told)] if told.fixes else ()))


NO_FIX = {
    FixSearch.COMPLETE: "none: no change that Corral tries would start it as things are",
    FixSearch.CUT_SHORT: "none found in the trials and the seconds that a search may take; there may be some",
}


def _facts_of_search(told: Explanation) -> dict[str, object]:
    return {} if told.fixes or told.fix_search is None else {"Fixes": NO_FIX[told.fix_search]}


def _moment(told: Explanation) -> str | None:
    round_id = None if told.round_id is None else f"round {told.round_id}"
    as_of = None if told.as_of is None else text_of(told.as_of)
    return ", ".join(part for part in (round_id, as_of) if part) or None


def _evidence(told: Explanation) -> Table:
    columns = (Column("REASON"), *_numbers("COUNT"), _text("EXAMPLE"))
    return table(columns, ((evidence.reason, evidence.count, evidence.example) for evidence in told.evidence))


def _fixes(told: Explanation) -> Table:
    names = [_text("VICTIMS")] if any(fix.victims for fix in told.fixes) else []
    rows = [(fix.message, f"${fix.cost:,.2f}", ", ".join(fix.victims) or None) for fix in told.fixes]
    columns = (_text("WOULD START IT"), Column("COST", is_right=True), *names)
    return table(columns, (row[: len(columns)] for row in rows))


def events(happened: Sequence[WorkloadEvent]) -> Page:
    """One line for each event."""
    return _events(happened, has_header=True)


def first_event(event: WorkloadEvent) -> Page:
    """The first line of a list of events that grows, with the header."""
    return _events([event], has_header=True)


def further_event(event: WorkloadEvent) -> Page:
    """One more line of it."""
    return _events([event], has_header=False)


def _events(happened: Sequence[WorkloadEvent], *, has_header: bool) -> Page:
    rows = ((event.id, event.at, event.kind, event.message) for event in happened)
    return (table(EVENT_COLUMNS, rows, has_header=has_header),)


def queues(statuses: Sequence[QueueStatus]) -> Page:
    """One line for each queue and SKU, and below them what to be warned of."""
    names = (Column("QUEUE"), *_spare(Column("PARENT")), Column("STOP"))
    amounts = (SKU, *_numbers("NOMINAL", "USED"), *_spare(*_numbers("BORROWED")), *_numbers("CAP"))
    columns = (*names, *_numbers("WAITING", "RUNNING"), *amounts, _text("TERMS"))
    rows = table(columns, (row for queue in statuses for row in _queue(queue)))
    warnings = [(queue.name, warning) for queue in statuses for warning in queue.warnings]
    warned = (table((Column("QUEUE"), _text("WARNING")), warnings),) if warnings else ()
    return (rows, *_budgets(statuses), *warned)


def _budgets(statuses: Sequence[QueueStatus]) -> Iterable[Table]:
    """A line for each budget, with what is spent of it."""
    columns = (Column("QUEUE"), Column("BUDGET"), *_numbers("AMOUNT", "SPENT", "LEFT"), _text("COUNTS"), Column("LIMIT"))
    rows = [(queue.name, *_budget(status)) for queue in statuses for status in queue.budgets]
    if rows:
        yield table(columns, rows)


def _budget(status: BudgetStatus) -> tuple[object, ...]:
    budget, spent = status.budget, round(status.spent, 2)
    counts = "once"
    if budget.period_seconds is not None:
        counts = f"in every {budget.period_seconds} s since {text_of(budget.since)}"
    elif budget.half_life_seconds is not None:
        counts = f"half as much after {budget.half_life_seconds} s"
    return (budget.unit, budget.amount, spent, round(budget.amount - spent, 2), counts, "hard" if budget.hard else "soft")


def _queue(queue: QueueStatus) -> Iterable[tuple[object, ...]]:
    for usage in queue.usage or (None,):
        line = (queue.name, queue.parent, queue.stop, queue.waiting, queue.running, *_amounts(usage))
        yield (*line, ", ".join(f"{name} {value}" for name, value in _terms(queue.spec).items()))


def _amounts(usage: QueueUsage | None) -> tuple[object, ...]:
    return (None,) * 5 if usage is None else (usage.sku, usage.nominal, usage.used, usage.borrowed, usage.cap)


def _terms(spec: QueueSpec) -> dict[str, str]:
    """What a queue was given beyond the defaults, and beyond what stands in columns of its own."""
    given = spec.model_dump(
        mode="json", exclude_defaults=True, exclude={"name", "parent", "stop", "created_at", "quotas", "budgets"}
    )
    return {name.replace("_", " "): in_words(value) for name, value in given.items()}


def in_words(value: object) -> str:
    """A term as people read it: the parts of one that has several are named."""
    match value:
        case Mapping():
            return "; ".join(f"{name} {in_words(part)}" for name, part in value.items()).replace("_", " ") or "as usual"
        case list():
            return " > ".join(map(in_words, value))
    return text_of(value)


def queue(status: QueueStatus) -> Page:
    """A card with the terms of one queue, and a line for each of its quotas."""
    facts: dict[str, object] = {
        "Queue": status.name,
        "Parent": status.parent,
        "Stop": status.stop,
        "Created": status.spec.created_at,
        "Waiting": status.waiting,
        "Running": status.running,
    }
    terms = {name.capitalize(): value for name, value in _terms(status.spec).items()}
    use = (SKU, *_numbers("NOMINAL", "USED", "BORROWED", "CAP"))
    parts = (card(facts | terms), table(use, map(_amounts, status.usage)), *_quotas(status.spec.quotas))
    return (*parts, *_budgets([status]))


def _quotas(quotas: Sequence[QuotaSpec]) -> Iterable[Table]:
    """All quotas, whenever they are valid, with what at least one of them says."""
    said = {name for quota in quotas for name in quota.model_dump(exclude_defaults=True)}
    names = [name for name in QuotaSpec.model_fields if name in said]
    columns = [
        Column(name.replace("_", " ").upper(), is_right=name not in {"sku", "valid_from", "valid_until"}) for name in names
    ]
    if names:
        yield table(columns, ([getattr(quota, name) for name in names] for quota in quotas))


def datasets(statuses: Sequence[DatasetStatus]) -> Page:
    """One line for each dataset, and below them what to be warned of."""
    columns = (Column("DATASET"), *_numbers("GIB"), Column("REGIONS"), *_numbers("READERS"))
    rows = ((each.name, each.size_gib, ", ".join(each.regions) or None, each.readers) for each in statuses)
    warnings = [(each.name, warning) for each in statuses for warning in each.warnings]
    warned = (table((Column("DATASET"), _text("WARNING")), warnings),) if warnings else ()
    return (table(columns, rows), *warned)


def policies(records: Sequence[PolicyRecord]) -> Page:
    """One line for each policy."""
    columns = (*_numbers("VERSION"), Column("NAME"), *_spare(Column("MODEL"), Column("DIGEST")), Column("APPLIED"))
    return (table((*columns, *_spare(Column("BY")), _text("WHY")), map(_policy, records)),)


def _policy(record: PolicyRecord) -> tuple[object, ...]:
    policy = record.policy
    return (
        *(record.version, policy.name, policy.rank.quota_model, record.digest[:12]),
        *(record.applied_at, record.who, record.why),
    )


def reservations(statuses: Sequence[ReservationStatus]) -> Page:
    """One line for each reservation."""
    columns = (
        *(Column("RESERVATION"), STATE, Column("OPENS"), Column("CLOSES")),
        *(*_numbers("ASKED"), SKU, _text("FOR"), *_spare(*_numbers("KEPT", "LENT"))),
        *(*_numbers("MISSING"), *_spare(*_numbers("MISSES")), _text("CAUSE")),
    )
    return (table(columns, map(_reservation, statuses)),)


def _reservation(each: ReservationStatus) -> tuple[object, ...]:
    spec, kept = each.spec, sum(each.kept.values())
    whom = ", ".join((*spec.queues, *spec.tenants, *spec.workloads)) or spec.purpose
    window = (each.id, each.state, each.opens_at, each.closes_at)
    return (*window, spec.accelerators, spec.sku, whom, kept, each.lent, each.missing, len(each.misses), each.cause or None)


def reservation(status: ReservationStatus) -> Page:
    """A card with what is known of one reservation, and a line for each window that it missed."""
    spec = status.spec
    facts = {
        "Reservation": status.id,
        "Purpose": spec.purpose,
        "State": status.state,
        "Opens": status.opens_at,
        "Closes": status.closes_at,
        "Recurs": f"{spec.recurrence} ({spec.time_zone})" if spec.recurrence else None,
        "Windows": status.windows,
        "Accelerators": f"{spec.accelerators} {spec.sku}" if spec.accelerators else None,
        "For": ", ".join((*spec.queues, *spec.tenants, *spec.workloads)) or None,
        "Lent": f"{spec.lent}; {_lent(status)}" if spec.purpose is Purpose.CAPACITY else None,
        "Kept": ", ".join(f"{node} ({devices})" for node, devices in status.kept.items()) or None,
        "Missing": status.missing or None,
        "Cause": status.cause or None,
        "Reason": spec.reason or None,
    }
    columns = (
        *(Column("MISSED"), *_numbers("MISSING"), Column("MADE GOOD")),
        *(Column("KIND"), _text("CAUSE")),
    )
    missed = ((miss.opens_at, miss.missing, miss.made_good_at, miss.kind, miss.cause) for miss in status.misses)
    return (card(facts), *((table(columns, missed),) if status.misses else ()))


def _lent(status: ReservationStatus) -> str:
    return f"now {status.lent:g}, in all {status.lent_accelerator_seconds / 3600:,.1f} accelerator-hours of open windows"


def reservation_answer(answer: ReservationAnswer) -> Page:
    """What was done, and how the reservation stands after it."""
    return (card({"Done": answer.message or None, "State": answer.state, "Closes": answer.closes_at}),)


def fleet(supply: Sequence[FleetStatus]) -> Page:
    """One line for each provider, region and SKU."""
    columns = (Column("PROVIDER"), Column("REGION"), SKU, *_numbers("NODES", "READY", "ACCELERATORS", "USED", "FREE"))
    return (table(columns, map(_supply, supply)),)


def _supply(part: FleetStatus) -> tuple[object, ...]:
    free = part.accelerators - part.used
    return (part.provider, part.region, part.sku, part.nodes, part.ready_nodes, part.accelerators, part.used, free)


def node_pools(statuses: Sequence[NodePoolStatus]) -> Page:
    """One line for each node pool."""
    columns = (
        *(Column("NODE POOL"), Column("REGION"), SKU, *_spare(*_numbers("EACH", "$/H", "LEAST", "MOST"))),
        *_numbers("NEEDED", "DESIRED"),
        *(*_numbers("NODES", "READY", "COMING"), Column("SINCE"), _text("WHY")),
        *(Column("PAUSED UNTIL"), _text("FAILURE")),
    )
    return (table(columns, map(_node_pool, statuses)),)


def _node_pool(pool: NodePoolStatus) -> tuple[object, ...]:
    kind = (pool.id, pool.region, pool.sku, pool.accelerators, pool.dollars_per_hour)
    numbers = (pool.minimum, pool.maximum, pool.needed, pool.desired, pool.nodes, pool.ready, pool.coming)
    return (*kind, *numbers, pool.since, pool.why, pool.paused_until, pool.failure)


def provisionings(statuses: Sequence[ProvisioningStatus]) -> Page:
    """One line for each order for nodes."""
    columns = (
        *(ID, Column("NODE POOL"), STATE, *_numbers("NODES", "ARRIVED")),
        *(Column("ORDERED"), Column("ENDED"), _text("WHY"), _text("REASON")),
    )
    return (table(columns, map(_provisioning, statuses)),)


def _provisioning(order: ProvisioningStatus) -> tuple[object, ...]:
    numbers = (order.nodes, order.arrived)
    return (order.id, order.node_pool, order.state, *numbers, order.ordered_at, order.ended_at, order.why, order.reason)


def rounds(statuses: Sequence[RoundStatus]) -> Page:
    """One line for each round."""
    columns = (
        *_numbers("ROUND"),
        *(Column("AT"), *_spare(Column("TRIGGER"))),
        *_numbers("LOOKED AT", "STARTED", "STOPPED", "ACCELERATORS"),
        *_spare(*_numbers("BOUND", "GAP"), Column("METHOD"), *_numbers("MORE", "MOVED", "WORST REGION")),
        *(*_numbers("MS"), *_spare(_text("SLOWEST STEPS"))),
    )
    return (table(columns, map(_round, statuses)),)


def _round(each: RoundStatus) -> tuple[object, ...]:
    decided = (each.id, each.at, each.trigger, each.considered, each.started, each.preempted)
    gap = None if each.gap is None else f"{each.gap:.1%}"
    how = f"{each.method}, {each.fallback}" if each.fallback else each.method
    regions = f"{each.worst_region_before:g} > {each.worst_region_after:g}" if each.worst_region_before is not None else None
    slowest = sorted(each.milliseconds.items(), key=lambda step: -step[1])[:2]
    took = (round(sum(each.milliseconds.values()), 1), " ".join(f"{step} {milliseconds:.1f}" for step, milliseconds in slowest))
    return (*decided, each.started_accelerators, each.bound, gap, how, each.improved, each.moved, regions, *took)


def nodes(statuses: Sequence[NodeStatus]) -> Page:
    """One line for each node."""
    columns = (
        *(Column("NODE"), *_spare(SKU, Column("PROVIDER"), Column("REGION"), Column("CLUSTER")), Column("HEALTH")),
        *(*_numbers("ACCELERATORS", "USED"), *_spare(Column("CAPACITY"), *_numbers("PRICE", "STOPS/H", "MOST REPLICAS"))),
        *(Column("UNTIL"), *_spare(_text("KEPT FOR"), _text("LABELS")), _text("REASON")),
    )
    return (table(columns, map(_node, statuses)),)


def _node(node: NodeStatus) -> tuple[object, ...]:
    place = (node.id, node.sku, node.provider, node.region, node.cluster, node.health)
    labels = " ".join(f"{name}={value}" for name, value in node.labels.items())
    stops = node.interruptions_per_hour
    has = (node.accelerators, node.used, node.capacity_type, node.price, stops, node.maximum_replicas)
    return (*place, *has, node.available_until, ", ".join(node.kept_for) or None, labels, node.reason)


def clusters(statuses: Sequence[ClusterStatus]) -> Page:
    """One line for each cluster."""
    columns = (
        *(Column("CLUSTER"), STATE, *_spare(Column("SINCE"), Column("HEARD"))),
        *(Column("LEASED UNTIL"), Column("LOST AT"), *_numbers("NODES")),
        *(
            *_spare(*_numbers("ACCELERATORS")),
            *_numbers("WORKLOADS"),
            *_spare(*_numbers("UNRELEASED", "LOSSES")),
            _text("REASON"),
        ),
    )
    return (table(columns, map(_cluster, statuses)),)


def _cluster(cluster: ClusterStatus) -> tuple[object, ...]:
    times = (cluster.since, cluster.heard_at, cluster.leased_until, cluster.lost_at)
    numbers = (cluster.nodes, cluster.accelerators, cluster.workloads, cluster.unreleased, cluster.losses)
    return (cluster.id, cluster.state, *times, *numbers, cluster.reason)


def operations(statuses: Sequence[OperationStatus]) -> Page:
    """One line for each operation."""
    columns = (ID, Column("KIND"), Column("SUBJECT"), STATE, Column("DUE"), Column("BY"), _text("REASON"))
    return (table((*columns, _text("PROGRESS")), map(_operation, statuses)),)


def _operation(status: OperationStatus) -> tuple[object, ...]:
    due = None if status.ended_at else status.due_at
    return (status.id, status.kind, status.subject, status.state, due, status.who, status.reason, status.message or None)


def operation(status: OperationStatus) -> Page:
    """How one operation stands, and its trail."""
    rows = ((note.at, note.state, note.who or None, note.reason or None) for note in status.trail)
    return (*operations([status]), table((Column("AT"), STATE, Column("BY"), _text("REASON")), rows))


def what_if(found: WhatIf) -> Page:
    """One line for each workload or queue that a change would concern, and what it takes to apply it."""
    columns = (Column("EFFECT"), ID, Column("QUEUE"), *_spare(Column("TIER")), *_numbers("ACCELERATORS"), _text("WHY"))
    said = {"In all": found.in_words, "Approval": found.needs or "not needed", "Token": found.token}
    return (*((table(columns, map(_effect, found.effects)),) if found.effects else ()), card(said))


def _effect(effect: Effect) -> tuple[object, ...]:
    who = (effect.workload or None, effect.queue, effect.tier)
    return (effect.kind, *who, effect.accelerators, effect.message)


def schedules(statuses: Sequence[ScheduleStatus]) -> Page:
    """One line for each schedule."""
    columns = (
        ID,
        Column("WHAT"),
        Column("CRON"),
        Column("ZONE"),
        Column("NEXT"),
        *_numbers("ORDERED", "LEFT OUT", "MISSED"),
        Column("UNTIL"),
        Column("MANDATE"),
        Column("BY"),
        _text("REASON"),
    )
    rows = (
        (
            *(s.id, s.subject, s.cron, s.time_zone, s.next_at, s.ordered, s.left_out, s.missed),
            *(s.until, s.mandate, s.who, s.reason),
        )
        for s in statuses
    )
    return (table(columns, rows),)


def mandates(statuses: Sequence[MandateStatus]) -> Page:
    """One line for each mandate."""
    columns = (
        *(ID, Column("SCHEDULE"), Column("WHAT"), Column("SIGNED BY"), Column("AT")),
        *(Column("UNTIL"), Column("LAST FOR"), Column("REVOKED")),
        *(Column("BY"), _text("BECAUSE")),
    )
    rows = (
        (
            *(m.id, m.schedule, m.subject, m.principal, m.signed_at, m.until),
            *(m.last_due_at, m.revoked_at, m.revoked_by, m.revoked_because),
        )
        for m in statuses
    )
    return (table(columns, rows),)


def forecast(forecast: EvacuationForecast) -> Page:
    """One line for each workload that would have to leave, in the order in which they would."""
    columns = (
        *(ID, Column("QUEUE"), Column("TIER"), *_numbers("ACCELERATORS"), Column("TO"), *_numbers("STOPS")),
        *(Column("WAITS FOR"), _text("BECAUSE")),
    )
    return (table(columns, map(_move, forecast.moves)),)


def _move(move: EvacuationMove) -> tuple[object, ...]:
    who = (move.workload, move.queue, move.tier, move.accelerators)
    return (*who, move.to or None, move.stops or None, move.reason, move.message or None)


def submissions(submitted: Sequence[Submission]) -> Page:
    """One line for each workload that was handed over."""
    rows = ((each.id, "now" if each.created else "before, with the same spec") for each in submitted)
    return (table((ID, Column("SUBMITTED")), rows),)


def results(ended: Sequence[WorkloadResult]) -> Page:
    """One line for each workload that ended."""
    rows = ((result.id, result.state, result.exit_code, result.message) for result in ended)
    return (table((ID, STATE, *_numbers("EXIT"), _text("MESSAGE")), rows),)


def result(ended: WorkloadResult) -> Page:
    """How one workload ended."""
    return results([ended])


def acknowledgement(answer: Acknowledgement) -> Page:
    """What was done, and the state after it."""
    return (card({"Done": answer.message or None, "State": answer.state}),)


def moments(history: Sequence[Moment]) -> Page:
    """One line for each change of state that a workflow remembers."""
    rows = [(moment.at, moment.state, moment.message) for moment in history]
    return (table((Column("AT"), STATE, _text("MESSAGE")), rows),)


def wake_up(next_one: WakeUp | None) -> Page:
    """When a workflow does something by itself."""
    if next_one is None:
        return (card({"Next": "nothing by itself: it waits to be told"}),)
    return (card({"Next": next_one.at, "Why": next_one.why}),)


def orders(given: Sequence[OrderRecord]) -> Page:
    """One line for each order."""
    columns = (
        *(Column("AT"), Column("PRINCIPAL"), Column("COMMAND"), Column("SUBJECT"), Column("REQUEST")),
        *(Column("MANDATE"), Column("DUE")),
    )
    rows = ((o.at, o.principal, o.command, o.subject, o.request, o.mandate, o.due_at) for o in given)
    return (table(columns, rows),)


def facts(values: Mapping[str, str]) -> Page:
    """Names and values."""
    return (card(values),)


def _numbers(*titles: str) -> tuple[Column, ...]:
    return tuple(Column(title, is_right=True) for title in titles)


def _text(title: str) -> Column:
    return Column(title, is_text=True)


def _spare(*columns: Column) -> tuple[Column, ...]:
    return tuple(replace(column, is_spare=True) for column in columns)
