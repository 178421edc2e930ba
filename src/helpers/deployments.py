"""From options to endpoints to load: starts endpoints, loads each when it is ready, deletes each when its load is done.

Notebook 02 calls `start_deployments`, notebook 03 `load_all`. Between the two stands only the ledger.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from helpers.calibration import calibrate
from helpers.config import BenchmarkConfig, slug, usable_cpu_count
from helpers.errors import BudgetExceeded, DeployError, LoadError, ServingVerdictError
from helpers.ledger import EndpointRecord, Ledger, utc_now
from helpers.load.order import Order
from helpers.load.progress import LoadProgress
from helpers.load.team import LoadTeam
from helpers.load_plan import load_points_of, missing_load_points
from helpers.options import OptionBase
from helpers.records import LoadPoint
from helpers.run_folder import RunFolder
from helpers.targets.base import Address, Target, target_of
from helpers.teardown import delete_endpoint

POLL_S = 5.0
LOCAL_POLL_S = 0.1


@dataclass(frozen=True)
class LoadEvent:
    """Something that a progress display may show."""

    option: str
    state: str
    """`waiting`, `starting`, `loading`, `deleting`, `done` or `failed`."""
    points_done: int
    points_total: int
    detail: str = ""
    progress: LoadProgress | None = None
    """Of the load point under way; null where there is none."""


OnEvent = Callable[[LoadEvent], None]


# --- notebook 02 --------------------------------------------------------------------------------------------------


def start_deployments(
    config: BenchmarkConfig, run: RunFolder, on_change: Callable[[list[EndpointRecord]], None]
) -> list[EndpointRecord]:
    """Start every endpoint that may exist at once, and follow them until the first is ready; returns the ledger.

    `on_change` is called with all endpoints at every look. Options whose load points are all measured are left alone.
    An option that cannot be created is noted in the ledger; DeployError is raised only if none came up.
    """
    config.require_measured()
    ledger = Ledger(run.ledger_file, run.run_id)
    for option in config.options:
        if ledger.record(option.name) is None:
            ledger.put(target_of(option, config, run).plan())
    open_options = [o for o in config.options if missing_load_points(o, config, run)]
    started = open_options[: config.endpoints.max_parallel_endpoints]
    for option in started:
        _create(option, config, run, ledger)
        on_change(ledger.records())
    _wait_for_first(started, config, run, ledger, on_change)
    on_change(ledger.records())
    return ledger.records()


def _create(option: OptionBase, config: BenchmarkConfig, run: RunFolder, ledger: Ledger) -> None:
    """Create the endpoint of an option unless it is there; a failure is noted in the ledger.

    What an earlier attempt left (failed, vanished half made, or deleting when it was cut off) is deleted first.
    """
    target = target_of(option, config, run)
    record = _refresh(ledger.record(option.name), target, run, ledger)
    if record.state in ("creating", "in_service", "external"):
        return
    if record.may_exist:
        record = delete_endpoint(record, run, ledger)
    new = {"state": "creating", "create_called_at": utc_now(), "earlier_hours": record.billed_hours() or 0.0}
    ledger.put(target.plan().model_copy(update=new))
    try:
        target.create(ledger.record(option.name))
    except DeployError as error:
        ledger.update(option.name, state="failed", failure=str(error))


def _wait_for_first(
    options: Sequence[OptionBase],
    config: BenchmarkConfig,
    run: RunFolder,
    ledger: Ledger,
    on_change: Callable[[list[EndpointRecord]], None],
) -> None:
    waiting = {option.name: target_of(option, config, run) for option in options}
    while waiting:
        for name, target in list(waiting.items()):
            state = _refresh(ledger.record(name), target, run, ledger).state
            if state in ("in_service", "external"):
                return
            if state != "creating":
                del waiting[name]
        on_change(ledger.records())
        time.sleep(_poll_s(options))
    if options:
        failures = [record.failure for record in ledger.records() if record.failure]
        raise DeployError("no option could be deployed:\n" + "\n".join(failures))


def _refresh(record: EndpointRecord, target: Target, run: RunFolder, ledger: Ledger) -> EndpointRecord:
    """Bring the ledger's state of an endpoint up to date; of one that vanished, what is left is deleted."""
    if record.state not in ("creating", "in_service"):
        return record
    state, since, reason = target.status(record)
    if state == "in_service":
        return ledger.update(record.option, state=state, in_service_at=record.in_service_at or since)
    if state == "gone":
        delete_endpoint(record, run, ledger)
        return ledger.update(record.option, failure=f"option {record.option!r}: its endpoint was not there any more")
    if state == "failed":
        failure = f"option {record.option!r}: endpoint {record.endpoint_name} failed: {reason or 'no reason given'}"
        return ledger.update(record.option, state="failed", failure=failure)
    return record


def _poll_s(options: Sequence[OptionBase]) -> float:
    return LOCAL_POLL_S if all(getattr(option, "local", True) for option in options) else POLL_S


# --- notebook 03 --------------------------------------------------------------------------------------------------


def load_all(config: BenchmarkConfig, run: RunFolder, on_event: OnEvent) -> list[EndpointRecord]:
    """Run every missing load point and delete each endpoint when its load is done; returns the ledger.

    Options whose endpoint fails are noted in the ledger and the others go on. Raises LoadError if a load process died,
    BudgetExceeded if the estimated spend reached the budget; finished load points are on disk in either case, and
    running this again continues with what is missing.
    """
    config.require_measured()
    ledger = Ledger(run.ledger_file, run.run_id)
    if not run.instrument_file.is_file() and any(missing_load_points(o, config, run) for o in config.options):
        calibrate(config, run)
    campaign = _Campaign(config, run, ledger, on_event)
    created_first = sorted(config.options, key=lambda option: not _is_up(ledger.record(option.name)))
    with ThreadPoolExecutor(config.endpoints.max_parallel_endpoints, thread_name_prefix="option") as pool:
        futures: list[Future] = [pool.submit(campaign.serve, option) for option in created_first]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
            failed = next((f.exception() for f in futures if f.done() and f.exception() is not None), None)
            if failed is not None:
                raise failed
        except BaseException:
            campaign.stop()
            for future in futures:
                future.cancel()
            raise
    return ledger.records()


def _is_up(record: EndpointRecord | None) -> bool:
    return record is not None and record.state in ("creating", "in_service")


class _Campaign:
    """The load of all options of a run. One thread serves one option at a time: its place is the endpoint's."""

    def __init__(self, config: BenchmarkConfig, run: RunFolder, ledger: Ledger, on_event: OnEvent) -> None:
        self._config = config
        self._run = run
        self._ledger = ledger
        self._on_event = on_event
        self._load_places = threading.Semaphore(config.max_parallel_loads())
        self._stopping = threading.Event()
        self._teams: set[LoadTeam] = set()
        self._lock = threading.Lock()

    def stop(self) -> None:
        """End all load; the threads then delete their endpoints."""
        self._stopping.set()
        with self._lock:
            for team in self._teams:
                team.kill()

    def serve(self, option: OptionBase) -> None:
        """Deploy an option if it is not yet, run its missing load points, delete it."""
        tell = _Teller(option, self._config, self._run, self._on_event)
        if self._stopping.is_set() or not missing_load_points(option, self._config, self._run):
            tell("waiting" if self._stopping.is_set() else "done")
            return
        try:
            tell("starting")
            address = self._address_when_ready(option)
            if address is None:
                tell("failed", self._ledger.record(option.name).failure or "")
                return
            with self._load_places:
                self._run_points(option, address, tell)
            tell("deleting")
        finally:
            self._delete(option)
        tell("done")

    def _address_when_ready(self, option: OptionBase) -> Address | None:
        """The address of the endpoint once it is in service; null if it failed."""
        target = target_of(option, self._config, self._run)
        record = self._ledger.record(option.name) or self._ledger.put(target.plan())
        if _refresh(record, target, self._run, self._ledger).state == "failed":
            return None
        _create(option, self._config, self._run, self._ledger)
        deadline = time.monotonic() + getattr(option, "startup_timeout_s", 0) + 600
        while not self._stopping.is_set():
            record = _refresh(self._ledger.record(option.name), target, self._run, self._ledger)
            if record.state in ("in_service", "external"):
                return target.address(record)
            if record.state != "creating":
                return None
            if time.monotonic() > deadline:
                self._ledger.update(option.name, state="failed", failure=f"option {option.name!r}: not ready in time")
                return None
            time.sleep(_poll_s([option]))
        return None

    def _run_points(self, option: OptionBase, address: Address, tell: _Teller) -> None:
        with self._new_team(option) as team:
            try:
                while points := missing_load_points(option, self._config, self._run):
                    if self._stopping.is_set():
                        return
                    self._stay_within_budget()
                    point = points[0]
                    label = f"{point.dataset}, {point.level.label}"
                    team.run(
                        self._order(option, point, address),
                        lambda progress, label=label: tell.progress(label, progress),
                    )
                    tell("loading", label)
            except LoadError:
                if not self._stopping.is_set():
                    raise
            finally:
                with self._lock:
                    self._teams.discard(team)

    def _new_team(self, option: OptionBase) -> LoadTeam:
        """A team on CPUs that no other has: an even share of them for each endpoint that is loaded at once."""
        size = max(1, usable_cpu_count() // self._config.max_parallel_loads())
        with self._lock:
            taken = {place for team in self._teams for place in team.places}
            first = next(i for i in range(0, len(taken) + size, size) if not taken & set(range(i, i + size)))
            team = LoadTeam(self._run.logs / f"load-{slug(option.name)}.log", size, first)
            self._teams.add(team)
            return team

    def _order(self, option: OptionBase, point: LoadPoint, address: Address) -> Order:
        config = self._config
        tokenizer = config.tokenizer_of(option)
        config_dir = Path(self._run.about()["config_dir"])
        points = [p for p in load_points_of(option, config, self._run) if p.dataset == point.dataset]
        most = max(config.load.most_levels * config.load.repetitions, len(points))
        return Order(
            option=point.option,
            dataset=point.dataset,
            level=point.level,
            repetition=point.repetition,
            seed=config.seed,
            start_of_prompts=points.index(point) / most,
            address=address,
            load=config.load,
            percentile=config.slo.percentile,
            generation=config.generation,
            extra_body=option.extra_body,
            tokenizer=_absolute_folder(tokenizer, config_dir),
            prompts_file=str(self._run.payloads / f"{slug(point.dataset)}.parquet"),
            prompt_tokens_column="prompt_tokens" if tokenizer == config.model.tokenizer else f"tokens:{tokenizer}",
            base_dir=str(config_dir),
            output_file=str(self._run.requests / f"{point.id}.parquet"),
        )

    def _stay_within_budget(self) -> None:
        budget, spent = self._config.budget_usd, self._ledger.cost_usd()
        if budget is not None and spent >= budget:
            raise BudgetExceeded(
                f"estimated spend ${spent:.2f} has reached budget_usd {budget:g}: endpoints are being deleted, finished "
                "load points are kept. Next: run 04 and 05 on what there is, or raise budget_usd and run 03 again"
            )

    def _delete(self, option: OptionBase) -> None:
        record = self._ledger.record(option.name)
        if record is None or not record.may_exist or self._config.endpoints.keep:
            return
        try:
            delete_endpoint(record, self._run, self._ledger)
        except ServingVerdictError as error:
            self._ledger.update(option.name, failure=str(error))
            raise


def _absolute_folder(tokenizer: str, base_dir: Path) -> str:
    """A tokenizer's folder as a path that any process finds; other names as they are."""
    folder = base_dir / Path(tokenizer).expanduser()
    return str(folder.resolve()) if folder.is_dir() else tokenizer


class _Teller:
    """Tells what becomes of an option, with how many of its load points are measured."""

    def __init__(self, option: OptionBase, config: BenchmarkConfig, run: RunFolder, on_event: OnEvent) -> None:
        self._option, self._config, self._run, self._on_event = option, config, run, on_event
        self._done = self._total = 0

    def __call__(self, state: str, detail: str = "") -> None:
        points = load_points_of(self._option, self._config, self._run)
        missing = missing_load_points(self._option, self._config, self._run)
        self._done, self._total = len(points) - len(missing), len(points)
        self._on_event(LoadEvent(self._option.name, state, self._done, self._total, detail))

    def progress(self, label: str, progress: LoadProgress) -> None:
        """Tell of the load point under way."""
        self._on_event(LoadEvent(self._option.name, "loading", self._done, self._total, label, progress))
