"""How a handful of figures speaks for many times."""

from __future__ import annotations

import numpy as np


def percentiles_ms(values_ns: np.ndarray) -> dict[str, float]:
    """p50, p99 and max, ms."""
    values = np.asarray(values_ns) / 1e6
    return {
        "p50": float(np.percentile(values, 50)),
        "p99": float(np.percentile(values, 99)),
        "max": float(values.max()),
    }
