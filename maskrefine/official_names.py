"""A refiner's weights alone, under the names of its published program."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from segcore.engine.renaming import Rows, renamed
from segcore.errors import WeightsError


def inside_detector(table: Rows, theirs: str) -> Rows:
    """The same names where the refiner is a detector's mask head.

    Args:
        theirs: what the published detector calls the place, "roi_heads." or "roi_head.mask_head.".
    """
    return [(theirs + official, "mask_head." + ours) for official, ours in table]


def official_state(module: nn.Module, table: Rows) -> dict[str, Tensor]:
    """All weights of a module under their official names."""
    return {
        renamed(name, table, to_ours=False): value for name, value in module.state_dict().items()
    }


def load_official(
    module: nn.Module, state: Mapping[str, Tensor], table: Rows, optional: Iterable[str] = ()
) -> None:
    """Weights with official names into a module.

    Args:
        optional: beginnings of official names that may be missing; these weights stay.

    Raises:
        WeightsError: names or shapes are not the module's.
    """
    own = official_state(module, table)
    unknown = sorted(state.keys() - own.keys())
    missing = sorted(n for n in own.keys() - state.keys() if not n.startswith(tuple(optional)))
    wrong = [
        f"{n} is {tuple(v.shape)}, expected {tuple(own[n].shape)}"
        for n, v in state.items()
        if n in own and v.shape != own[n].shape
    ]
    if unknown or missing or wrong:
        raise WeightsError(
            f"{type(module).__name__}: these are not its weights: missing {missing[:3]}"
            f" ({len(missing)} in all), unknown {unknown[:3]} ({len(unknown)}), wrong shape"
            f" {wrong[:3]} ({len(wrong)}); give the weights of this head, and its number of classes"
        )
    merged = own | dict(state)
    module.load_state_dict({renamed(name, table, to_ours=True): v for name, v in merged.items()})
