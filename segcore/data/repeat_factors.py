"""How often images of rare classes are seen (repeat factor sampling; Gupta et al., 2019).

Legend of one-letter names: N records, K classes.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from segcore.data.store import Records


def repeat_factors(records: Records, threshold: float, *, square_root: bool = True) -> np.ndarray:
    """(N,) float64 from 1: mean number of times that each record is seen in an epoch.

    That of its rarest class; a class has max(1, threshold / frequency), or the root of it.

    Args:
        threshold: share of images; classes that are in fewer are seen more often.
        square_root: as LVIS has it, and detectron2 unless DATALOADER.REPEAT_SQRT says otherwise.
    """
    of_records = [sorted(classes) for classes in records.classes()]
    images = Counter(k for classes in of_records for k in classes)
    power = 0.5 if square_root else 1.0
    factors = {
        k: max(1.0, (threshold * len(of_records) / count) ** power) for k, count in images.items()
    }
    return np.array([max((factors[k] for k in classes), default=1.0) for classes in of_records])
