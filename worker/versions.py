"""Versions of the worker's code, as Temporal knows them: which one a worker is, and which one is given work."""

import hashlib
import os
from pathlib import Path

from temporalio.api.workflowservice.v1 import SetWorkerDeploymentCurrentVersionRequest
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import WorkerDeploymentConfig

from worker.settings import Settings, SettingsError, variable
from worker.temporal_server import identity

OURS = ("corral", "domain", "activities", "workflows", "worker")
"""What decides how a worker goes on with a workflow."""


def deployment_name(pool: str) -> str:
    """What Temporal calls the workers of a pool, whatever their version."""
    return f"corral-{pool}"


def deployment_of(settings: Settings) -> WorkerDeploymentConfig | None:
    """The version that a worker with these settings is; none where it is given work whatever it is."""
    if settings.build_id is None:
        return None
    version = WorkerDeploymentVersion(deployment_name(settings.pool), settings.build_id)
    # Temporal refuses a behaviour from a worker without a version, so that workflows do not say theirs themselves.
    return WorkerDeploymentConfig(
        version, use_worker_versioning=True, default_versioning_behavior=VersioningBehavior.AUTO_UPGRADE
    )


def digest_of_code() -> str:
    """By what Temporal tells workers apart that have no version, as where a workflow is set back to before some code came.

    By itself the SDK would read all that is loaded once more, libraries as well: a tenth of a worker's start.
    """
    root, digest = Path(__file__).parents[1], hashlib.md5(usedforsecurity=False)
    for source in sorted(source for package in OURS for source in (root / package).rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


async def promote(client: Client, settings: Settings) -> str:
    """Give new workflows, and those that change with the code, to workers of this version from now on; answers with it.

    Raises:
        SettingsError: the settings name no version, or no worker of it has asked for work yet.
    """
    if settings.build_id is None:
        raise SettingsError(f"{variable('build_id')}: no version is given; expected that of a worker that runs")
    request = SetWorkerDeploymentCurrentVersionRequest(
        namespace=settings.temporal_namespace,
        deployment_name=deployment_name(settings.pool),
        build_id=settings.build_id,
        identity=identity(os.getpid()),
    )
    try:
        await client.workflow_service.set_worker_deployment_current_version(request)
    except RPCError as error:
        if error.status not in {RPCStatusCode.NOT_FOUND, RPCStatusCode.FAILED_PRECONDITION}:
            raise
        raise SettingsError(
            f"{variable('build_id')}: {settings.build_id!r} cannot be promoted: {error.message}; start all workers of that "
            "version first, and wait until they ask for work"
        ) from error
    return settings.build_id
