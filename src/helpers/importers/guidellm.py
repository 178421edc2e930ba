"""GuideLLM's `benchmarks.json`: several benchmarks, each with its requests, or with a sample of them and statistics.

Times are wall-clock seconds. A benchmark's warm-up and cool-down lie outside its start and end time.
"""

from __future__ import annotations

import re
from dataclasses import replace

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load_level import LoadLevel
from helpers.config.options import ImportedOption
from helpers.errors import ResultFileError
from helpers.importers.files import OpenedFile, read_objects
from helpers.importers.found import CUT_OFF, Found, FoundPoint, Served, TimedRequest
from helpers.importers.guidellm_early import in_later_shape
from helpers.importers.rows import Row, nanoseconds
from helpers.run.group_records import Group

REPORT = "GuideLLM's benchmarks.json"
HTTP_ERROR = re.compile(r"(?:Client|Server) error '([45]\d\d)\b")
RATES = ("constant", "poisson")
METRICS = {"request_latency": ("latency_s", 1.0), "time_to_first_token_ms": ("ttft_s", 1e-3)}
METRICS |= {"inter_token_latency_ms": ("tpot_s", 1e-3)}


def read(file: OpenedFile, option: ImportedOption, config: BenchmarkConfig) -> Found:
    """One load point per benchmark with a fixed load; a sweep's full-throughput run has none."""
    report = read_objects(file, REPORT)[0]
    benchmarks = [in_later_shape(one) for one in report.objects("benchmarks", f"{file.shown}: benchmarks")]
    if not benchmarks:
        raise ResultFileError(
            f"{report.where}: no key 'benchmarks' with a list. Expected {REPORT}. Next: correct `format` or `path` in the config"
        )
    points, left_out = [], []
    for row in benchmarks:
        strategy = _strategy(row)
        level = _level(strategy)
        if level is None and file.entry.level is None:
            left_out.append(
                f"{row.where}: its load is {strategy.values.get('type_') or 'unknown'}, which has no fixed level"
            )
        else:
            points.append(replace(_point(row, level), model=_model(row, report)))
    return Found(points, _served(report), left_out)


def _strategy(row: Row) -> Row:
    strategy = row.section("config", "strategy")
    if not strategy.values:
        raise ResultFileError(
            f"{row.where}: no key 'config.strategy'. Expected {REPORT} of version 0.2 or later. Next: export again"
        )
    kind = strategy.values.get("type_") or strategy.values.get("kind")
    return Row(strategy.where, {**strategy.values, "type_": kind})


def _level(strategy: Row) -> LoadLevel | None:
    kind = strategy.values["type_"]
    if kind == "synchronous":
        return LoadLevel("closed_loop", 1)
    if kind == "concurrent":
        return LoadLevel("closed_loop", strategy.optional_number("streams") or strategy.number("max_concurrency"))
    if kind in RATES:
        return LoadLevel("open_loop", strategy.number("rate"))
    streams = strategy.optional_number("max_concurrency")
    return LoadLevel("closed_loop", streams) if kind == "throughput" and streams else None


def _point(row: Row, level: LoadLevel | None) -> FoundPoint:
    listed = row.section("requests")
    of_status = {
        status: listed.objects(status, f"{row.where}.requests.{status}")
        for status in ("successful", "incomplete", "errored")
    }
    measured = row.section("metrics", "request_totals").optional_count("successful")
    if measured is None or 0 < len(of_status["successful"]) >= measured:
        rows = [(status, one) for status, items in of_status.items() for one in items]
        times = row.optional_number("start_time"), row.optional_number("end_time")
        requests = [_request(one, status, times, level) for status, one in rows if not _never_sent(one, status)]
        unknown = ("chunks of the answers", "who counted the tokens")
        return FoundPoint(row.where, None, level, requests=requests, unknown=unknown, wall_clock=True)
    unknown = (
        f"times and latencies of single requests (of {measured:g} the file lists {len(of_status['successful'])})",
        "whether a steady state was reached",
        "who counted the tokens",
    )
    return FoundPoint(row.where, None, level, groups=[_group(row)], unknown=unknown)


def _never_sent(row: Row, status: str) -> bool:
    """Still queued when the benchmark ended."""
    timings = row.section("info", "timings")
    return status == "incomplete" and timings.optional_number("request_start") is None


def _request(
    row: Row, status: str, measured_s: tuple[float | None, float | None], level: LoadLevel | None
) -> TimedRequest:
    info = row.section("info")
    timings = info.section("timings")
    sent_s = timings.optional_number("request_start")
    if sent_s is None:
        sent_s = timings.optional_number("resolve_start")
    end_s = timings.optional_number("request_end")
    if end_s is None:
        end_s = timings.optional_number("resolve_end")
    if sent_s is None or (end_s is None and status != "incomplete"):
        raise ResultFileError(
            f"{row.where}: info.timings.request_{'start' if sent_s is None else 'end'}: there is no value. Expected {REPORT} of "
            "version 0.4 or later. Next: export again"
        )
    ok, error = status == "successful", info.optional_text("error") or "no reason is given"
    answered = None if ok else HTTP_ERROR.search(error)
    first_s, last_s = (timings.optional_number(f"{which}_token_iteration") for which in ("first", "last"))
    targeted_s = timings.optional_number("targeted_start") if level is not None and level.is_open else None
    return TimedRequest(
        sent_ns=nanoseconds(sent_s),
        done_ns=None if status == "incomplete" else nanoseconds(end_s),
        scheduled_ns=nanoseconds(targeted_s),
        first_token_ns=nanoseconds(first_s) if ok else None,
        last_token_ns=nanoseconds(end_s if last_s is None else last_s) if ok else None,
        request_id=row.optional_text("request_id"),
        prompt_tokens=row.optional_count("prompt_tokens"),
        output_tokens=row.optional_count("output_tokens") if ok else None,
        error_type=None if ok else CUT_OFF if status == "incomplete" else "request_error",
        error=None if ok else error,
        http_status=int(answered[1]) if answered else None,
        measured=all(
            (measured_s[0] is None or sent_s >= measured_s[0], measured_s[1] is None or sent_s < measured_s[1])
        ),
    )


def _group(row: Row) -> Group:
    """The statistics of a benchmark whose file does not list every request."""
    metrics = row.section("metrics")
    totals = metrics.section("request_totals")
    successes, failures = totals.count("successful"), totals.optional_count("errored") or 0
    reported = {}
    for key, (column, factor) in METRICS.items():
        block = metrics.section(key, "successful")
        values = {name: block.optional_number(name) for name in ("min", "max")}
        values |= {f"p{p}": block.section("percentiles").optional_number(f"p{p:02d}") for p in (50, 75, 90, 95, 99)}
        reported |= {f"{column}_{name}": value * factor for name, value in values.items() if value is not None}
    return Group(
        requests=successes + failures,
        failures=failures,
        wall_s=row.optional_number("duration"),
        latency_mean_s=metrics.section("request_latency", "successful").optional_number("mean"),
        prompt_tokens=_sum(metrics, "prompt_token_count"),
        output_tokens=_sum(metrics, "output_token_count"),
        source=row.where,
        reported=reported if successes else {},
        reported_requests_per_s=metrics.section("requests_per_second", "successful").optional_number("mean"),
    )


def _sum(metrics: Row, key: str) -> int | None:
    return metrics.section(key, "successful").optional_count("total_sum")


def _model(benchmark: Row, report: Row) -> str | None:
    """The benchmark's model, else the report's."""
    own = benchmark.section("config", "backend").optional_text("model")
    return own or report.section("args").optional_text("model")


def _served(report: Row) -> Served:
    version = report.section("metadata").optional_text("guidellm_version")
    return Served(f"GuideLLM {version}" if version else "GuideLLM")
