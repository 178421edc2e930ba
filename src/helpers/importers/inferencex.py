"""InferenceX (formerly InferenceMAX): `agg_*.json` of one benchmark, or a list of them.

InferenceX derives them from results of vLLM's benchmark client: latencies in seconds, token rates per GPU, and how the
model was served. They lack the counts (requests, failures, time, tokens); the client's results, in the same run's
artifacts, have them and are read as `vllm`.
"""

from __future__ import annotations

import re

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load_level import LoadLevel
from helpers.config.options import ImportedOption
from helpers.errors import ConfigError
from helpers.importers.files import OpenedFile, read_objects, selected
from helpers.importers.found import FAILURES, Found, FoundPoint, Served
from helpers.importers.printed import in_keys
from helpers.importers.rows import Row
from helpers.run.group_records import Group

TOOL = "InferenceX"
NEEDED = ("conc", "model", "tput_per_gpu", "output_tput_per_gpu")
NESTED = ("conc", "model", "metrics.tput_per_gpu", "metrics.output_tput_per_gpu")
PRINTED = re.compile(r"^(?P<name>p\d+(?:\.\d+)?|median)_(?P<metric>ttft|tpot|e2el)$")
COLUMN = {"ttft": "ttft_s", "tpot": "tpot_s", "e2el": "latency_s"}
UNKNOWN = (
    f"{FAILURES}: the client's own result, read as `vllm`, has it",
    "requests per second and the time that it took",
    "times and latencies of single requests",
    "whether a steady state was reached",
)


def read(file: OpenedFile, option: ImportedOption, config: BenchmarkConfig) -> Found:
    """One load point per result; `select` chooses by hardware, framework, precision, lengths and so on."""
    rows = [_flat(row) for row in read_objects(file, f"a result of {TOOL}", listed=True)]
    rows = selected(rows, option, file)
    for row in rows:
        row.require(NEEDED, f"a result of {TOOL} (agg_*.json)")
    if file.entry.requests is None:
        raise ConfigError(
            f"{file.shown}: does not state how many requests each result covers. Expected their number. Next: write the entry as "
            f"{{path: {file.entry.path}, requests: ...}} (InferenceX sends 10 per stream, as a rule)"
        )
    images = {row.optional_text("image") for row in rows} - {None}
    return Found(
        [_point(row, file.entry.requests) for row in rows], Served(TOOL, image=" and ".join(sorted(images)) or None)
    )


def _point(row: Row, requests: int) -> FoundPoint:
    mean_s = row.optional_number("mean_e2el")
    group = Group(
        requests=requests,
        failures=0,
        failures_known=False,
        wall_s=None,
        latency_mean_s=mean_s,
        prompt_tokens=None,
        output_tokens=None,
        source=row.where,
        reported=in_keys(row, PRINTED, COLUMN, 1.0) | _rates(row),
    )
    level = LoadLevel("closed_loop", row.number("conc"))
    return FoundPoint(row.where, None, level, groups=[group], unknown=UNKNOWN, model=row.optional_text("model"))


def _flat(row: Row) -> Row:
    """A result with its measurements at the top level: rows from the site have them in `metrics`."""
    return Row(row.where, {**row.values, **row.section("metrics").values})


def _rates(row: Row) -> dict[str, float]:
    """Tokens per second of the whole system.

    If some GPUs prefill and others decode, earlier versions divide the output by the decoding GPUs, later ones by all;
    the latter also have `output_tput_per_decode_gpu`.
    """
    decode = row.number("num_decode_gpu" if row.values.get("num_decode_gpu") else "tp")
    gpus = decode + (row.number("num_prefill_gpu") if _is_split(row) else 0.0)
    total, output = row.number("tput_per_gpu") * gpus, row.number("output_tput_per_gpu")
    by_all = not _is_split(row) or row.values.get("output_tput_per_decode_gpu") is not None
    output *= gpus if by_all else decode
    if output > total * (1 + 1e-6):
        row.refuse("output_tput_per_gpu", "at most as much output as tokens in all")
    return {"output_tokens_per_s": output, "prompt_tokens_per_s": max(0.0, total - output)}


def _is_split(row: Row) -> bool:
    """True if separate GPUs prefill and decode."""
    stated = row.values.get("disagg")
    return bool(row.values.get("num_prefill_gpu")) and (stated is None or str(stated).lower() == "true")
