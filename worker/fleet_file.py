"""The fleet file: which providers there are, and what the simulated ones have."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from activities.ports import Clock, Provider
from activities.providers.local import LocalNode, LocalProvider
from activities.providers.sim import SimulatedProvider
from activities.providers.sim_fleet import SimulatedFaults, SimulatedFleet, SimulatedNodePool, SimulatedRegion
from corral.api import Identifier, Model
from corral.cli.documents import read_documents

EXAMPLES = Path(__file__).parent.parent / "examples"
DEFAULT_FLEET = EXAMPLES / "fleet.yaml"


class SimulatedEntry(Model):
    """A provider whose nodes are simulated; what it has lasts in a file, whoever works."""

    name: Identifier
    kind: Literal["simulated"]
    regions: Annotated[tuple[SimulatedRegion, ...], Field(min_length=1)]
    node_pools: tuple[SimulatedNodePool, ...] = ()
    faults: SimulatedFaults = SimulatedFaults()

    def open(self, state: Path, clock: Clock) -> Provider:
        """The provider, with its memory under `state`."""
        fleet = SimulatedFleet(regions=self.regions, node_pools=self.node_pools)
        return SimulatedProvider(state / f"{self.name}.sqlite", fleet, clock, faults=self.faults, name=self.name)


class LocalEntry(Model):
    """This machine, which runs real processes."""

    name: Identifier
    kind: Literal["local"]
    node: LocalNode

    def open(self, state: Path, clock: Clock) -> Provider:
        """The provider, with its memory under `state`."""
        return LocalProvider(state / self.name, self.node, clock, name=self.name)


class FleetFile(Model):
    """All providers of a pool."""

    providers: Annotated[tuple[Annotated[SimulatedEntry | LocalEntry, Field(discriminator="kind")], ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_differ(self) -> "FleetFile":
        names = [provider.name for provider in self.providers]
        if len(set(names)) < len(names):
            raise ValueError("each provider needs a name of its own")
        return self


def read_fleet(path: Path | None) -> FleetFile:
    """Read a fleet file, or the example that comes with Corral.

    Raises:
        corral.cli.problems.InvalidInput: names the file, line, field, value and what was expected.
    """
    return read_documents([str(path or DEFAULT_FLEET)], FleetFile)[0].content
