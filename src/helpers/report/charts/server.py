"""The figure of what servers said of themselves under load."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure as Canvas

from helpers.config.benchmark import BenchmarkConfig
from helpers.report.charts.line_names import name_lines
from helpers.report.charts.panels import NARROWEST_INCHES, PANELS_PER_ROW, crossed_out, lines
from helpers.report.charts.style import ranges, save, style
from helpers.report.display import Figure

PANEL_INCHES = (4.1, 2.3)
SHARE_TOP = 105.0
QUANTITIES = {
    "server_running": ("running requests", 1.0),
    "server_waiting": ("waiting requests", 1.0),
    "server_kv_cache": ("KV cache, %", 100.0),
    "server_preemptions": ("preemptions", 1.0),
    "server_gpu": ("GPU, %", 100.0),
    "server_cpu": ("CPU, %", 100.0),
}
"""Column -> words, and what it is multiplied by. One row of panels each; of a single dataset two stand side by side."""


def server_load(points: pd.DataFrame, config: BenchmarkConfig, folder: Path) -> Figure | None:
    """Requests that run and wait, KV cache, preemptions and utilisation against the load; None where no server said any of it."""
    known = [name for name in QUANTITIES if name in points and points[name].notna().any()]
    if not known:
        return None
    rows = points.assign(**{name: points[name].astype(float) * QUANTITIES[name][1] for name in known})
    rows = rows[rows[known].notna().any(axis=1)]
    datasets = [dataset.name for dataset in config.datasets if (rows["dataset"] == dataset.name).any()][:PANELS_PER_ROW]
    panels = [(name, dataset) for name in known for dataset in datasets]
    across = len(datasets) if len(datasets) > 1 else min(2, len(known))
    down = math.ceil(len(panels) / across)
    with style():
        size = max(PANEL_INCHES[0] * across, NARROWEST_INCHES), PANEL_INCHES[1] * down
        canvas = Canvas(figsize=size, layout="constrained")
        for i, (name, dataset) in enumerate(panels):
            axes = canvas.add_subplot(down, across, i + 1)
            here = rows[(rows["dataset"] == dataset) & rows[name].notna()]
            if i < len(datasets):
                axes.set_title(dataset, loc="left", fontweight="bold")
            top = SHARE_TOP if QUANTITIES[name][1] > 1 else max(1.0, 1.08 * rows[name].max())
            lines(axes, here, name, config, top)
            axes.set_ylim(0, top)
            axes.set_xlabel(config.load.level_name if i + across >= len(panels) else "")
            axes.set_ylabel(QUANTITIES[name][0] if dataset == datasets[0] else "")
        name_lines(canvas, canvas.axes[across - 1])
        path = save(canvas, folder, "server_load")
    words = {name: QUANTITIES[name][0] for name in known}
    alt = f"{', '.join(words.values())} against {config.load.level_name}. "
    alt += " ".join(f"{words[name]}: {ranges(rows.dropna(subset=[name]), name, '', config)}" for name in known)
    caption = "As the servers reported it in the steady windows. Where requests wait while the running ones no longer grow, the "
    caption += f"server takes no more at once.{crossed_out(rows)}"
    return Figure(path, alt, caption)
