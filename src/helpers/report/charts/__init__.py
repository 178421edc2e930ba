"""The figures of a run. Each function draws one SVG into a folder and returns it with its alternative text.

One colour per option in every figure (Okabe and Ito's palette, safe for colour-blind readers), one panel per dataset.
Infinite values (percentiles that touch a failed request) cannot be drawn; captions say how many are left out. Load points
that the client limited are crossed out.
"""

from helpers.report.charts.capacity import bill_by_traffic
from helpers.report.charts.day import day_of_traffic
from helpers.report.charts.load_points import error_rates, latency_by_load, throughput_by_load
from helpers.report.charts.price import price_performance
from helpers.report.charts.race import race_figure, race_picture
from helpers.report.charts.requests import (
    at_highest_shared_level,
    at_lowest_level,
    distribution,
    latency_by_mean_prompt_length,
    latency_by_prompt_length,
    prompt_lengths,
)
from helpers.report.charts.server import server_load
from helpers.report.charts.standing import verdict_picture

__all__ = [
    "at_highest_shared_level",
    "at_lowest_level",
    "bill_by_traffic",
    "day_of_traffic",
    "distribution",
    "error_rates",
    "latency_by_load",
    "latency_by_mean_prompt_length",
    "latency_by_prompt_length",
    "price_performance",
    "prompt_lengths",
    "race_figure",
    "race_picture",
    "server_load",
    "throughput_by_load",
    "verdict_picture",
]
