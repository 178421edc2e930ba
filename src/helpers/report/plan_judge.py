"""What it would cost to have answers judged, for the plan."""

from __future__ import annotations

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.quality import Judge
from helpers.endpoints.judging import PROMPT
from helpers.metrics.answers import samples_of
from helpers.number_text import number, plural

LEAST_CHARACTERS = 3
"""Of a token of the judge's instructions; most have more."""


def row_of_judge(judge: Judge, config: BenchmarkConfig) -> dict[str, object]:
    """The row of the plan: each answer is judged twice, and no question or answer is longer than the config allows."""
    most_answer = config.quality.max_output_tokens or config.generation.max_output_tokens
    around, shares = -(-len(PROMPT + judge.rubric) // LEAST_CHARACTERS) + 2 * most_answer, samples_of(config)
    datasets = [d for o in config.options if o.replicate in (None, 1) for d in config.datasets_of(o)]
    answers = sum(shares.get(dataset.name, 0) for dataset in datasets)
    read = 2 * sum(shares.get(dataset.name, 0) * (around + dataset.prompt_tokens[1]) for dataset in datasets)
    written = 2 * answers * judge.max_output_tokens
    price, basis = judge.as_price(), f"twice each of {plural(answers, 'answer')}, when all load is over; "
    if price is None:
        usd, basis = None, f"{basis}no price is known: quality.judge.model has none"
    elif price.is_per_token:
        usd = price.usd_of_tokens(read, written)
        basis += f"at most {number(read)} tokens in and {number(written)} out, if references are no longer than answers may be"
    else:
        usd, basis = 0.0, f"{basis}it runs already: the run adds nothing to its bill"
    source = price.origin if price else "unknown"
    makes = "nothing: it judges answers"
    return {
        "option": judge.model.name,
        "makes": makes,
        "usd": usd,
        "expected_usd": usd,
        "source": source,
        "basis": basis,
    }
