"""What a load process is asked to do for an attempt: the config's settings and the server's address."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load import TraceReplay
from helpers.config.options import OptionBase
from helpers.config.strict import slug
from helpers.config.yaml import expanded
from helpers.load.address import Address
from helpers.load.messages import AttemptSpec, SessionSpec
from helpers.load.plan import Asked, asked_of, file_of
from helpers.metrics.single_requests import FOLDER, ONE_AT_A_TIME, SINGLE, single_requests_file
from helpers.run.folder import RunFolder
from helpers.run.prompt_files import are_of_a_trace, prompt_metadata
from helpers.run.records import Attempt


def attempt_spec(
    option: OptionBase, attempt: Attempt, address: Address, config: BenchmarkConfig, run: RunFolder
) -> AttemptSpec:
    """Of an attempt of the load."""
    asked = asked_of(attempt, option, config, run)
    return _spec(option, attempt, asked, file_of(attempt, run), address, config, run)


def single_request_specs(
    option: OptionBase, address: Address, config: BenchmarkConfig, run: RunFolder
) -> list[AttemptSpec]:
    """Of single requests to an option, one for each of its datasets."""
    load = ONE_AT_A_TIME.model_copy(update={"request_timeout_s": config.load.request_timeout_s})
    attempts = [Attempt(option.name, dataset.name, SINGLE, 1) for dataset in config.parts_of(option)]
    run.folder(FOLDER)
    files = [single_requests_file(option.name, attempt.dataset, run) for attempt in attempts]
    return [
        _spec(option, attempt, Asked(load, 1, 0.0), file, address, config, run, without_thinking=True)
        for attempt, file in zip(attempts, files, strict=True)
    ]


def _spec(
    option: OptionBase,
    attempt: Attempt,
    asked: Asked,
    file: Path,
    address: Address,
    config: BenchmarkConfig,
    run: RunFolder,
    without_thinking: bool = False,
) -> AttemptSpec:
    config_dir = Path(run.about()["config_dir"])
    tokenizer = config.tokenizer_of(option)
    prompts_file = run.payloads / f"{slug(attempt.dataset)}.parquet"
    return AttemptSpec(
        option=attempt.option,
        dataset=attempt.dataset,
        level=attempt.level,
        repetition=attempt.repetition,
        is_control=attempt.is_control,
        seed=config.seed,
        start_of_prompts=asked.start_of_prompts,
        address=address,
        load=asked.load,
        percentile=config.slo.percentile,
        fewest_independent=asked.fewest_independent,
        generation=config.generation,
        extra_body=option.extra_body,
        omit_body_keys=option.omit_body_keys,
        thinking_tags=option.thinking_tags,
        adapters=option.adapters,
        tokenizer=_absolute_folder(tokenizer, config_dir),
        prompts_file=str(prompts_file),
        prompt_tokens_column="prompt_tokens" if tokenizer == config.model.tokenizer else f"tokens:{tokenizer}",
        replays_lengths=isinstance(config.load, TraceReplay) and are_of_a_trace(prompts_file),
        sessions=_session_spec(attempt.dataset, prompts_file, config, without_thinking),
        base_dir=str(config_dir),
        output_file=str(file),
    )


def _session_spec(dataset: str, prompts: Path, config: BenchmarkConfig, without_thinking: bool) -> SessionSpec | None:
    """How conversations are sent; None where each prompt is a request of its own."""
    if config.conversations is None:
        return None
    changed = {"think_time_s": 0.0} if without_thinking else {}
    return SessionSpec(
        conversations=config.conversations.model_copy(update=changed),
        context_tokens=config.model.context_tokens,
        mean_turns=prompt_metadata(pq.read_schema(prompts))["turns_mean"],
        bins=next(each.bins for each in config.datasets if each.name == dataset),
    )


def _absolute_folder(tokenizer: str, base_dir: Path) -> str:
    """A tokenizer's folder as a path that any process finds; other names unchanged."""
    folder = base_dir / expanded(tokenizer)
    return str(folder.resolve()) if folder.is_dir() else tokenizer
