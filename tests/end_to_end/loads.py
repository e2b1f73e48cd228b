"""Workloads of all kinds, and how each of them must end."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from corral.api import Checkpoint, ReplicaGroup, SlaTier, State, Target, Topology, WorkloadSpec

IN_ONE_RACK = Topology(required="rack")


def a_workload(id: str, **more: Any) -> WorkloadSpec:
    """One accelerator for ten seconds of the pool's time, unless told otherwise; `runs` and the like are parameters."""
    given: dict[str, Any] = {"id": id, "queue": "cells", "targets": (Target(skus=("a100",)),)}
    return WorkloadSpec.model_validate(given | more)


def behaving(seconds: float = 10, **more: object) -> dict[str, str]:
    """What a simulated workload does (see `activities.providers.sim_life`)."""
    return {"runtime_seconds": str(seconds)} | {name: str(value) for name, value in more.items()}


def a_gang(id: str, seconds: float, **more: Any) -> WorkloadSpec:
    """Two nodes of one rack."""
    given = {"queue": "research", "groups": (ReplicaGroup(count=2, accelerators=8),), "topology": IN_ONE_RACK}
    targets = (Target(skus=("h100",)),)
    return a_workload(id, **(given | {"targets": targets, "parameters": behaving(seconds, checkpoint_every_seconds=50)} | more))


def a_process(id: str, script: str, **more: Any) -> WorkloadSpec:
    """A real process on this machine."""
    given = {"queue": "tools", "targets": (Target(skus=("process",)),), "command": ("sh", "-c", script)}
    return a_workload(id, **(given | more))


def a_mixed_load(tag: str, log: Path) -> Sequence[tuple[WorkloadSpec, State]]:
    """Gangs, victims and those for whom they leave, failures, an array, shares of a device, real processes: and their ends."""
    small = {"queue": "product", "targets": (Target(skus=("h100",)),)}
    writes_itself_down = f"echo $CORRAL_ATTEMPT >> {log}; sleep 1"
    everything: dict[str, Any] = {"groups": (ReplicaGroup(count=4, accelerators=8),), "topology": Topology()}
    basic = {"tier": SlaTier.BASIC, "checkpoint": Checkpoint(grace_seconds=20)}
    return [
        (a_gang(f"{tag}-early", 900, **basic), State.SUCCEEDED),
        (a_gang(f"{tag}-guest", 700, **basic), State.SUCCEEDED),
        (a_gang(f"{tag}-gang", 200), State.SUCCEEDED),
        (a_gang(f"{tag}-prime", 50, tier=SlaTier.PREMIUM, **everything), State.SUCCEEDED),
        (a_workload(f"{tag}-four", groups=(ReplicaGroup(accelerators=4),), parameters=behaving(150), **small), State.SUCCEEDED),
        (a_workload(f"{tag}-eight", groups=(ReplicaGroup(accelerators=8),), parameters=behaving(50), **small), State.SUCCEEDED),
        (
            a_workload(f"{tag}-half", groups=(ReplicaGroup(count=3, accelerators=0.5),), parameters=behaving(120)),
            State.SUCCEEDED,
        ),
        (a_workload(f"{tag}-array", tasks=20, parameters=behaving(60)), State.SUCCEEDED),
        (a_workload(f"{tag}-fails", retries=1, parameters=behaving(30, exit_code=3)), State.FAILED),
        (a_workload(f"{tag}-stubborn", parameters=behaving(90, ignore_notice="true")), State.SUCCEEDED),
        (a_workload(f"{tag}-lost", queue="nowhere"), State.REFUSED),
        (a_process(f"{tag}-real", writes_itself_down), State.SUCCEEDED),
        (a_process(f"{tag}-ends", f"{writes_itself_down}; exit 4"), State.FAILED),
    ]
