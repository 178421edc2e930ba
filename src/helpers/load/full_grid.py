"""The full grid, which a config takes with `race: false`: every load point once, with the requests that the SLO asks for."""

from __future__ import annotations

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load import Load, closed_loop_prompts
from helpers.config.load_level import LoadLevel
from helpers.config.options import OptionBase
from helpers.metrics.sample_size import levels_of, requests_for_slo


def full_load(config: BenchmarkConfig) -> Load:
    """The load of each point of the full grid: windows hold what the SLO asks for, or `min_requests` where that is more."""
    needed = requests_for_slo(config.slo, levels_of(config))
    return config.load.model_copy(update={"min_requests": max(config.load.min_requests, needed)})


def full_requests(level: LoadLevel, load: Load) -> float:
    """Requests that a load point of it sends, warm-up and drain among them."""
    if level.is_open:
        return level.value * min(load.warmup_s + load.min_requests / level.value, load.max_duration_s)
    return closed_loop_prompts(load, int(level.value))


def requests_of_grid(option: OptionBase, config: BenchmarkConfig) -> float:
    """Requests that an option is sent in it."""
    load = full_load(config)
    return sum(full_requests(level, load) for _ in config.datasets_of(option) for level in load.levels())
