"""Notebook 02: asks servers that exist one request each, starts every endpoint that may exist at once, and follows them
until the first is ready.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import psutil

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.options import OptionBase
from helpers.endpoints.deployment import UNDER_WAY, Deployment
from helpers.endpoints.quality_pass import lacks_answers
from helpers.endpoints.racing import first_endpoints, race_order
from helpers.endpoints.targets.execution_role import PROCESSING_JOB
from helpers.endpoints.teardown import delete_after_failure
from helpers.endpoints.waiting import growing_pauses
from helpers.endpoints.watchdog import guarded
from helpers.errors import BudgetExceeded, NoOptionLeft
from helpers.load.plan import missing_attempts
from helpers.run.folder import RunFolder
from helpers.run.ledger import READY, EndpointRecord, Ledger

OnChange = Callable[[list[EndpointRecord]], None]


def start_deployments(config: BenchmarkConfig, run: RunFolder, on_change: OnChange) -> list[EndpointRecord]:
    """Start every endpoint that may exist at once, and follow them until the first is ready; returns the ledger.

    `on_change` is called with all endpoints at every look. Options whose load points are all measured are left alone.
    Servers that exist are asked first, so that no endpoint is made where nothing could be measured. An option that cannot
    be deployed, or does not answer, is noted in the ledger, with its cause; NoOptionLeft is raised only if that is so of all,
    CredentialsError at once. Whatever stops it, everything in the ledger is deleted.
    """
    config.require_measured()
    config = config.deployed()
    ledger = Ledger(run.ledger_file, run.run_id)
    idle_timeout_s = None if config.endpoints.keep else config.endpoints.idle_timeout_s
    with guarded(run, "02_deploy_endpoints", idle_timeout_s), delete_after_failure(run):
        deployments = [Deployment(option, config, run, ledger) for option in config.options]
        there = [d for d in deployments if d.plan().state == "external"]
        by_name = {d.option.name: d for d in deployments}
        order = race_order(config, run, ledger)  # now that prices are in the ledger
        in_order = [by_name[option.name] for option in order]
        wanted = [d for d in in_order if _is_wanted(d.option, config, run, ledger)]
        silent = _silent([d for d in there if d in wanted])
        usable = [d for d in wanted if d not in silent]
        started = usable[: first_endpoints(config)]
        with ThreadPoolExecutor(max(1, len(started)), thread_name_prefix="create") as pool:
            list(pool.map(Deployment.begin, started))
        is_up = _follow(started, config, ledger, on_change)
        if wanted and not is_up and len(started) == len(usable):
            raise no_option_left(ledger)
    on_change(ledger.records())
    return ledger.records()


def _is_wanted(option: OptionBase, config: BenchmarkConfig, run: RunFolder, ledger: Ledger) -> bool:
    return bool(missing_attempts(option, config, run)) or lacks_answers(option, config, run, ledger)


def _silent(deployments: Sequence[Deployment]) -> list[Deployment]:
    """Those that do not answer a first request, all asked at once; why is noted in the ledger."""
    with ThreadPoolExecutor(max(1, len(deployments)), thread_name_prefix="ask") as pool:
        addresses = list(pool.map(Deployment.answering_address, deployments))
    return [d for d, address in zip(deployments, addresses, strict=True) if address is None]


def no_option_left(ledger: Ledger) -> NoOptionLeft:
    """The error to raise where every option has failed: the failure of each."""
    failures = [record.failure for record in ledger.records() if record.failure]
    return NoOptionLeft("no option can be measured:\n" + "\n".join(failures))


def _follow(deployments: Sequence[Deployment], config: BenchmarkConfig, ledger: Ledger, on_change: OnChange) -> bool:
    """Until one is ready; false where all have failed."""
    pauses = growing_pauses()
    while True:
        next(pauses)
        states = [deployment.step().state for deployment in deployments]
        on_change(ledger.records())
        is_up = any(state in READY for state in states)
        if is_up or not any(state in UNDER_WAY for state in states):
            return is_up
        stay_within_budget(config, ledger)


def stay_within_budget(
    config: BenchmarkConfig,
    ledger: Ledger,
    but: str = "endpoints are being deleted, finished load points are kept",
) -> None:
    """Raise BudgetExceeded if what the run has spent, as far as prices are known, has reached its budget."""
    budget, machine = config.budget_usd, _job_usd(config)
    spent = ledger.cost_usd() + machine
    if budget is not None and spent >= budget:
        of_it = f" (${machine:.2f} of it for the machine of this job)" if machine else ""
        raise BudgetExceeded(
            f"estimated spend ${spent:.2f}{of_it} has reached budget_usd {budget:g}: {but}. "
            "Next: run 04 and 05 on what there is, or raise budget_usd and run 02 and 03 again"
        )


def _job_usd(config: BenchmarkConfig) -> float:
    """What the machine of the job in which this runs has cost so far, $; 0 where it is none, or its price is unknown."""
    if config.job is None or config.job.usd_per_hour is None or not PROCESSING_JOB.is_file():
        return 0.0
    hours = (time.time() - psutil.Process(1).create_time()) / 3600  # since the container began
    return hours * config.job.usd_per_hour
