"""Layers: which roll-out has set which field over what, so that each can be taken back without the others."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from domain.operations.fields import Edits, Fields, Path, edits


@dataclass(frozen=True, slots=True)
class Layer:
    """The fields that are a roll-out's own to take back, and what lies right under each; none where nothing did."""

    id: str
    under: Edits

    def without(self, paths: Collection[Path]) -> "Layer":
        """The layer when some fields are its own no more."""
        return replace(self, under={path: value for path, value in self.under.items() if path not in paths})


Layers = Sequence[Layer]
"""Those of all roll-outs that are watched, the one that was applied first first; of a field the last one is in force."""


def laid(layers: Layers, id: str, before: Fields, after: Fields, *, stays: Collection[Path] = ()) -> Layers:
    """The layers with one more on top: of the fields in which what is in force now differs from before.

    Fields that `stay` go back to what they are now.
    """
    under = {path: after[path] if path in stays else before.get(path) for path in edits(before, after)}
    return (*layers, Layer(id, under))


def without(layers: Layers, id: str) -> tuple[Layers, Edits]:
    """The layers when one is taken out, and what becomes of the fields that were in force of it."""
    place = _place(layers, id)
    left, above = dict(layers[place].under), []
    for layer in layers[place + 1 :]:
        inherited = {path: left.pop(path) for path in layer.under.keys() & left.keys()}
        above.append(replace(layer, under={**layer.under, **inherited}))
    return (*layers[:place], *above), left


def settled(layers: Layers, id: str) -> Layers:
    """The layers when one stays for good: it is none any more, and nobody below it may take back what it has set."""
    place = _place(layers, id)
    return (*edited_by_hand(layers[:place], layers[place].under), *layers[place + 1 :])


def edited_by_hand(layers: Layers, paths: Collection[Path]) -> Layers:
    """The layers when somebody has set fields for good: nobody may take back what lies under that."""
    return tuple(layer.without(paths) for layer in layers)


def _place(layers: Layers, id: str) -> int:
    return next(place for place, layer in enumerate(layers) if layer.id == id)


def by_id(layers: Layers) -> Mapping[str, Layer]:
    """The layers by their roll-outs."""
    return {layer.id: layer for layer in layers}
