"""What can be found out before a run: files, prompts, and one request to each server that exists. Makes nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from helpers.config.file import LoadedConfig
from helpers.endpoints import preflight
from helpers.endpoints.deployment import Deployment
from helpers.load.cluster import opened_cluster
from helpers.number_text import duration, plural
from helpers.prompts.making import make_prompts
from helpers.run.folder import scratch_run
from helpers.run.ledger import EndpointRecord, Ledger
from helpers.run.notices import check_channels
from helpers.run.prompt_files import write_prompts
from local_sagemaker.tiny_model import default_cache_dir


class Checked(NamedTuple):
    """What a check found, in lines for a terminal."""

    lines: list[str]
    is_well: bool


def check(config: LoadedConfig) -> Checked:
    """Read all files, draw the prompts, and send one request to each server that exists; makes no resource.

    Raises ConfigError, PromptError or, for a cluster, LoadError for what concerns all options; what concerns one is a line.
    """
    benchmark, base_dir = config.benchmark, config.path.parent
    of_trace = preflight.check_files(benchmark, base_dir)
    prompts = make_prompts(benchmark, base_dir, default_cache_dir())
    lines = [f"Files are there, and {plural(sum(map(len, prompts.tables.values())), 'prompt')} could be drawn."]
    with opened_cluster(benchmark.load.cluster) as cluster:
        lines += [] if cluster is None else [cluster.found()]
    lines += [*of_trace, *prompts.notes] + [f"Warning: {warning}" for warning in prompts.warnings]
    with scratch_run(config) as run:
        write_prompts(prompts.tables, run.payloads)
        ledger = Ledger(run.ledger_file, run.run_id)
        deployments = [Deployment(option, benchmark, run, ledger) for option in benchmark.options]
        states = [deployment.plan().state for deployment in deployments]
        with ThreadPoolExecutor(len(deployments)) as pool:
            list(pool.map(_ask_if_there, deployments, states))
        answers = {answer.option: answer for answer in preflight.first_answers(run)}
        records = ledger.records()
    lines += [_found(record, answers.get(record.option)) for record in records]
    channels = list(check_channels(benchmark.notify))
    lines += [line for line, _ in channels]
    return Checked(lines, not any(record.failure for record in records) and all(is_well for _, is_well in channels))


def _ask_if_there(deployment: Deployment, state: str) -> None:
    """Send a first request to a server that exists; what comes back is kept, a failure in the ledger."""
    if state == "external":
        deployment.answering_address()


def _found(record: EndpointRecord, answer: preflight.FirstAnswer | None) -> str:
    """What was found out about an option."""
    if record.failure:
        return record.failure
    if answer is None:
        return f"option {record.option!r}: is asked when its endpoint is in service, before its load."
    notes = "".join(f"; {note}" for note in answer.notes)
    return f"option {record.option!r}: answers after {duration(answer.latency_s)}. Sent: {answer.sent}{notes}."
