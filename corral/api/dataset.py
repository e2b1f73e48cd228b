"""Data as services speak of it: what workloads read, and the regions that have it."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from corral.api.model import Identifier, Model


class Dataset(Model):
    """Data that workloads read: its size, and the regions with a whole replica; where nobody has one, it counts nothing."""

    name: Identifier
    size_gib: Annotated[float, Field(gt=0, le=10**9, allow_inf_nan=False)]
    regions: Annotated[tuple[Identifier, ...], Field(max_length=256)]

    @model_validator(mode="after")
    def _one_replica_a_region(self) -> Self:
        if len(set(self.regions)) < len(self.regions):
            raise ValueError("regions: one is named twice; expected each region that has a replica once")
        return self


class Catalogue(Model):
    """Datasets; applied whole or not at all."""

    datasets: Annotated[tuple[Dataset, ...], Field(min_length=1, max_length=10_000)]

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        seen: dict[str, int] = {}
        for at, dataset in enumerate(self.datasets):
            if (first := seen.setdefault(dataset.name, at)) != at:
                raise ValueError(f"datasets[{at}].name: {dataset.name} is datasets[{first}] already; each has one entry")
        return self


class DatasetStatus(Model):
    """A dataset, and how many workloads that have not ended read it; without size and regions it is not in the catalogue."""

    name: str
    size_gib: float | None
    regions: tuple[str, ...]
    readers: int
    warnings: tuple[str, ...] = ()
    """What makes it count nothing, or less than its owner may think."""
