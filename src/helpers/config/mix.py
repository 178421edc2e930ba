"""Mixed load: `load.mix` sends all datasets of the traffic at once, in its shares, as one dataset more (MIXED) with parts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from helpers.config.strict import Strict, slug
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


def refuse_unmixable(config: BenchmarkConfig) -> None:
    """Raise PydanticCustomError for what cannot be sent, or judged, as parts of one load."""
    leave_out = "Next: leave out `mix`, or"
    names, shares = [dataset.name for dataset in config.datasets], config.shares_of_parts()
    missing = [name for name in names if not shares.get(name)]
    unlike = [i for i, option in enumerate(config.options) if option.datasets and set(option.datasets) != set(names)]
    slugs = [slug(name) for name in names]
    faults: list[tuple[object, list, str]] = [
        (
            config.imported,
            ["load", "mix"],
            f"imported results are what they are: they cannot be mixed. {leave_out} measure",
        ),
        (
            len(names) < 2,
            ["load", "mix"],
            f"there is one dataset, {names[0]!r}, and nothing to mix it with. Expected two or more. {leave_out} add one",
        ),
        (
            MIXED in slugs,
            ["datasets", slugs.index(MIXED) if MIXED in slugs else 0, "name"],
            f"bad value {MIXED!r}: with load.mix it is the name of the mix. Expected another name. Next: rename it",
        ),
        (
            bool(missing),
            ["traffic", "mix"],
            f"dataset {missing[0] if missing else ''!r} has no share of the traffic, so a mix does not hold it. Expected a share "
            "above 0 for each dataset. Next: give it one, or delete the dataset",
        ),
        (
            bool(unlike),
            ["options", unlike[0] if unlike else 0, "datasets"],
            f"an option is sent the whole mix (load.mix), not some of its parts. Expected all of {', '.join(names)}. Next: leave "
            "out `datasets`, or `load.mix`",
        ),
        (
            config.conversations is not None,
            ["load", "mix"],
            "sessions of prompts.conversations send many requests each, so the shares of the traffic, which are of requests, "
            f"would not be kept. {leave_out} prompts.conversations",
        ),
        (
            config.prompts is not None and config.prompts.prefix is not None,
            ["load", "mix"],
            f"prompts.prefix asks a hit rate of each dataset by itself, and those in a mix share one cache. {leave_out} "
            "prompts.prefix",
        ),
    ]
    for is_so, path, message in faults:
        if is_so:
            raise PydanticCustomError("inconsistent", message.replace("{", "{{").replace("}", "}}"), {"path": path})
