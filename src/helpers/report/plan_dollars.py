"""What a run adds to the bill of an option at most, before anything is made, and what that rests on."""

from __future__ import annotations

import math

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load import Ramp
from helpers.config.load_level import LoadLevel
from helpers.config.options import BedrockOption, OpenAIOption, Option, SageMakerOption
from helpers.config.workload import Dataset
from helpers.metrics.answers import samples_of
from helpers.number_text import plural
from helpers.price import Price


def dollars_of(
    option: Option,
    config: BenchmarkConfig,
    price: Price | None,
    minutes: float | None,
    requests: float | None = None,
) -> tuple[float | None, str]:
    """What the run adds to the bill, and what that rests on; None where it is unknown.

    `minutes` are those of the endpoint, `requests` those that are sent; None: as many as the config allows.
    """
    if isinstance(option, SageMakerOption) and option.local:
        return 0.0, "this machine: nothing is billed"
    if isinstance(option, BedrockOption) and not option.provisioned and price is None:
        return None, "no price is known: prices per token come from the config alone"
    if _runs_anyway(option) or (isinstance(option, OpenAIOption) and price and not price.is_per_token):
        return 0.0, "it runs already: the run adds nothing to its bill"
    if price is None:
        return None, "no price is known"
    if price.is_per_token:
        if requests is None:
            return _token_dollars(option, config, price)
        return _likely_token_dollars(option, config, price, requests), ""
    return None if minutes is None else price.usd_per_option_hour(option.instance_count) * minutes / 60, ""


def _runs_anyway(option: Option) -> bool:
    """True for what exists and is billed by the hour already."""
    if isinstance(option, SageMakerOption):
        return not option.deploy
    return isinstance(option, BedrockOption) and option.provisioned


def _token_dollars(option: Option, config: BenchmarkConfig, price: Price) -> tuple[float | None, str]:
    """Requests x tokens x price. Tokens are counted by the model's tokenizer: the bill counts by the provider's."""
    if config.load.may_bring_prompts:
        return None, "no bound of the cost: how many requests there are, and how long, is known once the trace is read"
    usd, total = 0.0, 0
    for dataset in config.datasets_of(option):
        requests = _most_requests(dataset, config)
        if requests is None:
            return None, "no bound of the cost: prompts are repeated as long as a load point goes on"
        most_output = config.generation.max_output_tokens
        most_input = min(dataset.prompt_tokens[1] - 1, config.model.context_tokens - most_output)
        if config.quality is not None:
            requests += samples_of(config).get(dataset.name, 0)
            most_output = max(most_output, config.quality.max_output_tokens or 0)
        usd, total = usd + requests * price.usd_of_tokens(most_input, most_output), total + requests
    basis = (
        f"at most {plural(total, 'request')} of the longest prompts of their dataset and {most_output} output tokens, "
        f"at ${price.usd_per_1m_input_tokens:g} and ${price.usd_per_1m_output_tokens:g} a million tokens"
    )
    return usd, basis


def _likely_token_dollars(option: Option, config: BenchmarkConfig, price: Price, requests: float) -> float:
    """The same of prompts from the middle of their dataset, and as many requests to each dataset."""
    datasets = config.datasets_of(option)
    prompt_tokens = sum(sum(dataset.prompt_tokens) / 2 for dataset in datasets) / len(datasets)
    return requests * price.usd_of_tokens(prompt_tokens, config.generation.max_output_tokens)


def _most_requests(dataset: Dataset, config: BenchmarkConfig) -> int | None:
    """Requests that all load points of a dataset send at most: one for each prompt, or as many as the schedule has."""
    load = config.load
    levels = load.possible_levels()[-load.most_levels :]
    bounds = [_most_requests_of_point(level, dataset, config) for level in levels]
    return None if None in bounds else sum(bounds) * load.repetitions


def _most_requests_of_point(level: LoadLevel, dataset: Dataset, config: BenchmarkConfig) -> int | None:
    load = config.load
    if (sessions := config.conversations) is not None:
        turns = math.inf if sessions.max_turns is None or load.repeat_prompts else dataset.count * sessions.max_turns
        return None if turns == math.inf else turns
    bounds = [] if load.repeat_prompts else [dataset.count]
    if isinstance(load, Ramp):
        bounds.append(load.fewest_prompts())
    elif level.kind == "open_loop":
        bounds.append(math.ceil(level.value * load.max_duration_s))
    return min(bounds, default=None)
