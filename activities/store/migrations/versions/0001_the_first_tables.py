"""The first tables."""

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

revision = '0001'
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('operations',
    sa.Column('key', sa.Text(), nullable=False),
    sa.Column('result', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('written', sa.DateTime(timezone=True), server_default=sa.text('clock_timestamp()'), nullable=False),
    sa.PrimaryKeyConstraint('key', name=op.f('pk_operations'))
    )
    op.create_table('policies',
    sa.Column('version', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('pool', sa.Text(), nullable=False),
    sa.Column('digest', sa.Text(), nullable=False),
    sa.Column('document', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('applied_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('version', name=op.f('pk_policies'))
    )
    op.create_table('pools',
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('changes', sa.BigInteger(), server_default='0', nullable=False),
    sa.Column('edits', sa.BigInteger(), server_default='0', nullable=False),
    sa.PrimaryKeyConstraint('name', name=op.f('pk_pools'))
    )
    op.create_table('providers',
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('registered_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('seen_at', sa.DateTime(timezone=True), nullable=True),
    sa.PrimaryKeyConstraint('name', name=op.f('pk_providers'))
    )
    op.create_table('queues',
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('parent', sa.Text(), nullable=True),
    sa.Column('weight', sa.Integer(), nullable=False),
    sa.Column('stop', sa.Text(), nullable=False),
    sa.Column('minimum_runtime_seconds', sa.Integer(), nullable=False),
    sa.Column('plans', sa.BigInteger(), server_default='0', nullable=False),
    sa.CheckConstraint('parent <> name', name=op.f('ck_queues_not_its_own_parent')),
    sa.ForeignKeyConstraint(['parent'], ['queues.name'], name=op.f('fk_queues_parent'), initially='DEFERRED', deferrable=True),
    sa.PrimaryKeyConstraint('name', name=op.f('pk_queues'))
    )
    op.create_table('rounds',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('pool', sa.Text(), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('trigger', sa.Text(), nullable=False),
    sa.Column('considered', sa.Integer(), nullable=False),
    sa.Column('started', sa.Integer(), nullable=False),
    sa.Column('preempted', sa.Integer(), nullable=False),
    sa.Column('refused', sa.Integer(), nullable=False),
    sa.Column('policy', sa.Text(), nullable=False),
    sa.Column('milliseconds', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_rounds'))
    )
    op.create_table('workloads',
    sa.Column('id', sa.Text(), nullable=False),
    sa.Column('spec', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('digest', sa.Text(), nullable=False),
    sa.Column('queue', sa.Text(), nullable=False),
    sa.Column('tier', sa.Text(), nullable=False),
    sa.Column('priority', sa.Integer(), nullable=False),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('epoch', sa.Integer(), server_default='0', nullable=False),
    sa.Column('version', sa.BigInteger(), server_default='1', nullable=False),
    sa.Column('submitted_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('since', sa.DateTime(timezone=True), nullable=False),
    sa.Column('ended_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('failures', sa.Integer(), server_default='0', nullable=False),
    sa.Column('preemptions', sa.Integer(), server_default='0', nullable=False),
    sa.Column('tasks_done', sa.Integer(), server_default='0', nullable=False),
    sa.Column('runtime_used_seconds', sa.BigInteger(), server_default='0', nullable=False),
    sa.Column('not_before', sa.DateTime(timezone=True), nullable=True),
    sa.Column('outcome', sa.Text(), nullable=True),
    sa.Column('exit_code', sa.Integer(), nullable=True),
    sa.Column('explanation', postgresql.JSONB(astext_type=sa.Text()), nullable=True),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_workloads'))
    )
    op.create_index('ix_workloads_live', 'workloads', ['state'], unique=False, postgresql_where=sa.text('ended_at IS NULL'))
    op.create_index('ix_workloads_submitted_at', 'workloads', [sa.literal_column('submitted_at DESC')], unique=False)
    op.create_table('attempts',
    sa.Column('id', sa.Text(), nullable=False),
    sa.Column('workload_id', sa.Text(), nullable=False),
    sa.Column('epoch', sa.Integer(), nullable=False),
    sa.Column('provider', sa.Text(), nullable=False),
    sa.Column('region', sa.Text(), nullable=False),
    sa.Column('cluster', sa.Text(), nullable=False),
    sa.Column('sku', sa.Text(), nullable=False),
    sa.Column('target', sa.Integer(), nullable=True),
    sa.Column('milli', sa.BigInteger(), nullable=False),
    sa.Column('replicas', sa.Integer(), nullable=False),
    sa.Column('held_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('bound_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('started_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('checkpoint_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('stop_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('stop_as', sa.Text(), nullable=True),
    sa.Column('beneficiary', sa.Text(), nullable=True),
    sa.Column('ended_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('outcome', sa.Text(), nullable=True),
    sa.Column('exit_code', sa.Integer(), nullable=True),
    sa.Column('reason', sa.Text(), nullable=True),
    sa.Column('lost_milli_seconds', sa.BigInteger(), server_default='0', nullable=False),
    sa.ForeignKeyConstraint(['workload_id'], ['workloads.id'], name=op.f('fk_attempts_workload_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_attempts')),
    sa.UniqueConstraint('workload_id', 'epoch', name=op.f('uq_attempts_workload_id_epoch'))
    )
    op.create_index('ix_attempts_open', 'attempts', ['provider'], unique=False, postgresql_where=sa.text('ended_at IS NULL'))
    op.create_index('uq_attempts_one_open', 'attempts', ['workload_id'], unique=True, postgresql_where=sa.text('ended_at IS NULL'))
    op.create_table('decisions',
    sa.Column('round_id', sa.BigInteger(), nullable=False),
    sa.Column('workload_id', sa.Text(), nullable=False),
    sa.Column('outcome', sa.Text(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=True),
    sa.Column('detail', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.ForeignKeyConstraint(['round_id'], ['rounds.id'], name=op.f('fk_decisions_round_id')),
    sa.ForeignKeyConstraint(['workload_id'], ['workloads.id'], name=op.f('fk_decisions_workload_id')),
    sa.PrimaryKeyConstraint('round_id', 'workload_id', name=op.f('pk_decisions'))
    )
    op.create_index(op.f('ix_decisions_workload_id'), 'decisions', ['workload_id'], unique=False)
    op.create_table('events',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('workload_id', sa.Text(), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('wall', sa.DateTime(timezone=True), server_default=sa.text('clock_timestamp()'), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('message', sa.Text(), nullable=False),
    sa.ForeignKeyConstraint(['workload_id'], ['workloads.id'], name=op.f('fk_events_workload_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_events'))
    )
    op.create_index(op.f('ix_events_workload_id'), 'events', ['workload_id'], unique=False)
    op.create_table('ledger',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('workload_id', sa.Text(), nullable=False),
    sa.Column('attempt_id', sa.Text(), nullable=True),
    sa.Column('queue', sa.Text(), nullable=False),
    sa.Column('tier', sa.Text(), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('sku', sa.Text(), nullable=True),
    sa.Column('entitled_milli', sa.BigInteger(), nullable=False),
    sa.Column('allocated_milli', sa.BigInteger(), nullable=False),
    sa.Column('began_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('ended_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('lost_milli_seconds', sa.BigInteger(), server_default='0', nullable=False),
    sa.CheckConstraint('began_at <= ended_at', name=op.f('ck_ledger_forward_in_time')),
    sa.ForeignKeyConstraint(['workload_id'], ['workloads.id'], name=op.f('fk_ledger_workload_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_ledger'))
    )
    op.create_index(op.f('ix_ledger_workload_id'), 'ledger', ['workload_id'], unique=False)
    op.create_index('uq_ledger_one_open', 'ledger', ['workload_id'], unique=True, postgresql_where=sa.text('ended_at IS NULL'))
    op.create_table('nodes',
    sa.Column('id', sa.Text(), nullable=False),
    sa.Column('provider', sa.Text(), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('region', sa.Text(), nullable=False),
    sa.Column('cluster', sa.Text(), nullable=False),
    sa.Column('sku', sa.Text(), nullable=False),
    sa.Column('topology', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('accelerators', sa.Integer(), nullable=False),
    sa.Column('cpu_milli', sa.BigInteger(), nullable=False),
    sa.Column('memory_mib', sa.BigInteger(), nullable=False),
    sa.Column('capacity_type', sa.Text(), nullable=False),
    sa.Column('price', sa.BigInteger(), nullable=False),
    sa.Column('taints', sa.ARRAY(sa.Text()), nullable=False),
    sa.Column('ready', sa.Boolean(), nullable=False),
    sa.Column('cordon', sa.Text(), nullable=True),
    sa.Column('cordon_reason', sa.Text(), nullable=True),
    sa.Column('device_use', sa.ARRAY(sa.Integer()), nullable=False),
    sa.Column('cpu_use', sa.BigInteger(), server_default='0', nullable=False),
    sa.Column('memory_use', sa.BigInteger(), server_default='0', nullable=False),
    sa.CheckConstraint("cordon IN ('cordoned', 'draining')", name=op.f('ck_nodes_known_cordon')),
    sa.CheckConstraint('0 <= ALL (device_use) AND 1000 >= ALL (device_use)', name=op.f('ck_nodes_devices_not_oversubscribed')),
    sa.CheckConstraint('cardinality(device_use) = accelerators', name=op.f('ck_nodes_one_use_per_device')),
    sa.CheckConstraint('cpu_use BETWEEN 0 AND cpu_milli', name=op.f('ck_nodes_cpu_not_oversubscribed')),
    sa.CheckConstraint('memory_use BETWEEN 0 AND memory_mib', name=op.f('ck_nodes_memory_not_oversubscribed')),
    sa.ForeignKeyConstraint(['provider'], ['providers.name'], name=op.f('fk_nodes_provider')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_nodes')),
    sa.UniqueConstraint('provider', 'name', name=op.f('uq_nodes_provider_name'))
    )
    op.create_index(op.f('ix_nodes_provider'), 'nodes', ['provider'], unique=False)
    op.create_table('outbox',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('workload_id', sa.Text(), nullable=False),
    sa.Column('notice', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('written', sa.DateTime(timezone=True), server_default=sa.text('clock_timestamp()'), nullable=False),
    sa.Column('delivered', sa.DateTime(timezone=True), nullable=True),
    sa.ForeignKeyConstraint(['workload_id'], ['workloads.id'], name=op.f('fk_outbox_workload_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_outbox'))
    )
    op.create_index('ix_outbox_undelivered', 'outbox', ['id'], unique=False, postgresql_where=sa.text('delivered IS NULL'))
    op.create_table('quotas',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('queue', sa.Text(), nullable=False),
    sa.Column('sku', sa.Text(), nullable=False),
    sa.Column('nominal', sa.BigInteger(), nullable=False),
    sa.Column('floor', sa.BigInteger(), nullable=False),
    sa.Column('cap', sa.BigInteger(), nullable=True),
    sa.Column('borrowing_limit', sa.BigInteger(), nullable=True),
    sa.Column('lending_limit', sa.BigInteger(), nullable=True),
    sa.Column('valid_from', sa.DateTime(timezone=True), nullable=True),
    sa.Column('valid_until', sa.DateTime(timezone=True), nullable=True),
    sa.CheckConstraint('0 <= floor AND floor <= nominal AND nominal <= coalesce(cap, nominal)', name=op.f('ck_quotas_ordered')),
    sa.CheckConstraint('valid_from < valid_until', name=op.f('ck_quotas_some_validity')),
    sa.ForeignKeyConstraint(['queue'], ['queues.name'], name=op.f('fk_quotas_queue')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_quotas'))
    )
    op.create_index(op.f('ix_quotas_queue'), 'quotas', ['queue'], unique=False)
    op.create_table('allocations',
    sa.Column('attempt_id', sa.Text(), nullable=False),
    sa.Column('node_id', sa.Text(), nullable=False),
    sa.Column('phase', sa.Text(), nullable=False),
    sa.Column('epoch', sa.Integer(), nullable=False),
    sa.Column('uses', sa.ARRAY(sa.Integer()), nullable=False),
    sa.Column('cpu_milli', sa.BigInteger(), nullable=False),
    sa.Column('memory_mib', sa.BigInteger(), nullable=False),
    sa.Column('replicas', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.CheckConstraint("phase IN ('promised', 'claimed', 'released')", name=op.f('ck_allocations_known_phase')),
    sa.CheckConstraint('0 <= ALL (uses)', name=op.f('ck_allocations_nothing_negative')),
    sa.ForeignKeyConstraint(['attempt_id'], ['attempts.id'], name=op.f('fk_allocations_attempt_id')),
    sa.ForeignKeyConstraint(['node_id'], ['nodes.id'], name=op.f('fk_allocations_node_id')),
    sa.PrimaryKeyConstraint('attempt_id', 'node_id', name=op.f('pk_allocations'))
    )
    op.create_index('ix_allocations_in_force', 'allocations', ['node_id'], unique=False, postgresql_where=sa.text("phase <> 'released'"))
    op.create_table('holds',
    sa.Column('attempt_id', sa.Text(), nullable=False),
    sa.Column('epoch', sa.Integer(), nullable=False),
    sa.Column('expires_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('ended_at', sa.DateTime(timezone=True), nullable=True),
    sa.ForeignKeyConstraint(['attempt_id'], ['attempts.id'], name=op.f('fk_holds_attempt_id')),
    sa.PrimaryKeyConstraint('attempt_id', name=op.f('pk_holds'))
    )
    op.create_index('ix_holds_in_force', 'holds', ['expires_at'], unique=False, postgresql_where=sa.text('ended_at IS NULL'))


def downgrade() -> None:
    op.drop_index('ix_holds_in_force', table_name='holds', postgresql_where=sa.text('ended_at IS NULL'))
    op.drop_table('holds')
    op.drop_index('ix_allocations_in_force', table_name='allocations', postgresql_where=sa.text("phase <> 'released'"))
    op.drop_table('allocations')
    op.drop_index(op.f('ix_quotas_queue'), table_name='quotas')
    op.drop_table('quotas')
    op.drop_index('ix_outbox_undelivered', table_name='outbox', postgresql_where=sa.text('delivered IS NULL'))
    op.drop_table('outbox')
    op.drop_index(op.f('ix_nodes_provider'), table_name='nodes')
    op.drop_table('nodes')
    op.drop_index('uq_ledger_one_open', table_name='ledger', postgresql_where=sa.text('ended_at IS NULL'))
    op.drop_index(op.f('ix_ledger_workload_id'), table_name='ledger')
    op.drop_table('ledger')
    op.drop_index(op.f('ix_events_workload_id'), table_name='events')
    op.drop_table('events')
    op.drop_index(op.f('ix_decisions_workload_id'), table_name='decisions')
    op.drop_table('decisions')
    op.drop_index('uq_attempts_one_open', table_name='attempts', postgresql_where=sa.text('ended_at IS NULL'))
    op.drop_index('ix_attempts_open', table_name='attempts', postgresql_where=sa.text('ended_at IS NULL'))
    op.drop_table('attempts')
    op.drop_index('ix_workloads_submitted_at', table_name='workloads')
    op.drop_index('ix_workloads_live', table_name='workloads', postgresql_where=sa.text('ended_at IS NULL'))
    op.drop_table('workloads')
    op.drop_table('rounds')
    op.drop_table('queues')
    op.drop_table('providers')
    op.drop_table('pools')
    op.drop_table('policies')
    op.drop_table('operations')
