"""The least that an option can cost, known before it is deployed: its $/h at the most that it can serve.

The most is what the config states (`best_output_tokens_per_s`), or else a roofline (Williams, Waterman and Patterson, CACM 52(4),
2009; for decoding: Pope et al., "Efficiently Scaling Transformer Inference", MLSys 2023). A step reads all active weights from
memory, and yields at most one token for each request that is in flight; a token takes two operations for each active weight. All
that an option does besides is left out: prompts, the KV cache, communication, waiting. What is not known is taken at its best,
so no machine is faster than this, unless what the config states is wrong.

Tokens per second bound requests per second only where requests ask for a fixed number of output tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.containers import ModelContainer
from helpers.config.containers.accelerators import Peak, instance_of, peak_of
from helpers.config.options import OptionBase, SageMakerOption
from helpers.load.bodies import APIS_WITH_SMALLEST_LENGTH
from helpers.metrics.formulas import usd_per_1k_requests, usd_per_1m_tokens

ON_CHIP_BYTES = 256e6
"""More than any accelerator in data/accelerators.csv has on the chip: weights that stay there are not read again."""
LENGTH_KEYS = frozenset({"max_tokens", "max_completion_tokens", "min_tokens", "ignore_eos", "parameters", "stop", "n"})
"""Keys of a request body on which the number of output tokens depends."""


class Most(NamedTuple):
    """The most that all instances of an option can serve, at any load of the config."""

    output_tokens_per_s: float | None
    """None if unknown."""
    requests_per_s: float | None
    because: str
    """What it rests on, or why it is unknown."""

    def least_prices(self, usd_per_hour: float | None) -> tuple[float, float]:
        """The least that an option of this price can cost, in each of `race_points.BASES`; 0 where that is unknown."""
        per_request = usd_per_1k_requests(usd_per_hour, self.requests_per_s or 0.0)
        per_token = usd_per_1m_tokens(usd_per_hour, self.output_tokens_per_s or 0.0)
        return per_request or 0.0, per_token or 0.0


def most_of(option: OptionBase, config: BenchmarkConfig) -> Most:
    """The most that an option can serve, as far as it is known."""
    tokens_per_s, because = option.best_output_tokens_per_s, "stated as best_output_tokens_per_s"
    if tokens_per_s is None:
        tokens_per_s, because = _roofline_of(option, config)
    is_fixed = config.generation.fixed_output_length and option.request_api in APIS_WITH_SMALLEST_LENGTH
    if tokens_per_s is None or not is_fixed or LENGTH_KEYS & {*option.extra_body, *option.omit_body_keys}:
        return Most(tokens_per_s, None, because)
    return Most(tokens_per_s, tokens_per_s / config.generation.max_output_tokens, because)


def roofline(
    peak: Peak, accelerators: int, active_parameters: float, weight_bits: int, streams: float, tokens_per_step: int = 1
) -> float:
    """Output tokens per second that accelerators cannot exceed with `streams` requests in flight (inf: any number).

    min(streams x tokens_per_step x bandwidth / bytes of the weights that have to be read, operations per s / (2 x weights)).
    However the weights are divided or copied among the accelerators, they read no faster than all together.
    """
    read_bytes = max(active_parameters * weight_bits / 8 - accelerators * ON_CHIP_BYTES, 0.0)
    steps_per_s = accelerators * peak.bytes_per_s / read_bytes if read_bytes else math.inf
    by_compute = accelerators * peak.flops(weight_bits) / (2 * active_parameters)
    return min(streams * tokens_per_step * steps_per_s, by_compute)


def _roofline_of(option: OptionBase, config: BenchmarkConfig) -> tuple[float | None, str]:
    """Output tokens per second, None if unknown; and what that rests on."""
    container = getattr(option, "container", None)
    if not isinstance(option, SageMakerOption) or option.local or not isinstance(container, ModelContainer):
        return None, "unknown: best_output_tokens_per_s is not stated"
    instance, peak = instance_of(option.instance_type), peak_of(option.instance_type)
    tokens_per_step = container.most_tokens_per_step()
    if container.active_parameters_b is None:
        return None, "unknown: neither best_output_tokens_per_s nor container.active_parameters_b is stated"
    if peak is None or instance is None or not instance.count:
        return None, f"unknown: data/accelerators.csv does not have {option.instance_type}"
    if tokens_per_step is None:
        return None, "unknown: the container decodes speculatively, any number of tokens at a time"
    count, bits = instance.count * option.instance_count, container.fewest_weight_bits()
    streams = math.inf if any(level.is_open for level in config.load.levels()) else config.load.largest_level().value
    tokens_per_s = roofline(peak, count, container.active_parameters_b * 1e9, bits, streams, tokens_per_step)
    because = (
        f"roofline of {count} x {instance.accelerator} ({peak.bytes_per_s / 1e9:,.0f} GB/s, "
        f"{peak.flops(bits) / 1e12:,.0f} TFLOP/s each), {container.active_parameters_b:g} billion weights of {bits} bits"
    )
    if math.isfinite(streams):
        because += f", concurrency {streams:g}"
    return tokens_per_s, because + (f", {tokens_per_step} tokens a step" if tokens_per_step > 1 else "")


def cannot_win(least_prices: Sequence[float], highest: Sequence[float]) -> bool:
    """Does an option cost more than the leader may at most (`highest`), in each of `race_points.BASES`?"""
    return all(least > most for least, most in zip(least_prices, highest, strict=True))
