"""Notebook 03: serves each option as soon as it is ready, several at once where their servers are apart, within the budget.

Notebook 02 hands over through the ledger alone.
"""

from __future__ import annotations

from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait

from helpers.config.benchmark import BenchmarkConfig
from helpers.endpoints.deployments import no_option_left, stay_within_budget
from helpers.endpoints.judging import judge_answers
from helpers.endpoints.load_events import OnEvent
from helpers.endpoints.option_runner import OptionRunner
from helpers.endpoints.racing import lacks_limits, race_order, served_at_once
from helpers.endpoints.teardown import delete_after_failure, delete_remaining
from helpers.endpoints.watchdog import guarded
from helpers.load.calibration import calibrate
from helpers.load.cluster import opened_cluster
from helpers.load.plan import missing_attempts
from helpers.run.folder import RunFolder
from helpers.run.ledger import EndpointRecord, Ledger

BUDGET_LOOK_S = 2.0
UP = ("creating", "in_service")


def load_all(config: BenchmarkConfig, run: RunFolder, on_event: OnEvent) -> list[EndpointRecord]:
    """Run every missing load point and delete each endpoint when its load is done; returns the ledger.

    Options whose endpoint fails, or does not answer, are noted in the ledger and the others continue. Raises LoadError if a
    load process died, or the nodes of a cluster cannot be had, NoOptionLeft if nothing could be measured of any option,
    BudgetExceeded if the estimated spend reached the budget, CredentialsError where AWS credentials have expired, TeardownError
    for what could not be deleted. Whatever stops it, everything in the ledger is deleted; finished attempts stay on disk, and
    running this again continues with the missing ones.
    """
    config.require_measured()
    config = config.deployed()
    ledger = Ledger(run.ledger_file, run.run_id)
    with (
        guarded(run, "03_run_inference"),
        delete_after_failure(run),
        opened_cluster(config.load.cluster) as cluster,
    ):
        if not run.instrument_file.is_file() and any(missing_attempts(o, config, run) for o in config.options):
            calibrate(config, run, cluster)
        runner = OptionRunner(config, run, ledger, cluster, on_event)
        _serve_all(runner, config, run, ledger)
        if not config.endpoints.keep and ledger.remaining():
            delete_remaining(run)
        runner.cloudwatch.ask_again()
        judge_answers(config, run)
        if not any(run.requests.glob("*.parquet")):
            raise no_option_left(ledger)
    return ledger.records()


def _serve_all(runner: OptionRunner, config: BenchmarkConfig, run: RunFolder, ledger: Ledger) -> None:
    """Serve every option, starting with those whose endpoints are up, and watch the budget.

    Of a race that lacks its limit, one after the other until it is set.
    """
    in_order = race_order(config, run, ledger)
    waiting = sorted(in_order, key=lambda option: not _is_up(ledger.record(option.name)))
    with ThreadPoolExecutor(served_at_once(config), thread_name_prefix="option") as pool:
        pending: set[Future] = set()
        try:
            while waiting or pending:
                is_alone = lacks_limits(config, run)
                if not (is_alone and pending):
                    begun = waiting[:1] if is_alone else waiting
                    pending |= {pool.submit(runner.serve, option) for option in begun}
                    waiting = waiting[len(begun) :]
                done, pending = wait(pending, timeout=BUDGET_LOOK_S, return_when=FIRST_EXCEPTION)
                failed = next((f.exception() for f in done if f.exception() is not None), None)
                if failed is not None:
                    raise failed
                if pending:
                    stay_within_budget(config, ledger)
        except BaseException:
            runner.stop()
            for future in pending:
                future.cancel()
            raise


def _is_up(record: EndpointRecord | None) -> bool:
    return record is not None and record.state in UP
