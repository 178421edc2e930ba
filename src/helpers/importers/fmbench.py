"""FMBench's two tables: `all_metrics.csv` (one row per volley) and the per-request table.

FMBench sends `concurrency` requests at once and waits for the slowest before it sends the next ones. Its throughputs
are counts divided by the wall time of a volley, rounded to two decimals. Prompt tokens include those of failed requests;
output tokens are those of the answers. Latencies are in seconds.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load_level import LoadLevel
from helpers.config.options import ImportedOption
from helpers.errors import ResultFileError
from helpers.importers.files import OpenedFile, only_model, read_table, selected
from helpers.importers.found import Found, FoundPoint, Served
from helpers.importers.printed import in_keys
from helpers.importers.rows import Row, refuse
from helpers.run.group_records import Group

VOLLEY_COLUMNS = (
    "concurrency",
    "payload_file",
    "successes",
    "transactions",
    "all_prompts_token_count",
    "prompt_token_throughput",
    "all_completions_token_count",
)
REQUEST_COLUMNS = ("concurrency", "prompt_tokens", "completion_tokens", "latency")
LATENCY_COLUMNS = {"latency": "latency_s", "TTFT": "ttft_s", "TPOT": "tpot_s"}
PRINTED = re.compile(r"^(?P<metric>latency|TTFT|TPOT)_(?P<name>p\d+)$")
"""Percentiles within a volley, which later versions print."""
MODEL_COLUMNS = ("HF_MODEL_ID", "OPTION_MODEL_ID", "MODEL_ID")
"""Environment variables of the container that hold the model's id, unless it is a folder or in S3."""
CREATED_AT = re.compile(r"-\d{4}(-\d{2}){5}-\d{3}$")
"""SageMaker's SDK appends the creation time to a model's name."""
MEASURED_IN_VOLLEYS = "times of single requests (sums and means per volley are known)"
STEADY = "whether a steady state was reached"
LENGTHS_OF_FAILED = "the prompt tokens of the answers alone (failed requests of a volley are taken to have as many)"


def read_volleys(file: OpenedFile, option: ImportedOption, config: BenchmarkConfig) -> Found:
    """The volleys of `all_metrics.csv`, one load point per payload file and concurrency."""
    rows = _of_one_experiment(
        selected(read_table(file, VOLLEY_COLUMNS, "FMBench's all_metrics.csv"), option, file), file
    )
    points: dict[tuple[str, float], list[Group]] = defaultdict(list)
    for row in rows:
        points[str(row.values["payload_file"]), row.number("concurrency")].append(_volley(row))
    unknown = (MEASURED_IN_VOLLEYS, "TTFT and TPOT", "the order of the volleys", STEADY)
    return Found(_points(points, file, unknown, (LENGTHS_OF_FAILED,)), _served(rows, file, option))


def _points(
    groups_at: Mapping[tuple[str, float], list[Group]],
    file: OpenedFile,
    unknown: tuple[str, ...],
    unknown_of_failed: tuple[str, ...] = (),
) -> list[FoundPoint]:
    """The load points of groups by payload file (or dataset) and concurrency."""
    return [
        FoundPoint(
            where=f"{file.shown}: {payload}, concurrency {concurrency:g}",
            dataset=_without_affixes(payload),
            level=LoadLevel("closed_loop", concurrency),
            groups=groups,
            unknown=(*unknown, *(unknown_of_failed if any(group.failures for group in groups) else ())),
        )
        for (payload, concurrency), groups in groups_at.items()
    ]


def _volley(row: Row) -> Group:
    requests, successes = row.count("transactions"), row.count("successes")
    if successes > requests:
        refuse(f"{row.where}: successes", successes, f"at most the {requests} transactions")
    sent_tokens = row.optional_count("all_prompts_token_count")
    per_minute = row.optional_number("transactions_per_minute")
    reported = in_keys(row, PRINTED, LATENCY_COLUMNS, 1.0)
    mean_s = row.optional_number("latency_mean")
    if mean_s is None and successes == 1:  # later versions print percentiles only
        mean_s = reported.get("latency_s_p50")
    if successes and mean_s is None and not reported:
        row.number("latency_mean")
    return Group(
        requests=requests,
        failures=requests - successes,
        wall_s=_wall_s(row, sent_tokens),
        latency_mean_s=mean_s if successes else None,
        prompt_tokens=None if sent_tokens is None or not requests else round(sent_tokens * successes / requests),
        output_tokens=row.optional_count("all_completions_token_count"),
        source=row.where,
        sent_together=True,
        latency_s=[mean_s] if successes == 1 and mean_s is not None else None,
        reported=reported if successes else {},
        reported_requests_per_s=None if per_minute is None else per_minute / 60,
    )


def _wall_s(row: Row, prompt_tokens: float | None) -> float | None:
    """Wall time of a volley: its prompt tokens divided by their throughput; None if the file lacks them."""
    throughput = row.optional_number("prompt_token_throughput")
    return prompt_tokens / throughput if prompt_tokens and throughput else None


def read_requests(file: OpenedFile, option: ImportedOption, config: BenchmarkConfig) -> Found:
    """The requests of the per-request table. It has latencies but no times, so each request is a separate group."""
    rows = selected(read_table(file, REQUEST_COLUMNS, "FMBench's per-request table"), option, file)
    rows = _of_one_experiment(rows, file)
    points: dict[tuple[str, float], list[Group]] = defaultdict(list)
    left_out = 0
    for row in rows:
        dataset = _dataset_of(row, option, config)
        if dataset is None:
            left_out += 1
        else:
            points[dataset, row.number("concurrency")].append(_request(row))
    unknown = ("when requests were sent, and so throughput, price and requests in flight", "their order", STEADY)
    note = f"{file.shown}: {left_out} requests whose prompts lie in no dataset's bin, or have no length"
    return Found(_points(points, file, unknown), _served(rows, file, option), [note] if left_out else [])


def _request(row: Row) -> Group:
    latency, output = row.optional_number("latency"), row.optional_count("completion_tokens")
    failed = latency is None or output is None
    ttft = None if failed else row.optional_number("time_to_first_token")
    last = None if failed else row.optional_number("time_to_last_token")
    tpot = None
    if ttft is not None and last is not None and output >= 2:
        tpot = (last - ttft) / (output - 1)
    return Group(
        requests=1,
        failures=int(failed),
        wall_s=None,
        latency_mean_s=None if failed else latency,
        prompt_tokens=None if failed else row.optional_count("prompt_tokens"),
        output_tokens=None if failed else output,
        source=row.where,
        latency_s=None if failed else [latency],
        ttft_s=None if ttft is None else [ttft],
        tpot_s=None if tpot is None else [tpot],
    )


def _dataset_of(row: Row, option: ImportedOption, config: BenchmarkConfig) -> str | None:
    """The payload file if the table names it (later versions do), else the bin of the prompt's length."""
    if row.values.get("payload_file"):
        return _without_affixes(str(row.values["payload_file"]))
    tokens = row.optional_number("prompt_tokens")
    if tokens is None:  # a request that failed before its tokens were counted
        return None
    bins = [d.name for d in config.datasets_of(option) if d.prompt_tokens[0] <= tokens < d.prompt_tokens[1]]
    if len(bins) > 1:
        raise ResultFileError(
            f"{row.where}: prompt_tokens: a prompt of {tokens:g} tokens lies in the bins of {' and '.join(bins)}, and the file "
            "names no payload. Expected bins that do not overlap. Next: name the datasets of this file in the option's "
            "`datasets`"
        )
    return bins[0] if bins else None


def _of_one_experiment(rows: list[Row], file: OpenedFile) -> list[Row]:
    names = sorted({str(row.values.get("experiment_name")) for row in rows})
    if len(names) > 1:
        raise ResultFileError(
            f"{file.shown}: experiment_name: holds {len(names)} experiments. Expected one per option. Next: write "
            f"`select: {{experiment_name: ...}}` with one of: {', '.join(names)}"
        )
    return rows


def _without_affixes(payload: str) -> str:
    """The dataset of a payload file: FMBench calls the file of en_1-500 `payload_en_1-500.jsonl`."""
    return payload.removesuffix(".jsonl").removeprefix("payload_")


def _served(rows: list[Row], file: OpenedFile, option: ImportedOption) -> Served:
    """What served one experiment. SageMaker's ModelName is the deployment's name, not a model id."""

    def values(column: str) -> str | None:
        held = sorted({row.optional_text(column) for row in rows} - {None})
        return " and ".join(held) or None

    ids = {row.optional_text(column) for row in rows for column in MODEL_COLUMNS} - {None}
    ids = {name for name in ids if not name.startswith(("/", "s3:"))}
    deployment = values("ModelName")
    return Served(
        tool="FMBench",
        model=only_model(ids, file.shown, option),
        image=values("Image"),
        instance_type=values("instance_type"),
        deployment=deployment and CREATED_AT.sub("", deployment),
    )
