"""What a run would make and cost, before anything is made: prices and quotas are read, no resource is created.

Minutes and dollars are upper bounds of what the config asks for, but for the time that a machine takes to start, which is
assumed; of a race there is an estimate beside them. Each row says what it rests on. Without credentials or a network, quotas are
unknown and prices are those at hand.
"""

from __future__ import annotations

import math
import re

from helpers.config.aws_regions import unknown_region_words
from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load import ROOM, Ramp, Search
from helpers.config.options import BedrockOption, Option, PythonOption, SageMakerOption
from helpers.config.secret_names import SECRET_NAME
from helpers.endpoints.pricing import price_of
from helpers.load.control import SHARE
from helpers.load.price_bound import most_of
from helpers.load.race_estimate import expected_load
from helpers.metrics.answers import samples_of
from helpers.metrics.control import is_controlled
from helpers.metrics.looks import looks_of, refuse_short_race
from helpers.metrics.sample_size import levels_of, rates_too_short, refuse_what_cannot_decide, requests_for_slo
from helpers.number_text import dollars, number, plural, significant
from helpers.price import Price
from helpers.report.columns import Column, numeric
from helpers.report.display import Table
from helpers.report.plan_dollars import dollars_of
from helpers.report.plan_judge import row_of_judge
from helpers.report.plan_machines import is_made_on_aws
from helpers.run.environment import describe_machine

LOCAL_STARTUP_MINUTES = 0.2
STARTUP_MINUTES = (
    (r"ml\.(inf|trn)", 20.0, "a Neuron machine"),
    (r"ml\.p", 15.0, "a machine of large GPUs"),
    (r"ml\.g", 10.0, "a GPU machine"),
    (r"ml\.", 6.0, "a CPU machine"),
)
"""Instance types -> assumed minutes from the create call to in service, image and weights included."""
EXPECTED = (
    numeric("expected_requests", "expected requests", decimals=0),
    numeric("expected_minutes", "expected, min", decimals=0),
    numeric("expected_usd", "expected, $", decimals=2),
)
"""Columns of what a race is expected to take."""


# --- endpoints, minutes, dollars ----------------------------------------------------------------------------------


def plan_table(config: BenchmarkConfig) -> Table:
    """Endpoints, load points, minutes and dollars at most, and what each estimate rests on.

    Raises ConfigError where no load point can hold the requests that the SLO asks for (`sample_size`).
    """
    refuse_what_cannot_decide(config)
    refuse_short_race(config)
    config = config.deployed()
    vcpus = describe_machine()["vcpus"]
    prices = {option.name: price_of(option, config.aws.region, vcpus) for option in config.options}
    rows = [_row(option, config, prices[option.name]) for option in config.options]
    is_raced = looks_of(config) is not None
    if is_raced:
        by_price = sorted(config.options, key=lambda option: _usd_per_hour(option, prices[option.name]))
        for row, option in zip(rows, config.options, strict=True):
            row |= _expected(option, by_price.index(option) + 1, config, prices[option.name], row["minutes"])
    if config.quality is not None and config.quality.judge is not None:
        rows.append(row_of_judge(config.quality.judge, config))
    worst = "at most" if is_raced else "estimate"
    columns = [
        "option",
        "makes",
        Column("instances", "instances"),
        numeric("points", "load points, at most" if isinstance(config.load, Search) else "load points", decimals=0),
        *(EXPECTED if is_raced else []),
        numeric("minutes", f"{worst}, min", decimals=0),
        "usd_per_option_hour",
        numeric("usd", f"{worst}, $", decimals=2),
        Column("source", "price from", wraps=True),
        *([Column("at_best", "at best", wraps=True)] if looks_of(config) else []),
        "basis",
    ]
    return Table(rows, columns, _caption(rows, config))


def _row(option: Option, config: BenchmarkConfig, price: Price | None) -> dict[str, object]:
    points = len(config.datasets_of(option)) * config.load.most_levels * config.load.repetitions
    startup, startup_basis = _startup_minutes(option)
    each = longest_point_s(config) / 60
    scored = 0 if config.quality is None else sum(samples_of(config).get(d.name, 0) for d in config.datasets_of(option))
    timeout_s = config.load.request_timeout_s
    pass_minutes = min(config.quality.max_duration_s + timeout_s, scored * timeout_s) / 60 if scored else 0.0
    minutes = startup + points * each + pass_minutes
    usd, usd_basis = dollars_of(option, config, price, minutes)
    most = "at most " if isinstance(config.load, Search) else ""
    quality_basis = (
        f"{plural(scored, 'request')} to score answers, at most {number(pass_minutes, 1)} min" if scored else ""
    )
    load_basis = f"{most}{plural(points, 'load point')} of at most {number(each, 1)} min"
    return {
        "option": option.name,
        "makes": _what_it_makes(option, config),
        "instances": f"{option.instance_count} x {option.instance_type}",
        "points": points,
        "minutes": minutes,
        "usd_per_option_hour": price and price.usd_per_option_hour(option.instance_count),
        "usd": usd,
        "source": "unknown" if price is None else price.origin,
        "at_best": _at_best(option, config, price) if looks_of(config) else None,
        "basis": "; ".join(filter(None, (startup_basis, load_basis, quality_basis, usd_basis))),
    }


def _at_best(option: Option, config: BenchmarkConfig, price: Price | None) -> str:
    """The most that an option can serve, the least that its tokens then cost, and what that rests on."""
    most = most_of(option, config)
    if most.output_tokens_per_s is None:
        return most.because
    _, usd = most.least_prices(price and price.usd_per_option_hour(option.instance_count))
    cost = f", {dollars(usd)} per 1M" if usd else ""
    return f"{significant(most.output_tokens_per_s)} output tokens/s{cost}: {most.because}"


def _usd_per_hour(option: Option, price: Price | None) -> float:
    """By which the options of a race come up; those without a price per hour come last."""
    usd = price and price.usd_per_option_hour(option.instance_count)
    return math.inf if usd is None else usd


def _expected(
    option: Option, place: int, config: BenchmarkConfig, price: Price | None, most_minutes: float
) -> dict[str, float | None]:
    """What a race is expected to take of the option that comes up as number `place` (`load.race_estimate`)."""
    load, (startup, _) = expected_load(option, place, config), _startup_minutes(option)
    minutes = None if load.seconds is None else min(startup + load.seconds / 60, most_minutes)
    usd, _ = dollars_of(option, config, price, minutes, load.requests)
    return {"expected_requests": load.requests, "expected_minutes": minutes, "expected_usd": usd}


def _caption(rows: list[dict[str, object]], config: BenchmarkConfig) -> str:
    total = sum(row["usd"] or 0.0 for row in rows)
    where = f" in {config.aws.region}" if any(map(_is_on_aws, config.options)) else ""
    is_raced = looks_of(config) is not None
    said = f"{'At most' if is_raced else 'Estimated'}: ${total:,.2f}{where}"
    options, judges = rows[: len(config.options)], rows[len(config.options) :]
    unknown = sum(row["usd"] is None for row in options)
    if unknown:
        said += f", without {plural(unknown, 'option')} whose cost is unknown"
    if any(row["usd"] is None for row in judges):
        said += f"{' and' if unknown else ','} without the judge, whose cost is unknown"
    if config.budget_usd and total > config.budget_usd:
        said += (
            f". That is above budget_usd {config.budget_usd:g}: when the spend reaches it, the run stops, deletes its "
            "endpoints and keeps finished load points"
        )
    elif config.budget_usd:
        said += f"; budget_usd is {config.budget_usd:g}"
    if config.endpoints.replicates > 1:
        said += (
            f". endpoints.replicates: each option on {config.endpoints.replicates} endpoints, of which each is a row"
        )
    for matrix in dict.fromkeys(option.from_matrix.option for option in config.options if option.from_matrix):
        made = {option.name for option in config.options if option.from_matrix and option.from_matrix.option == matrix}
        usd = sum(row["usd"] or 0.0 for row in rows if row["option"] in made)
        count = plural(len(made) // config.endpoints.replicates, "option")
        said += f". The matrix of {matrix!r} makes {count}, ${usd:,.2f} of it"
    unpriced = [str(row["option"]) for row in rows if row["usd"] is None and row["source"] == "unknown"]
    if config.budget_usd and unpriced:
        said += f". budget_usd cannot stop what has no price: {', '.join(unpriced)}. Next: give each its `price`"
    if config.job is not None:
        said += f". As a job (make submit), the machine that sends the load {config.job.cost_in_words()}"
    said += (
        f". Minutes: start-up, plus, for each load point, at most {_longest_s(config):g} s of load and, for the drain, "
        f"{config.load.request_timeout_s:g} s."
    )
    if any(is_controlled(option, config) for option in config.options):
        said += f" A control block at the end of an option's visit may add {SHARE:.0%} to its load (load.control)."
    if isinstance(config.load, Search):
        said += (
            f" The search has {len(config.load.levels())} levels: probes double from {config.load.lowest:g}, then halve the "
            f"bracket, and no more than {config.load.most_levels} levels of a dataset are measured."
        )
    if is_raced:
        said += f" {_race_words(options, config)}"
    if short := rates_too_short(config):
        needed = requests_for_slo(config.slo, levels_of(config))
        said += (
            f" At {' and '.join(f'{rate:g}' for rate in short)} requests/s, {config.load.max_duration_s:g} s are too short "
            f"to show the SLO, which takes {needed} requests or more: these load points stay undecided."
        )
    if config.load.kind == "open_loop" and not is_raced and config.slo.limits_s():
        highest = config.load.largest_level().value
        said += (
            f" The highest rate, {config.load.largest_level().label}, meets a latency limit for certain only where a higher one "
            f"is kept up with: to have {highest:g} recommended, add {math.ceil(100 * highest / ROOM) / 100:g} to load.rate."
        )
    if any(map(_is_on_aws, config.options)) and (unknown_region := unknown_region_words(config.aws.region)):
        said += f" {unknown_region}."
    billed_at_once = min(config.endpoints.max_parallel_endpoints, sum(is_made_on_aws(o) for o in config.options))
    if config.max_parallel_loads() < billed_at_once:
        said += (
            f" Up to {billed_at_once} endpoints exist at once and {config.max_parallel_loads()} are loaded at once: the "
            "time in which one waits, billed, for its turn is not in the estimate."
        )
    if any(_hands_over_a_secret(option) for option in config.options):
        said += (
            " Containers get secrets in their environment: whoever may call sagemaker:DescribeModel in the account can read "
            "them while the model exists."
        )
    return said


def _race_words(rows: list[dict[str, object]], config: BenchmarkConfig) -> str:
    """What a race is expected to take in all, and what that is worth."""
    requests = sum(row["expected_requests"] for row in rows)
    usd = [row["expected_usd"] for row in rows]
    money = f" and ${sum(usd):,.2f}" if None not in usd and sum(usd) else ""
    pace = "" if config.load.level_kind == "open_loop" else "Answers are taken to last as long as the SLO allows. "
    return (
        "Raced: that is the most, with every load point measured to its end. Expected, as an estimate: about "
        f"{number(requests)} requests{money}. A third of it or twice as much would be no surprise: nobody knows how many options "
        f"meet the SLO. {pace}The time in which an endpoint waits for its turn is not counted."
    )


def _hands_over_a_secret(option: Option) -> bool:
    """True where a container on AWS gets a token or another secret."""
    if not is_made_on_aws(option):
        return False
    given = option.container or option.jumpstart
    return bool(given.secrets or getattr(given, "hf_token", None) or any(map(SECRET_NAME.search, given.environment)))


def _what_it_makes(option: Option, config: BenchmarkConfig) -> str:
    kept = "kept when the run ends (endpoints.keep)" if config.endpoints.keep else "deleted when its load is done"
    if isinstance(option, SageMakerOption):
        if not option.deploy:
            part = f"inference component {option.inference_component} of " if option.inference_component else ""
            return f"nothing: {part}{option.endpoint_name} exists, and is left alone"
        return f"a local endpoint, {kept}" if option.local else f"model, endpoint config and endpoint, {kept}"
    if isinstance(option, PythonOption):
        return f"whatever {option.file} makes, {kept}"
    if isinstance(option, BedrockOption):
        return f"nothing: Bedrock serves it, {_tier_words(option)}"
    return "nothing"


def _tier_words(option: BedrockOption) -> str:
    """How Bedrock bills it, in words."""
    if option.provisioned:
        return "provisioned throughput"
    tier = option.service_tier or "default"
    return f"service tier {tier}" + ("" if tier == "default" else ": its price is not that of the default tier")


def _is_on_aws(option: Option) -> bool:
    return isinstance(option, BedrockOption) or (isinstance(option, SageMakerOption) and not option.local)


def _startup_minutes(option: Option) -> tuple[float, str]:
    """Minutes until an option can be loaded, and what they rest on; none for what runs already."""
    if isinstance(option, PythonOption):
        return 0.0, "its start-up is unknown and not counted"
    if not isinstance(option, SageMakerOption) or not option.deploy:
        return 0.0, ""
    if option.local:
        return LOCAL_STARTUP_MINUTES, f"{LOCAL_STARTUP_MINUTES:g} min assumed to start"
    minutes, kind = next(found for pattern, *found in STARTUP_MINUTES if re.match(pattern, option.instance_type))
    return minutes, f"{minutes:g} min assumed to start {kind}"


def longest_point_s(config: BenchmarkConfig) -> float:
    """Seconds of the longest load point, and of the time-out that its drain may take."""
    return _longest_s(config) + config.load.request_timeout_s


def _longest_s(config: BenchmarkConfig) -> float:
    return config.load.duration_s if isinstance(config.load, Ramp) else config.load.max_duration_s
