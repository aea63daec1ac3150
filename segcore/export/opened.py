"""An exported file in its runtime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Opened:
    """See the module's docstring.

    Args:
        facts: what the file says of itself.
        run: pixels (T, 3, H, W) and sizes (T, 2) -> the outputs by name.
        runtime: its name and version.
    """

    facts: dict[str, Any]
    run: Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]
    runtime: str
