"""From a config whose options are imported to the request records, groups and ledger of a run folder.

Everything is read and checked before the run folder is made. What the files do not contain is noted in `import.json` and
becomes a warning in the report.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.file import LoadedConfig
from helpers.config.load import Search
from helpers.config.load_level import KIND_WORDS, LoadLevel
from helpers.config.options import ImportedOption
from helpers.config.strict import slug
from helpers.endpoints.pricing import price_of
from helpers.errors import ConfigError, ResultFileError
from helpers.importers.consistent import check_point
from helpers.importers.files import OpenedFile, find_files, only_model
from helpers.importers.formats import FORMATS, format_of
from helpers.importers.found import Found, FoundPoint, Served, TwoCounts
from helpers.importers.timed import records_of, with_window
from helpers.number_text import plural
from helpers.run.environment import describe_machine
from helpers.run.folder import RunFolder, write_atomically
from helpers.run.group_records import without_echo, write_groups
from helpers.run.ledger import EndpointRecord, Ledger
from helpers.run.records import Attempt, write_requests
from helpers.run.report_warning import ReportWarning

ORIGIN_FILE = "import.json"
LEFT_OUT = "Parts of the result files were left out: no figure contains them."
NOTHING_FITS = "its result files have nothing that the config asks for"
SCHEMA_VERSION = 1
COUNTS_ALIKE = 0.01


@dataclass
class Origin:
    """Where the results of one option come from, and what their files do not contain."""

    option: str
    format: str | None = None
    tools: list[str] = field(default_factory=list)
    files: list[dict[str, str | int]] = field(default_factory=list)
    """Name, bytes and SHA-256 of each."""
    unknown: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """Parts of the files that the config does not ask for, or that cannot be used."""
    model: str | None = None
    """The served model's id, as the config or the files name it; None where neither does."""
    deployment: str | None = None
    counts: TwoCounts | None = None
    """Output tokens by the tool and by the server, over all files that have both."""
    measured_from: str | None = None
    """ISO 8601, UTC; None where the files do not say."""
    measured_until: str | None = None


@dataclass(frozen=True)
class ReadOption:
    """What was read for one option: its load points, and what its files say about it."""

    option: ImportedOption
    points: list[tuple[Attempt, FoundPoint]]
    served: Served
    origin: Origin


# --- reading ------------------------------------------------------------------------------------------------------


def read_results(config: LoadedConfig) -> list[ReadOption]:
    """Read the result files of all options. Raises ConfigError or ResultFileError, with the file, place and next step."""
    benchmark = config.benchmark
    if not benchmark.imported:
        raise ConfigError(
            f"{config.path}: options: none has `target: imported`. Expected results of another tool. Next: "
            "`make report CONFIG=...` measures these options"
        )
    results = [_read_option(i, option, config) for i, option in enumerate(benchmark.options)]
    if not any(read.points for read in results):
        asked = benchmark.load.level_name
        if not isinstance(benchmark.load, Search):
            asked = ", ".join(level.label for level in benchmark.load.levels())
        found = [words for read in results for words in read.origin.left_out]
        raise ResultFileError(
            f"{config.path}: options: nothing in the result files fits the config. Expected {asked} on "
            f"{', '.join(dataset.name for dataset in benchmark.datasets)}; found: {'; '.join(found[:10])}. Next: correct "
            "`load`, `datasets` or `dataset_names`"
        )
    return results


def _read_option(index: int, option: ImportedOption, config: LoadedConfig) -> ReadOption:
    key = f"{config.path}: options[{index}]"
    origin = Origin(option.name)
    points: list[tuple[Attempt, FoundPoint]] = []
    served: list[Served] = []
    models: list[str | None] = []
    repetitions: Counter[tuple[str, LoadLevel]] = Counter()
    for file in find_files(option, key, config.path.parent):
        origin.format = format_of(file, option, key)
        found = FORMATS[origin.format].reader(file, option, config.benchmark)
        _refuse_other_instance(found, option, file, key)
        served.append(found.served)
        origin.files.append(_fingerprint(file))
        origin.left_out += found.left_out
        for one in found.points:
            where = _place(one, file, option, config.benchmark, key)
            if isinstance(where, str):
                origin.left_out += [where] if where not in origin.left_out else []
                continue
            check_point(one, where[1])
            point = Attempt(option.name, where[0], where[1], repetitions[where] + 1)
            kept = with_window(one, point)
            if isinstance(kept, str):
                origin.left_out.append(kept)
                continue
            repetitions[where] += 1
            points.append((point, kept))
            models.append(one.model or found.served.model)
            origin.unknown += [words for words in kept.unknown if words not in origin.unknown]
    origin.tools = sorted({one.tool for one in served})
    joined = replace(_joined(served), model=option.model or only_model(models, f"{key}.path", option))
    origin.model, origin.deployment = joined.model, joined.deployment
    _note_times(origin, [one for _, one in points])
    _note_counts(origin, [one.counts for _, one in points if one.counts])
    return ReadOption(option, points, joined, origin)


def _place(
    one: FoundPoint, file: OpenedFile, option: ImportedOption, config: BenchmarkConfig, key: str
) -> tuple[str, LoadLevel] | str:
    """Dataset and level of a load point, or the reason why the config does not ask for it."""
    datasets = [dataset.name for dataset in config.datasets_of(option)]
    name = file.entry.dataset or (option.dataset_names.get(one.dataset, one.dataset) if one.dataset else None)
    if name is None and len(datasets) > 1:
        raise ConfigError(
            f"{key}.path: {file.shown} names no dataset, and the option has {len(datasets)}. Expected one of: "
            f"{', '.join(datasets)}. Next: write the entry as {{path: {file.entry.path}, dataset: ...}}"
        )
    dataset = name or datasets[0]
    if dataset not in datasets:
        return f"{file.shown}: dataset {dataset!r}, which is not among the option's datasets"
    kind = config.load.level_kind
    level = LoadLevel(kind, file.entry.level) if file.entry.level is not None else one.level
    if level is None:
        raise ConfigError(
            f"{key}.path: {file.shown} does not state its load. Expected a level ({KIND_WORDS[kind].axis}). Next: write the "
            f"entry as {{path: {file.entry.path}, level: ...}}"
        )
    if level.kind != kind:
        return f"{one.where}: {level.label}, which does not fit load.kind: {kind}"
    if isinstance(config.load, Search):
        return dataset, level
    asked = [planned for planned in config.load.levels() if math.isclose(planned.value, level.value, rel_tol=1e-9)]
    return (dataset, asked[0]) if asked else f"{one.where}: {level.label}, which is not among the levels of `load`"


def _refuse_other_instance(found: Found, option: ImportedOption, file: OpenedFile, key: str) -> None:
    measured = found.served.instance_type
    if measured and measured != option.instance_type:
        raise ConfigError(
            f"{key}.instance_type: bad value {option.instance_type!r}: {file.shown} was measured on {measured}. Next: correct "
            "instance_type (prices depend on it), or `select` the rows of this option"
        )


def _fingerprint(file: OpenedFile) -> dict[str, str | int]:
    content = file.path.read_bytes()
    return {"path": file.path.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _joined(served: list[Served]) -> Served:
    """What the files of one option say, combined."""

    def values(name: str) -> str | None:
        return " and ".join(sorted({getattr(one, name) for one in served} - {None})) or None

    return Served(values("tool") or "", None, values("image"), values("instance_type"), values("deployment"))


def _note_times(origin: Origin, points: list[FoundPoint]) -> None:
    sent_ns = [request.sent_ns for one in points if one.wall_clock for request in one.requests]
    if sent_ns:
        first, last = (
            datetime.fromtimestamp(ns / 1e9, UTC).isoformat(timespec="seconds") for ns in (min(sent_ns), max(sent_ns))
        )
        origin.measured_from, origin.measured_until = first, last


def _note_counts(origin: Origin, counts: list[TwoCounts]) -> None:
    total = TwoCounts(sum(one.tool for one in counts), sum(one.server for one in counts))
    origin.counts = total if total.tool and total.server else None


# --- writing ------------------------------------------------------------------------------------------------------


def write_results(results: list[ReadOption], config: BenchmarkConfig, run: RunFolder) -> list[str]:
    """Write request records, groups, the ledger and import.json; returns one line per option for the user."""
    cap = config.generation.max_output_tokens if config.generation else None
    ledger = Ledger(run.ledger_file, run.run_id)
    said = []
    for read in results:
        for point, found in read.points:
            if found.requests:
                rows, facts = records_of(found, point, config)
                write_requests(run.requests / f"{point.id}.parquet", rows, facts)
            else:
                write_groups(run, point, [without_echo(group, cap) for group in found.groups])
        ledger.put(_endpoint(read, config))
        count = sum(len(found.requests) or sum(g.requests for g in found.groups) for _, found in read.points)
        said.append(
            f"{read.option.name}: {plural(len(read.points), 'load point')} of {plural(count, 'request')} from "
            f"{', '.join(read.origin.tools)}"
        )
    content = {"schema_version": SCHEMA_VERSION, "options": [asdict(read.origin) for read in results]}
    write_atomically(run.path / ORIGIN_FILE, json.dumps(content, indent=1) + "\n")
    return said


def _endpoint(read: ReadOption, config: BenchmarkConfig) -> EndpointRecord:
    """The ledger entry: what served the option, which this run neither made nor deletes."""
    option = read.option
    return EndpointRecord(
        option=option.name,
        target="imported",
        state="external",
        endpoint_name=slug(option.name),
        instance_type=option.instance_type,
        instance_count=option.instance_count,
        region=config.aws.region,
        image=read.served.image,
        model=read.served.model,
        failure=None if read.points else NOTHING_FITS,
        price=price_of(option, config.aws.region, describe_machine()["vcpus"]),
    )


# --- for the report -----------------------------------------------------------------------------------


def read_origins(run: RunFolder) -> list[Origin]:
    """Where each option's results come from; empty for a run that was measured here."""
    path = run.path / ORIGIN_FILE
    if not path.is_file():
        return []
    content = json.loads(path.read_text(encoding="utf-8"))["options"]
    return [Origin(**{**one, "counts": one["counts"] and TwoCounts(**one["counts"])}) for one in content]


def import_warnings(run: RunFolder) -> list[ReportWarning]:
    """What a reader must know of imported results: which tool, what its files lack, what was left out."""
    origins = read_origins(run)
    if not origins:
        return []
    sources = []
    for origin in origins:
        files = ", ".join(str(file["path"]) for file in origin.files)
        unknown = "; ".join(origin.unknown) or "nothing that matters here"
        sources.append((origin.option, f"{', '.join(origin.tools)} ({files}); not in the files: {unknown}"))
    left_out = [(origin.option, words) for origin in origins for words in origin.left_out]
    found = [
        ReportWarning(
            kind="imported",
            message="Nothing was measured here: these are results of other tools. What their files do not hold is unknown, and "
            "the load generator's checks of itself do not apply.",
            rows=_by_option(sources, len(origins)),
        )
    ]
    if left_out:
        rows = _by_option(left_out, len(origins))
        found.append(ReportWarning(kind="imported", message=LEFT_OUT, rows=rows))
    return found + _unknown_models(origins) + _two_counts(origins)


def _unknown_models(origins: list[Origin]) -> list[ReportWarning]:
    rows = [
        f"{one.option}: {f'the deployment is called {one.deployment}' if one.deployment else 'no name at all'}"
        for one in origins
        if one.model is None
    ]
    message = (
        "The result files do not name the model that these options served. It is assumed, but not verified, that all "
        "served the config's model: deployment names prove neither that models are the same nor that they differ. Next: write "
        "`model: ...` in each option."
    )
    return [ReportWarning(kind="unknown_model", message=message, rows=rows)] if rows else []


def _two_counts(origins: list[Origin]) -> list[ReportWarning]:
    """Where the tool and the server counted the same output tokens differently."""
    both = [(one.option, one.counts.tool, one.counts.server) for one in origins if one.counts]
    rows = [
        f"{option}: {tool:,} by the tool's tokenizer, {server:,} by the server; by the server's count the price per output "
        f"token is {tool / server:.2f} times the one given here"
        for option, tool, server in both
        if abs(tool - server) > COUNTS_ALIKE * server
    ]
    message = (
        "Output tokens were counted twice, with different results. Figures here use the tool's count, as its output does. Next: "
        "check its tokenizer, or export again with the server's count (AIPerf: --use-server-token-count)."
    )
    return [ReportWarning(kind="token_counts", message=message, rows=rows)] if rows else []


def _by_option(said: list[tuple[str, str]], options: int) -> list[str]:
    """One row for each statement, with the options to which it applies."""
    options_of: dict[str, list[str]] = {}
    for option, words in said:
        options_of.setdefault(words, []).append(option)
    return [
        f"{'All options' if 1 < len(names) == options else ', '.join(names)}: {words}"
        for words, names in options_of.items()
    ]
