"""The figures of the report: drawn by notebook 04, read back by notebook 05."""

from __future__ import annotations

import json
from dataclasses import replace

from helpers.config.benchmark import BenchmarkConfig
from helpers.report import charts, conclusions
from helpers.report.day_report import draw_day_figure
from helpers.report.display import Figure
from helpers.report.limits_report import limits_title
from helpers.report.race_report import draw_race_figure
from helpers.run.folder import RunFolder, write_atomically
from helpers.verdict.analysis import Measurements
from helpers.verdict.chosen_points import judged_points
from helpers.verdict.verdict import Verdict
from helpers.verdict.what_if import Outcome

FIGURES_FILE = "figures.json"
PARTS = ("alt", "caption", "title")


def draw_figures(
    measured: Measurements, verdict: Verdict, config: BenchmarkConfig, run: RunFolder
) -> dict[str, Figure]:
    """Draw every figure of the report that there are data for; returns name -> figure."""
    points, samples = (judged_points(table, config) for table in (measured.points, measured.samples))
    folder = run.figures
    shared = charts.at_highest_shared_level(samples)
    titled = [
        (charts.verdict_picture(verdict, config, folder), ""),
        (
            charts.price_performance(Outcome(config, points, measured.endpoints, verdict), folder),
            conclusions.price_title(verdict, config),
        ),
        (charts.bill_by_traffic(verdict, config, folder), conclusions.bill_title(verdict, config)),
        (draw_day_figure(verdict, measured.endpoints, config, folder), ""),
        (charts.latency_by_load(points, config, folder), conclusions.load_title(points, verdict, config)),
        (charts.throughput_by_load(points, config, folder), conclusions.throughput_title(points, verdict, config)),
        (charts.server_load(points, config, folder), limits_title(points, config)),
        (
            charts.latency_by_prompt_length(samples, config, folder)
            or charts.latency_by_mean_prompt_length(points, config, folder),
            conclusions.prompt_title(charts.at_lowest_level(samples)) or conclusions.mean_prompt_title(points),
        ),
        (
            charts.distribution(samples, "ttft_s", config, folder),
            conclusions.median_title(shared, "ttft_s", "The first token takes"),
        ),
        (
            charts.distribution(samples, "tpot_s", config, folder),
            conclusions.median_title(shared, "tpot_s", "Each further token takes"),
        ),
        (charts.error_rates(points, config, folder), conclusions.error_title(points, config)),
        (draw_race_figure(verdict, measured.endpoints, config, run), ""),
    ]
    figures = [replace(f, title=title or f.title) for f, title in titled if f is not None and len(points)]
    index = {
        figure.path.stem: {"file": figure.path.name} | {part: getattr(figure, part) for part in PARTS}
        for figure in figures
    }
    write_atomically(folder / FIGURES_FILE, json.dumps(index, indent=1) + "\n")
    return {figure.path.stem: figure for figure in figures}


def read_figures(run: RunFolder) -> dict[str, Figure]:
    """Name -> figure, as drawn by notebook 04."""
    index = run.require(f"figures/{FIGURES_FILE}", "04_analyse_metrics")
    content = json.loads(index.read_text(encoding="utf-8"))
    return {name: Figure(run.figures / f["file"], *(f[part] for part in PARTS)) for name, f in content.items()}
