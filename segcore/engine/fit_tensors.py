"""Tensors of a checkpoint in a model's shapes: other classes, other queries, other windows.

Legend of one-letter names: K classes, Q queries.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from segcore.contracts import ClassRows
from segcore.errors import WeightsError
from segcore.query_rows import noise_of_copies, tile_rows

# what a model computes itself, or what only a training counts
COMPUTED = re.compile(r"(num_batches_tracked|relative_position_index|class_weight)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What the rows of some parameters stand for.

    Args:
        classes: parameters with rows of their own for every class.
        queries: how the names of parameters end that have one row a query.
        theirs, ours: names of the checkpoint's and the model's classes, in order; () is unknown.
        their_ids, our_ids: of these classes in their files; () is unknown.
    """

    classes: Sequence[ClassRows] = ()
    queries: Sequence[str] = ()
    theirs: Sequence[str] = ()
    ours: Sequence[str] = ()
    their_ids: Sequence[int] = ()
    our_ids: Sequence[int] = ()


def fit_tensor(name: str, value: Tensor, own: Tensor, rows: Rows) -> tuple[Tensor | None, str]:
    """The value in the shape of the model's own, and how it was changed; "" is not at all.

    None where the own stays, and why; "" is as it should be. WeightsError where neither will do.
    """
    for kind in rows.classes:
        if name.endswith(kind.name) and value.shape[1:] == own.shape[1:]:
            return _class_rows(value, own, kind, rows)
    if value.shape == own.shape:
        return value, ""
    if name.endswith(tuple(rows.queries)) and value.shape[1:] == own.shape[1:]:
        return _queries(value, own), f"{len(value)} -> {len(own)} queries"
    if name.endswith("relative_position_bias_table") and value.shape[1] == own.shape[1]:
        return _bias_table(value, own)
    if COMPUTED.search(name):
        return None, ""
    raise WeightsError(
        f"{name}: the checkpoint has {tuple(value.shape)}, the model {tuple(own.shape)};"
        " is this the config that the checkpoint was trained with?"
    )


def _class_rows(
    value: Tensor, own: Tensor, kind: ClassRows, rows: Rows
) -> tuple[Tensor | None, str]:
    """By names where they are known and differ, else all rows or none."""
    theirs, ours = plain_names(rows.theirs), plain_names(rows.ours)
    known = _count(value, kind) == len(theirs) and _count(own, kind) == len(ours)
    if known and theirs != ours:
        return _rows_by_name(value, own, kind, rows)
    if value.shape == own.shape:
        return value, ""
    return None, f"{_count(value, kind)} -> {_count(own, kind)} classes"


def _rows_by_name(
    value: Tensor, own: Tensor, kind: ClassRows, rows: Rows
) -> tuple[Tensor | None, str]:
    """Rows of the classes that both sides have, and of the background, which is everybody's."""
    theirs, ours = plain_names(rows.theirs), plain_names(rows.ours)
    shared = _namesakes(theirs, ours, rows)
    if not shared:
        return None, f"none of {len(theirs)} classes is wanted"
    first = int(kind.background == "first")
    goals, sources = ([first + pair[side] for pair in shared] for side in (0, 1))
    if kind.background:
        goals.append(0 if first else len(ours))
        sources.append(0 if first else len(theirs))
    blocks = own.clone().unflatten(0, (-1, kind.each))  # (K or K+1, each, ...)
    blocks[goals] = value.unflatten(0, (-1, kind.each))[sources].to(blocks)
    change = f"{len(shared)} of {len(ours)} classes by name"
    several = sorted({ours[i] for i, _ in shared if theirs.count(ours[i]) > 1})
    if several:
        change += f", {', '.join(several[:3])}, which stands there more than once, by id or order"
    return blocks.flatten(0, 1), change


def _namesakes(theirs: list[str], ours: list[str], rows: Rows) -> list[tuple[int, int]]:
    """(our, their) place of every class of ours that they have.

    Of several classes of one name the one of the same id is meant, else the next in their order.
    """
    their_ids = rows.their_ids if len(rows.their_ids) == len(theirs) else [None] * len(theirs)
    our_ids = rows.our_ids if len(rows.our_ids) == len(ours) else [-1] * len(ours)
    left: dict[str, list[int]] = {}
    for j, name in enumerate(theirs):
        left.setdefault(name, []).append(j)
    pairs: dict[int, int] = {}
    for i, name in enumerate(ours):
        same = next((j for j in left.get(name, ()) if their_ids[j] == our_ids[i]), None)
        if same is not None:
            left[name].remove(same)
            pairs[i] = same
    for i, name in enumerate(ours):
        if i not in pairs and left.get(name):
            pairs[i] = left[name].pop(0)
    return sorted(pairs.items())


def _count(tensor: Tensor, kind: ClassRows) -> int:
    """How many classes have rows in it."""
    return len(tensor) // kind.each - bool(kind.background)


def plain_names(names: Sequence[str]) -> list[str]:
    """Names without what people write now one way, now another."""
    return [re.sub(r"[\s_-]+", " ", str(name).strip()).casefold() for name in names]


def _queries(value: Tensor, own: Tensor) -> Tensor:
    """The first of them; more are copies, with a little noise that sets them apart."""
    return tile_rows(value.to(own), noise_of_copies(len(value), *own.shape).to(own))


def _bias_table(value: Tensor, own: Tensor) -> tuple[Tensor, str]:
    """Swin's biases by relative position, (2 window - 1)^2 rows, for another window."""
    old, new = (round(len(table) ** 0.5) for table in (value, own))
    square = value.T.reshape(1, -1, old, old).float()
    table = F.interpolate(square, (new, new), mode="bicubic")
    change = f"window {(old + 1) // 2} -> {(new + 1) // 2}"
    return table.reshape(value.shape[1], -1).T.to(own), change
