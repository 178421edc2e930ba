"""Notebook 02: starts every endpoint that may exist at once, and follows them until the first is ready."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from helpers.config import BenchmarkConfig
from helpers.deployment import READY, UNDER_WAY, Deployment
from helpers.errors import BudgetExceeded, DeployError
from helpers.ledger import EndpointRecord, Ledger
from helpers.load_plan import missing_load_points
from helpers.run_folder import RunFolder
from helpers.teardown import delete_after_failure
from helpers.waiting import growing_pauses
from helpers.watchdog import guarded

OnChange = Callable[[list[EndpointRecord]], None]


def start_deployments(config: BenchmarkConfig, run: RunFolder, on_change: OnChange) -> list[EndpointRecord]:
    """Start every endpoint that may exist at once, and follow them until the first is ready; returns the ledger.

    `on_change` is called with all endpoints at every look. Options whose load points are all measured are left alone.
    An option that cannot be deployed is noted in the ledger, with its cause; DeployError is raised only if none came up,
    CredentialsError at once. Whatever stops it, everything in the ledger is deleted.
    """
    config.require_measured()
    ledger = Ledger(run.ledger_file, run.run_id)
    idle_timeout_s = None if config.endpoints.keep else config.endpoints.idle_timeout_s
    with guarded(run, "02_deploy_endpoints", idle_timeout_s), delete_after_failure(run):
        deployments = [Deployment(option, config, run, ledger) for option in config.options]
        for deployment in deployments:
            deployment.plan()
        wanted = [d for d in deployments if missing_load_points(d.option, config, run)]
        started = wanted[: config.endpoints.max_parallel_endpoints]
        with ThreadPoolExecutor(max(1, len(started)), thread_name_prefix="create") as pool:
            list(pool.map(Deployment.begin, started))
        _follow(started, config, ledger, on_change)
    on_change(ledger.records())
    return ledger.records()


def _follow(deployments: Sequence[Deployment], config: BenchmarkConfig, ledger: Ledger, on_change: OnChange) -> None:
    """Until one is ready. Raises DeployError where all have failed."""
    if not deployments:
        return
    for _ in growing_pauses():
        states = [deployment.step().state for deployment in deployments]
        on_change(ledger.records())
        if any(state in READY for state in states):
            return
        if not any(state in UNDER_WAY for state in states):
            failures = [record.failure for record in ledger.records() if record.failure]
            raise DeployError("no option could be deployed:\n" + "\n".join(failures))
        stay_within_budget(config, ledger)


def stay_within_budget(config: BenchmarkConfig, ledger: Ledger) -> None:
    """Raise BudgetExceeded if what the run has spent, as far as prices are known, has reached its budget."""
    budget, spent = config.budget_usd, ledger.cost_usd()
    if budget is not None and spent >= budget:
        raise BudgetExceeded(
            f"estimated spend ${spent:.2f} has reached budget_usd {budget:g}: endpoints are being deleted, finished "
            "load points are kept. Next: run 04 and 05 on what there is, or raise budget_usd and run 02 and 03 again"
        )
