"""Mixed load: `load.mix` sends all datasets of the traffic at once, in its shares, as one dataset more (MIXED) with parts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator, Field

from helpers.config.strict import Strict
from helpers.config.unquoted import Unquoted, read_unquoted
from helpers.config.workload import Dataset

if TYPE_CHECKING:
    from helpers.config.benchmark import BenchmarkConfig

MIXED = "mixed"
"""The name of the dataset that holds prompts of all the others."""


class Mix(Strict):
    """Send the datasets of the traffic together, in its shares: the verdict is that of the mix, each part of which has to meet
    the SLO.
    """

    alone: bool = Field(
        default=False,
        description="Load each dataset by itself as well, for comparison: half of its prompts are kept for that.",
    )


def _switched(value: object) -> object:
    """`mix: true` is short for `mix: {}`, `mix: false` for none."""
    value = read_unquoted(value) if isinstance(value, Unquoted) else value
    return ({} if value else None) if isinstance(value, bool) else value


MixSettings = Annotated[Mix | None, BeforeValidator(_switched, json_schema_input_type=bool | Mix | None)]


def mixed_and_alone(config: BenchmarkConfig) -> list[Dataset]:
    """The datasets that are loaded: the mix, as large as its scarcest part lets it be, and each that is loaded alone."""
    inside = {dataset.name: prompts_in_mix(config, dataset.count) for dataset in config.datasets}
    bins = [dataset.prompt_tokens for dataset in config.datasets]
    most = min(inside[name] / share for name, share in config.shares_of_parts().items())
    mixed = Dataset(
        name=MIXED,
        prompt_tokens=(min(low for low, _ in bins), max(high for _, high in bins)),
        count=max(1, math.floor(most)),
    )
    kept = [d.model_copy(update={"count": d.count - inside[d.name]}) for d in config.datasets]
    return [mixed, *(kept if config.load.mix.alone else [])]


def prompts_in_mix(config: BenchmarkConfig, count: int) -> int:
    """Of `count` prompts of a dataset, those that are for the mix."""
    return count // 2 if config.load.mix.alone else count


def prompts_asked_of(config: BenchmarkConfig, dataset: Dataset, at_a_point: int) -> int:
    """Prompts that a dataset needs where a load point needs so many: its share of the mix, and as many again to be sent alone."""
    if config.load.mix is None:
        return at_a_point
    share = math.ceil(config.shares_of_parts()[dataset.name] * at_a_point)
    return 2 * at_a_point if config.load.mix.alone else share
