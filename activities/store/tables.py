"""The tables. Amounts of accelerators are thousandths, times are the pool's, prices millionths of a dollar."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Numeric,
    Table,
    Text,
    UniqueConstraint,
    false,
    select,
    text,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Instant = DateTime(timezone=True)
Names = ARRAY(Text)


def _changed() -> Column[int]:
    """The transaction that changed the row last, written by a trigger: see `activities.store.changes`."""
    return Column("changed", BigInteger, nullable=False, server_default="0", index=True)


pools = Table(
    "pools",
    metadata,
    Column("name", Text, primary_key=True),
    # Rises with whatever could let waiting work start; a planner remembers up to which one it has considered everybody.
    Column("changes", BigInteger, nullable=False, server_default="0"),
    # Rises, by triggers, when queues, quotas, policies, data or providers are edited: what is remembered is then read again.
    Column("edits", BigInteger, nullable=False, server_default="0"),
    # Rises, by triggers, when nodes or live workloads are deleted, which nothing here does: nobody then trusts their memory.
    Column("removals", BigInteger, nullable=False, server_default="0"),
)

providers = Table(
    "providers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("registered_at", Instant, nullable=False),
    Column("seen_at", Instant),
)

clusters = Table(
    "clusters",
    metadata,
    # PROVIDER/REGION/CLUSTER.
    Column("id", Text, primary_key=True),
    Column("provider", ForeignKey("providers.name"), nullable=False),
    Column("region", Text, nullable=False),
    Column("name", Text, nullable=False),
    # Whether it answers (`domain.pool.leases.Reach`), since when, and why it is believed.
    Column("reach", Text, nullable=False, server_default="reachable"),
    Column("since", Instant, nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    # When it was last asked something that it answered.
    Column("heard_at", Instant),
    # The latest end of any lease that was ever sent there, and from when on nothing runs there by it.
    Column("until", Instant),
    Column("fenced_at", Instant),
    Column("losses", Integer, nullable=False, server_default="0"),
    # The last `ClusterNote`s, oldest first.
    Column("trail", JSONB, nullable=False, server_default=text("'[]'")),
    UniqueConstraint("provider", "region", "name"),
    CheckConstraint("reach IN ('reachable', 'suspect', 'lost', 'returned')", name="known_reach"),
    CheckConstraint(
        "reach IN ('reachable', 'suspect') OR coalesce(fenced_at <= since, false)", name="lost_when_nothing_runs_there"
    ),
    CheckConstraint("until <= fenced_at", name="fenced_after_its_lease"),
)

nodes = Table(
    "nodes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("provider", ForeignKey("providers.name"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("cluster", Text, nullable=False),
    Column("sku", Text, nullable=False),
    Column("topology", JSONB, nullable=False),
    Column("accelerators", Integer, nullable=False),
    Column("cpu_milli", BigInteger, nullable=False),
    Column("memory_mib", BigInteger, nullable=False),
    Column("capacity_type", Text, nullable=False),
    Column("price", BigInteger, nullable=False),
    # In a million hours; none: as the policy says of the capacity type.
    Column("interruptions", BigInteger),
    # When its block ends; none where it has no end.
    Column("available_until", Instant),
    Column("taints", ARRAY(Text), nullable=False),
    Column("labels", JSONB, nullable=False),
    Column("maximum_replicas", Integer),
    Column("ready", Boolean, nullable=False),
    Column("cordon", Text),
    Column("cordon_reason", Text),
    # The evacuation that cordoned it, as long as nobody has ordered anything else for the node.
    Column("cordoned_by", Text),
    # The node pool and the order by which it was added, and when it was given back: from then on it counts nowhere.
    Column("node_pool", Text),
    Column("provisioning", Text),
    Column("given_back_at", Instant),
    # Why nothing new goes there though it reports that it is ready: work on it does not stop.
    Column("suspect", Text),
    # What its cluster is, unless that is reachable.
    Column("reach", Text),
    # Kept by a trigger on allocations, so that the checks below refuse oversubscription whoever writes.
    Column("device_use", ARRAY(Integer), nullable=False),
    Column("cpu_use", BigInteger, nullable=False, server_default="0"),
    Column("memory_use", BigInteger, nullable=False, server_default="0"),
    Column("replica_use", Integer, nullable=False, server_default="0"),
    _changed(),
    UniqueConstraint("provider", "name"),
    CheckConstraint("cardinality(device_use) = accelerators", name="one_use_per_device"),
    CheckConstraint("0 <= ALL (device_use) AND 1000 >= ALL (device_use)", name="devices_not_oversubscribed"),
    CheckConstraint("cpu_use BETWEEN 0 AND cpu_milli", name="cpu_not_oversubscribed"),
    CheckConstraint("memory_use BETWEEN 0 AND memory_mib", name="memory_not_oversubscribed"),
    CheckConstraint("replica_use BETWEEN 0 AND coalesce(maximum_replicas, replica_use)", name="replicas_not_oversubscribed"),
    CheckConstraint("cordon IN ('cordoned', 'draining')", name="known_cordon"),
    CheckConstraint("reach IN ('suspect', 'lost', 'returned')", name="known_reach"),
    Index("ix_nodes_provisioning", "provisioning", postgresql_where=text("provisioning IS NOT NULL")),
)

node_pools = Table(
    "node_pools",
    metadata,
    # `provider/name`.
    Column("id", Text, primary_key=True),
    Column("provider", ForeignKey("providers.name"), nullable=False),
    Column("name", Text, nullable=False),
    # The `NodeView` of one of its nodes.
    Column("node", JSONB, nullable=False),
    # How many there may be at once, as the provider says.
    Column("most", Integer, nullable=False),
    Column("lead_seconds", Integer, nullable=False),
    # What the last plan found, and the `Course` to which it has come.
    Column("needed", Integer, nullable=False, server_default="0"),
    Column("course", JSONB),
    Column("why", Text, nullable=False, server_default=""),
)

provisionings = Table(
    "provisionings",
    metadata,
    # Its provider knows it by the same id.
    Column("id", Text, primary_key=True),
    Column("node_pool", ForeignKey("node_pools.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("nodes", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    # Nodes that had come when it ended.
    Column("arrived", Integer, nullable=False, server_default="0"),
    Column("ordered_at", Instant, nullable=False),
    # When its provider took it.
    Column("told_at", Instant),
    Column("ended_at", Instant),
    # When it was certain that nothing more comes of it.
    Column("settled_at", Instant),
    UniqueConstraint("node_pool", "number"),
    CheckConstraint("state IN ('coming', 'arrived', 'failed', 'given-up')", name="known_state"),
    CheckConstraint("(ended_at IS NULL) = (state = 'coming')", name="over_when_it_has_ended"),
    CheckConstraint("nodes > 0", name="some_nodes"),
    Index("ix_provisionings_unsettled", "node_pool", postgresql_where=text("settled_at IS NULL")),
)

queues = Table(
    "queues",
    metadata,
    Column("name", Text, primary_key=True),
    Column("parent", ForeignKey("queues.name", deferrable=True, initially="DEFERRED")),
    Column("weight", Integer, nullable=False),
    Column("stop", Text, nullable=False),
    Column("minimum_runtime_seconds", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    # Whatever else a `QueueSpec` says, as far as it is not the default.
    Column("terms", JSONB, nullable=False),
    # Written by every plan that takes quota, so that two plans for one tree cannot both commit on the same snapshot.
    Column("plans", BigInteger, nullable=False, server_default="0"),
    CheckConstraint("parent <> name", name="not_its_own_parent"),
)

quotas = Table(
    "quotas",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("queue", ForeignKey("queues.name"), nullable=False, index=True),
    Column("sku", Text, nullable=False),
    Column("nominal", BigInteger, nullable=False),
    Column("floor", BigInteger, nullable=False),
    Column("cap", BigInteger),
    Column("borrowing_limit", BigInteger),
    Column("lending_limit", BigInteger),
    Column("valid_from", Instant),
    Column("valid_until", Instant),
    # Whatever else a `QuotaSpec` says, as far as it is not the default.
    Column("terms", JSONB, nullable=False),
    CheckConstraint("0 <= floor AND floor <= nominal AND nominal <= coalesce(cap, nominal)", name="ordered"),
    CheckConstraint("valid_from < valid_until", name="some_validity"),
)

workloads = Table(
    "workloads",
    metadata,
    Column("id", Text, primary_key=True),
    Column("spec", JSONB, nullable=False),
    Column("digest", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("tier", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("epoch", Integer, nullable=False, server_default="0"),
    # Rises with every change of the row or of its attempt: what is told about a workload is ordered by it.
    Column("version", BigInteger, nullable=False, server_default="1"),
    Column("submitted_at", Instant, nullable=False),
    Column("since", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("preemptions", Integer, nullable=False, server_default="0"),
    Column("tasks_done", Integer, nullable=False, server_default="0"),
    Column("runtime_used_seconds", BigInteger, nullable=False, server_default="0"),
    Column("not_before", Instant),
    # The nominal quota of its queue does not cover it: what it does now is entitled to nothing.
    Column("over_quota", Boolean, nullable=False, server_default=text("false")),
    Column("outcome", Text),
    Column("exit_code", Integer),
    Column("explanation", JSONB),
    # What an endpoint wants, and what was recommended of late.
    Column("scaling", JSONB),
    # The trace in which it was submitted, if that is kept (W3C traceparent).
    Column("trace", Text),
    _changed(),
    Index("ix_workloads_live", "state", postgresql_where=text("ended_at IS NULL")),
    Index("ix_workloads_submitted_at", text("submitted_at DESC")),
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("workload_id", ForeignKey("workloads.id"), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("provider", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("cluster", Text, nullable=False),
    # The first group's; a gang whose groups name others has its amounts in `by_sku`, thousandths by SKU.
    Column("sku", Text, nullable=False),
    Column("by_sku", JSONB, nullable=False),
    # Nanodollars an hour, by SKU.
    Column("cost_by_sku", JSONB, nullable=False),
    Column("target", Integer),
    Column("milli", BigInteger, nullable=False),
    Column("replicas", Integer, nullable=False),
    Column("held_at", Instant, nullable=False),
    Column("bound_at", Instant),
    Column("started_at", Instant),
    Column("checkpoint_at", Instant),
    Column("stop_at", Instant),
    Column("stop_as", Text),
    # How many notices to leave it has had: the number of the last one, in force while there is an order to stop.
    Column("notice", Integer, nullable=False, server_default="0"),
    # When its provider is known to have taken the last one back.
    Column("kept_at", Instant),
    # How far it has come on its way out (`domain.pool.lifecycle.Leave`), and since when.
    Column("leave", Text),
    Column("leave_at", Instant),
    Column("beneficiary", Text),
    # The attempt of the same workload that must have ended before this one counts; none from then on.
    Column("follows", Text),
    Column("ended_at", Instant),
    Column("outcome", Text),
    Column("exit_code", Integer),
    Column("reason", Text),
    Column("lost_milli_seconds", BigInteger, nullable=False, server_default="0"),
    _changed(),
    UniqueConstraint("workload_id", "epoch"),
    CheckConstraint("(stop_at IS NULL) = (leave IS NULL) AND (leave IS NULL) = (leave_at IS NULL)", name="leaves_by_steps"),
    CheckConstraint("follows IS NULL OR bound_at IS NULL AND ended_at IS NULL", name="a_follower_has_not_begun"),
    Index("uq_attempts_one_open", "workload_id", unique=True, postgresql_where=text("ended_at IS NULL AND follows IS NULL")),
    Index("uq_attempts_one_follower", "workload_id", unique=True, postgresql_where=text("follows IS NOT NULL")),
    Index("ix_attempts_beneficiary", "beneficiary", postgresql_where=text("beneficiary IS NOT NULL")),
    Index("ix_attempts_stop_at", "stop_at", postgresql_where=text("beneficiary IS NOT NULL")),
    Index("ix_attempts_moved_at", "stop_at", postgresql_where=text("stop_as = 'migrated'")),
    Index("ix_attempts_resized_at", "stop_at", postgresql_where=text("stop_as = 'resized'")),
    Index("ix_attempts_leaving", "leave_at", postgresql_where=text("ended_at IS NULL AND leave IS NOT NULL")),
    Index("ix_attempts_open", "provider", postgresql_where=text("ended_at IS NULL")),
)

# Attempts that were lost with a cluster, and the clusters in which they may still be known: one that was lost and returns is
# given nothing new before they are released there.
unreleased = Table(
    "unreleased",
    metadata,
    Column("attempt_id", ForeignKey("attempts.id"), primary_key=True),
    Column("cluster_id", ForeignKey("clusters.id"), primary_key=True, index=True),
)

holds = Table(
    "holds",
    metadata,
    Column("attempt_id", ForeignKey("attempts.id"), primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Index("ix_holds_in_force", "expires_at", postgresql_where=text("ended_at IS NULL")),
)

allocations = Table(
    "allocations",
    metadata,
    Column("attempt_id", ForeignKey("attempts.id"), primary_key=True),
    Column("node_id", ForeignKey("nodes.id"), primary_key=True),
    Column("sku", Text, nullable=False),
    # A promise becomes a claim in the transaction that frees what it waits for; a claim counts on the node.
    Column("phase", Text, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("uses", ARRAY(Integer), nullable=False),
    Column("cpu_milli", BigInteger, nullable=False),
    Column("memory_mib", BigInteger, nullable=False),
    Column("replicas", JSONB, nullable=False),
    CheckConstraint("phase IN ('promised', 'claimed', 'released')", name="known_phase"),
    CheckConstraint("0 <= ALL (uses)", name="nothing_negative"),
    Index("ix_allocations_in_force", "node_id", postgresql_where=text("phase <> 'released'")),
)

# What those replicas still have that an attempt is not to have any more, by the notice for another size by which they were to
# leave. It counts on the node, by a trigger; a row goes when they are seen gone, at the latest with the attempt.
remnants = Table(
    "remnants",
    metadata,
    Column("attempt_id", ForeignKey("attempts.id"), primary_key=True),
    Column("notice", Integer, primary_key=True),
    Column("node_id", ForeignKey("nodes.id"), primary_key=True, index=True),
    Column("uses", ARRAY(Integer), nullable=False),
    Column("cpu_milli", BigInteger, nullable=False),
    Column("memory_mib", BigInteger, nullable=False),
    Column("replicas", JSONB, nullable=False),
    Column("since", Instant, nullable=False),
)

rooms = union_all(
    select(allocations.c.attempt_id, allocations.c.node_id, false().label("is_remnant")).where(
        allocations.c.phase != "released"
    ),
    select(remnants.c.attempt_id, remnants.c.node_id, true().label("is_remnant")),
).subquery("rooms")
"""Which attempts have something on which nodes, or are promised some."""

reservations = Table(
    "reservations",
    metadata,
    Column("id", Text, primary_key=True),
    Column("spec", JSONB, nullable=False),
    Column("digest", Text, nullable=False),
    Column("state", Text, nullable=False),
    # The present or next window, or the last one; how many there have been, this one counted.
    Column("windows", Integer, nullable=False),
    Column("earliest", Instant, nullable=False),
    Column("latest", Instant, nullable=False),
    Column("opens_at", Instant, nullable=False),
    Column("closes_at", Instant, nullable=False),
    # What rounds have chosen: nodes (ids), and the thousandths of an accelerator that are short.
    Column("nodes", Names, nullable=False),
    Column("missing", BigInteger, nullable=False),
    Column("kind", Text),
    Column("cause", Text, nullable=False),
    # What others have of it in the open window, since when, and what that came to before.
    Column("lent", BigInteger, nullable=False),
    Column("lent_since", Instant),
    Column("lent_milli_seconds", BigInteger, nullable=False),
    Column("booked_at", Instant, nullable=False),
    Column("ended_at", Instant),
    CheckConstraint("opens_at < closes_at", name="some_window"),
    CheckConstraint("(ended_at IS NULL) = (state IN ('planned', 'open'))", name="ends_once"),
    CheckConstraint("(lent_since IS NOT NULL) = (lent > 0)", name="lent_since_some_time"),
    Index("ix_reservations_live", "id", postgresql_where=text("ended_at IS NULL")),
)

misses = Table(
    "misses",
    metadata,
    # Windows that lacked capacity at their opening, or later for too long.
    Column("reservation_id", ForeignKey("reservations.id"), primary_key=True),
    Column("opens_at", Instant, primary_key=True),
    Column("at", Instant, nullable=False),
    Column("missing", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("made_good_at", Instant),
)

calendars = Table(
    "calendars",
    metadata,
    # When time alone will give a round something to do for reservations and ends of blocks; none: no round knows of any.
    Column("pool", Text, primary_key=True),
    Column("look_at", Instant),
)

rounds = Table(
    "rounds",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("pool", Text, nullable=False),
    Column("at", Instant, nullable=False),
    Column("trigger", Text, nullable=False),
    Column("considered", Integer, nullable=False),
    Column("started", Integer, nullable=False),
    Column("preempted", Integer, nullable=False),
    Column("refused", Integer, nullable=False),
    Column("reshaped", Integer, nullable=False, server_default="0"),
    Column("stopped", Integer, nullable=False, server_default="0"),
    Column("policy", Text, nullable=False),
    Column("milliseconds", JSONB, nullable=False),
    # How good the plan is (`domain.decision.Quality` with its gap); none for rounds before it was measured.
    Column("quality", JSONB(none_as_null=True)),
    _changed(),
)

decisions = Table(
    "decisions",
    metadata,
    Column("round_id", ForeignKey("rounds.id"), primary_key=True),
    Column("workload_id", ForeignKey("workloads.id"), primary_key=True, index=True),
    Column("outcome", Text, nullable=False),
    Column("reason", Text),
    Column("detail", JSONB, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("workload_id", ForeignKey("workloads.id"), nullable=False, index=True),
    Column("at", Instant, nullable=False),
    Column("wall", Instant, nullable=False, server_default=text("clock_timestamp()")),
    Column("kind", Text, nullable=False),
    Column("message", Text, nullable=False),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("workload_id", ForeignKey("workloads.id"), nullable=False),
    Column("notice", JSONB, nullable=False),
    # The span of the round that decided so, of workloads that have a trace (W3C traceparent).
    Column("round", Text),
    Column("written", Instant, nullable=False, server_default=text("clock_timestamp()")),
    Column("delivered", Instant),
    Index("ix_outbox_undelivered", "id", postgresql_where=text("delivered IS NULL")),
)

operations = Table(
    "operations",
    metadata,
    Column("key", Text, primary_key=True),
    Column("result", JSONB, nullable=False),
    Column("written", Instant, nullable=False, server_default=text("clock_timestamp()")),
    # The workload and the kind of its change, of which the newest are kept; none where there are few.
    Column("about", Text),
    Index("ix_operations_about", "about", "written", postgresql_where=text("about IS NOT NULL")),
)

signed_orders = Table(
    "signed_orders",
    metadata,
    # Who ordered what, by a signature that was verified; by the clock of the wall.
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("at", Instant, nullable=False, server_default=text("clock_timestamp()")),
    Column("principal", Text, nullable=False),
    Column("command", Text, nullable=False),
    # The id of the workflow that it was given to, or the pool.
    Column("subject", Text, nullable=False),
    Column("request", Text, nullable=False),
    # The run in which it came first: one that comes again in another is a repetition by somebody else.
    Column("run", Text, nullable=False),
    # By which mandate, and the time of its schedule; none where it was signed by itself.
    Column("mandate", Text),
    Column("due_at", Instant),
    UniqueConstraint("subject", "command", "request", "principal"),
    Index("ix_signed_orders_mandate", "mandate", postgresql_where=text("mandate IS NOT NULL")),
)

mandates = Table(
    "mandates",
    metadata,
    # What was signed for a schedule to order; its id is of its terms, its times are by the clock of the wall.
    Column("id", Text, primary_key=True),
    Column("pool", Text, nullable=False),
    Column("schedule", Text, nullable=False, index=True),
    Column("terms", JSONB, nullable=False),
    Column("signed_at", Instant, nullable=False),
    Column("until", Instant, nullable=False),
    Column("revoked_at", Instant),
    Column("revoked_by", Text, nullable=False, server_default=""),
    Column("revoked_because", Text, nullable=False, server_default=""),
)

ledger = Table(
    "ledger",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("workload_id", ForeignKey("workloads.id"), nullable=False, index=True),
    Column("attempt_id", Text),
    Column("queue", Text, nullable=False),
    Column("tier", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("entitled_milli", BigInteger, nullable=False),
    Column("allocated_milli", BigInteger, nullable=False),
    # The same by SKU.
    Column("allocated_by_sku", JSONB, nullable=False),
    Column("cost_by_sku", JSONB, nullable=False),
    Column("began_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("lost_milli_seconds", BigInteger, nullable=False, server_default="0"),
    CheckConstraint("began_at <= ended_at", name="forward_in_time"),
    Index("ix_ledger_ended_at", "ended_at"),
    Index("uq_ledger_one_open", "workload_id", unique=True, postgresql_where=text("ended_at IS NULL")),
)

flows = Table(
    "flows",
    metadata,
    # The ledger summed up by the hour (since 1970), by a trigger on it: see `domain.quota.flows`.
    Column("queue", Text, primary_key=True),
    Column("sku", Text, primary_key=True),
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("milli", BigInteger, nullable=False),
    Column("milli_moment", Numeric(40, 0), nullable=False),
    Column("cost", Numeric(40, 0), nullable=False),
    Column("cost_moment", Numeric(40, 0), nullable=False),
    # The transaction that changed the row last, so that a reader need not read again what it knows.
    Column("changed", BigInteger, nullable=False, index=True),
)

penalties = Table(
    "penalties",
    metadata,
    # What an attempt is charged when it is held, and below zero what settles that.
    Column("workload_id", ForeignKey("workloads.id"), primary_key=True),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("sku", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("queue", Text, nullable=False),
    # Thousandths of an accelerator times seconds.
    Column("milli_seconds", BigInteger, nullable=False),
    _changed(),
    CheckConstraint("kind = 'charge' AND milli_seconds > 0 OR kind = 'settlement' AND milli_seconds < 0", name="known_kind"),
)

orders = Table(
    "orders",
    metadata,
    # What operators ordered that takes its time: evacuations and roll-outs (`corral.api.OperationKind`).
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    # The order itself.
    Column("terms", JSONB, nullable=False),
    Column("state", Text, nullable=False),
    Column("version", BigInteger, nullable=False, server_default="1"),
    Column("began_at", Instant, nullable=False),
    # Until when it has to be approved, or has time, or is watched.
    Column("due_at", Instant),
    Column("ended_at", Instant),
    # What only its kind knows.
    Column("progress", JSONB, nullable=False),
    # Who ordered what, when and why: `OperationNote`s, oldest first.
    Column("trail", JSONB, nullable=False),
    CheckConstraint("kind IN ('evacuation', 'policy-roll-out', 'queue-edit')", name="known_kind"),
    CheckConstraint(
        "(ended_at IS NULL) = (state IN ('awaiting-approval', 'moving', 'paused', 'watching'))", name="over_when_it_has_ended"
    ),
    Index("ix_orders_open", "began_at", postgresql_where=text("ended_at IS NULL")),
)

bygones = Table(
    "bygones",
    metadata,
    # What rows that are forgotten have added to figures (`activities.store.figures`), by the labels of those.
    Column("pool", Text, primary_key=True),
    Column("figure", Text, primary_key=True),
    Column("labels", Names, primary_key=True),
    Column("amount", Double, nullable=False),
)

what_ifs = Table(
    "what_ifs",
    metadata,
    # What tokens stand for, as long as they are good for something.
    Column("token", Text, primary_key=True),
    Column("at", Instant, nullable=False),
    # The `Change` by its digest, the `Surroundings`, and who would be worse off.
    Column("change", Text, nullable=False),
    Column("surroundings", JSONB, nullable=False),
    Column("hurt", Names, nullable=False),
    Index("ix_what_ifs_at", "at"),
)

datasets = Table(
    "datasets",
    metadata,
    Column("name", Text, primary_key=True),
    Column("size_gib", Double, nullable=False),
    # Those that have a whole replica.
    Column("regions", ARRAY(Text), nullable=False),
    CheckConstraint("size_gib > 0", name="some_size"),
)

policies = Table(
    "policies",
    metadata,
    Column("version", BigInteger, Identity(), primary_key=True),
    Column("pool", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("document", JSONB, nullable=False),
    Column("applied_at", Instant, nullable=False),
    Column("who", Text, nullable=False, server_default=""),
    Column("why", Text, nullable=False, server_default=""),
    Index("ix_policies_newest", "pool", "version"),
)

compatibility = Table(
    "compatibility",
    metadata,
    # What this says: `oldest-worker`, the oldest version of the record whose workers can use it as it is.
    Column("what", Text, primary_key=True),
    Column("version", Text, nullable=False),
)
