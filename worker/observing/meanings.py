"""What each metric means. Those of the pool are the same at every worker; those of a worker are its own, to be summed up."""

from typing import NamedTuple


class Meaning(NamedTuple):
    """What a metric says, and by which labels."""

    words: str
    labels: tuple[str, ...] = ()


CLUSTER = ("provider", "region", "cluster")
PLACE = ("provider", "region", "cluster", "sku")

POOL_GAUGES = {
    "workloads": Meaning("workloads that have not ended", ("queue", "tier", "state")),
    "waiting_workloads": Meaning("workloads that wait, by the reason they are told", ("tier", "reason")),
    "longest_wait_seconds": Meaning("how long ago the oldest workload that waits was submitted", ("tier",)),
    "accelerators": Meaning("accelerators as last observed", (*PLACE, "health")),
    "used_accelerators": Meaning("accelerators that are claimed, whether or not they run already", PLACE),
    "held_accelerators": Meaning("accelerators that are held or promised for work to come", ("purpose",)),
    "cluster_view_age_seconds": Meaning("how long ago all of the cluster was reported", ("provider", "cluster")),
    "clusters": Meaning("1 for what each cluster is: reachable, suspect, lost or returned", (*CLUSTER, "state")),
    "cluster_silence_seconds": Meaning("how long ago the cluster was asked something that it answered", CLUSTER),
    "unreleased_attempts": Meaning("what a lost cluster ran and has not been released there yet", CLUSTER),
    "provisioned_nodes": Meaning("nodes that were added by orders, or are on their way", ("node_pool", "state")),
    "wanted_nodes": Meaning("nodes that work has needed for long enough", ("node_pool",)),
    "provisioned_dollars_per_hour": Meaning("what nodes cost that were added by orders", ("node_pool",)),
    "spend_rate_dollars_per_hour": Meaning("what is paid for the places that work has now", ("queue",)),
    "sla_attainment_ratio": Meaning("GPU fraction of the last hour: useful over entitled accelerator-seconds", ("tier",)),
    "round_optimality_gap": Meaning("part of its bound that the last measured round did not start"),
    "outbox_undelivered": Meaning("notices that workflows have not been told yet"),
    "outbox_lag_seconds": Meaning("age of the oldest notice that was not told yet, in seconds of the wall"),
    "queue_nominal_accelerators": Meaning("quota that the queue or cohort owns", ("queue", "sku")),
    "queue_cap_accelerators": Meaning("what the queue or cohort never exceeds, where it has a cap", ("queue", "sku")),
    "queue_used_accelerators": Meaning("what the queue or cohort has", ("queue", "sku")),
    "queue_borrowed_accelerators": Meaning("what the queue or cohort has beyond its quota", ("queue", "sku")),
}
"""By the name of the figure in the record (`activities.store.figures`)."""

POOL_COUNTERS = {
    "attempts_ended": Meaning("attempts that have ended", ("provider", "tier", "outcome")),
    "preemptions": Meaning("attempts that were made to leave for other work or for operators", ("tier", "cause")),
    "lost_accelerator_seconds": Meaning("work since the last checkpoint that forced stops lost", ("tier", "cause")),
    "cluster_losses": Meaning("how often the cluster was lost", CLUSTER),
    "reservation_misses": Meaning("windows of reservations that lacked capacity", ("cause",)),
    "reservation_lent_accelerator_seconds": Meaning("what others used of open windows until it was wanted"),
    "provider_stockouts": Meaning("attempts that their provider had no room for", ("provider",)),
    "rounds": Meaning("rounds that changed something", ("trigger",)),
    "round_decisions": Meaning("what rounds decided, in workloads", ("decision",)),
    "round_fallbacks": Meaning("rounds that did not look for a better plan to the end", ("fallback",)),
}
"""Likewise; what was counted before the workers were started is counted as well."""

WAITS = Meaning("how long workloads waited from their submission to their first place", ("tier",))

WORKER = {
    "round_duration_seconds": Meaning("how long rounds took, from their turn to their commit", ("trigger",)),
    "round_step_seconds": Meaning("how long the steps of rounds took", ("step",)),
    "round_conflicts": Meaning("rounds that were decided again because the world had changed", ("trigger",)),
    "demand_misses": Meaning("demand of endpoints that was asked for in vain", ("cause",)),
    "record_up": Meaning("whether the record answered, so that the metrics of the pool are here"),
}
"""Of the worker that is asked."""
