"""Notebook 03: loads each option as soon as it is ready, deletes its endpoint when its load is done, starts the next.

Between notebook 02 and this stands only the ledger.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from helpers.config.benchmark import BenchmarkConfig, slug, usable_cpu_count
from helpers.config.options import OptionBase
from helpers.config.yaml import expanded
from helpers.endpoints.deployment import READY, UNDER_WAY, Deployment
from helpers.endpoints.deployments import no_option_left, stay_within_budget
from helpers.endpoints.failures import CREDENTIAL_CODES, NEXT_STEP, Cause
from helpers.endpoints.no_answer import NoAnswer
from helpers.endpoints.racing import endpoints_at_once, note_leave, race_order
from helpers.endpoints.teardown import delete_after_failure, delete_endpoint, delete_remaining
from helpers.endpoints.waiting import growing_pauses
from helpers.endpoints.watchdog import guarded
from helpers.errors import CredentialsError, LoadError, TeardownError
from helpers.load.address import Address
from helpers.load.calibration import calibrate
from helpers.load.order import Order
from helpers.load.plan import asked_of, load_points_of, missing_load_points
from helpers.load.progress import LoadProgress
from helpers.load.team import LoadTeam
from helpers.metrics.looks import looks_of
from helpers.metrics.single_requests import run_single_requests, single_request_order
from helpers.number_text import plural
from helpers.run.folder import RunFolder
from helpers.run.ledger import EndpointRecord, Ledger
from helpers.run.records import LoadPoint, Silence, error_types, set_aside, silence_at_end, tokens_of

BUDGET_LOOK_S = 2.0
MOST_REPEATS = 2
"""Times that a load point which lost its server is run again."""
MAY_PASS = (
    NoAnswer.HOST,
    NoAnswer.PORT,
    NoAnswer.NETWORK,
    NoAnswer.TLS,
    NoAnswer.TIMEOUT,
    NoAnswer.BROKEN,
    NoAnswer.SERVER,
)
"""Why a single request has no answer while a server restarts, or a network is away."""
MOST_NAMED = 5
"""Load points that a message names."""
UP = ("creating", "in_service")


@dataclass(frozen=True)
class LoadEvent:
    """Something that a progress display may show."""

    option: str
    state: str
    """`not begun`, `waiting`, `starting`, `loading`, `stopping`, `deleting`, `done`, `stopped` or `failed`."""
    points_done: int
    points_total: int
    detail: str = ""
    progress: LoadProgress | None = None
    """Of the load point under way; null where there is none."""


OnEvent = Callable[[LoadEvent], None]


def load_all(config: BenchmarkConfig, run: RunFolder, on_event: OnEvent) -> list[EndpointRecord]:
    """Run every missing load point and delete each endpoint when its load is done; returns the ledger.

    Options whose endpoint fails, or does not answer, are noted in the ledger and the others go on. Raises LoadError if a
    load process died, NoOptionLeft if nothing could be measured of any option, BudgetExceeded if the estimated spend reached
    the budget, CredentialsError where AWS credentials have expired, TeardownError for what could not be deleted. Whatever
    stops it, everything in the ledger is deleted; finished load points are on disk in any case, and running this again
    continues with what is missing.
    """
    config.require_measured()
    ledger = Ledger(run.ledger_file, run.run_id)
    with guarded(run, "03_run_inference"), delete_after_failure(run):
        if not run.instrument_file.is_file() and any(missing_load_points(o, config, run) for o in config.options):
            calibrate(config, run)
        _serve_all(_Campaign(config, run, ledger, on_event), config, ledger)
        if not config.endpoints.keep and ledger.remaining():
            delete_remaining(run)
        if not any(run.requests.glob("*.parquet")):
            raise no_option_left(ledger)
    return ledger.records()


def _serve_all(campaign: _Campaign, config: BenchmarkConfig, ledger: Ledger) -> None:
    """Serve every option, those first whose endpoints are up; watches the budget meanwhile."""
    up_first = sorted(race_order(config, ledger), key=lambda option: not _is_up(ledger.record(option.name)))
    with ThreadPoolExecutor(endpoints_at_once(config), thread_name_prefix="option") as pool:
        futures: list[Future] = [pool.submit(campaign.serve, option) for option in up_first]
        try:
            pending = set(futures)
            while pending:
                done, pending = wait(pending, timeout=BUDGET_LOOK_S, return_when=FIRST_EXCEPTION)
                failed = next((f.exception() for f in done if f.exception() is not None), None)
                if failed is not None:
                    raise failed
                if pending:
                    stay_within_budget(config, ledger)
        except BaseException:
            campaign.stop()
            for future in futures:
                future.cancel()
            raise


def _is_up(record: EndpointRecord | None) -> bool:
    return record is not None and record.state in UP


class _Campaign:
    """The load of all options of a run. One thread serves one option at a time: its place is the endpoint's."""

    def __init__(self, config: BenchmarkConfig, run: RunFolder, ledger: Ledger, on_event: OnEvent) -> None:
        self._config = config
        self._run = run
        self._ledger = ledger
        self._on_event = on_event
        places = 1 if looks_of(config) else config.max_parallel_loads()
        self._load_places = threading.Semaphore(places)
        self._stopping = threading.Event()
        self._teams: set[LoadTeam] = set()
        self._begun: set[str] = set()
        self._lock = threading.Lock()

    def stop(self) -> None:
        """End all load; the threads then delete their endpoints."""
        self._stopping.set()
        with self._lock:
            for team in self._teams:
                team.kill()
        for option in self._config.options:
            _Teller(option, self._config, self._run, self._on_event)(
                "stopping" if option.name in self._begun else "not begun"
            )

    def serve(self, option: OptionBase) -> None:
        """Deploy an option if it is not yet, run its missing load points, delete it."""
        tell = _Teller(option, self._config, self._run, self._on_event)
        if self._stopping.is_set():
            tell("not begun")
            return
        self._begun.add(option.name)
        if not missing_load_points(option, self._config, self._run):
            note_leave(option, self._config, self._run, self._ledger)
            self._delete(option)
            tell("done")
            return
        deployment = Deployment(option, self._config, self._run, self._ledger)
        try:
            ready = self._wait_until_ready(deployment, tell)
            if ready:
                with self._load_places:
                    ready = self._run_points(deployment, tell)
                    if ready:
                        note_leave(option, self._config, self._run, self._ledger)
                tell("deleting")
        finally:
            self._delete(option)
        if self._stopping.is_set() and not ready:
            tell("stopped")
            return
        failure = self._ledger.record(option.name).failure
        tell("done" if ready else "failed", "" if ready else failure or "")

    def _wait_until_ready(self, deployment: Deployment, tell: _Teller) -> bool:
        """True once the endpoint is in service; false if it failed for good, or all is to stop."""
        tell("starting")
        record = deployment.plan()
        # Of an earlier load that was cut off, or that got no answers; what else failed is begun anew by notebook 02 alone.
        may_answer_now = record.failure is None or record.cause in list(NoAnswer)
        is_cut_off = record.state in ("deleting", "deleted") and may_answer_now
        record = deployment.begin() if is_cut_off else deployment.step()
        pauses = growing_pauses()
        while record.state in UNDER_WAY and not self._stopping.is_set():
            if record.state == "waiting":
                tell("waiting", record.cause or "")
            next(pauses)
            record = deployment.step()
        return record.state in READY

    def _run_points(self, deployment: Deployment, tell: _Teller) -> bool:
        """Run the missing load points, if a first request is answered; false if the endpoint was lost on the way."""
        option = deployment.option
        address = deployment.answering_address()
        if address is None:
            return False
        repeated: Counter[LoadPoint] = Counter()
        with self._new_team(option) as team:
            try:
                self._run_single_requests(option, address, team, tell)
                while points := missing_load_points(option, self._config, self._run):
                    if self._stopping.is_set():
                        return False
                    order = self._order(option, points[0], address)
                    label = f"{order.dataset}, {order.level.label}"
                    team.run(order, lambda progress, label=label: tell.progress(label, progress))
                    if not self._goes_on(deployment, order, repeated, tell):
                        return False
                    tell("loading", label)
            except LoadError:
                if not self._stopping.is_set():
                    raise
                return False
            finally:
                with self._lock:
                    self._teams.discard(team)
        return True

    def _run_single_requests(self, option: OptionBase, address: Address, team: LoadTeam, tell: _Teller) -> None:
        """Where the SLO follows the machine: what it is a multiple of."""
        if not self._config.slo.multiples():
            return
        firsts = {point.dataset: point for point in reversed(load_points_of(option, self._config, self._run))}
        orders = [single_request_order(self._order(option, point, address), self._run) for point in firsts.values()]
        run_single_requests(orders, lambda order: team.run(order, lambda seen: tell.progress("single requests", seen)))

    def _goes_on(self, deployment: Deployment, order: Order, repeated: Counter[LoadPoint], tell: _Teller) -> bool:
        """True if the endpoint is still there after a load point, so that the next may follow.

        Requests that were refused because of credentials, or that failed at an endpoint that is no more, say nothing about how
        the option serves: such a load point is set aside. Raises CredentialsError.
        """
        name, records = deployment.option.name, Path(order.output_file)
        self._note_tokens(self._ledger.record(name), records)
        errors = error_types(records)
        if refused := [error for error in errors if error in CREDENTIAL_CODES]:
            kept = set_aside(records)
            raise CredentialsError(
                f"option {name!r}: {len(refused)} requests were refused for invalid AWS credentials; their records are set "
                f"aside in {kept}. Next: {NEXT_STEP[Cause.CREDENTIALS]}",
                Cause.CREDENTIALS,
            )
        if deployment.step().state in READY:
            return self._still_answers(deployment, order, repeated, tell)
        if errors:
            set_aside(records)
        return False

    def _still_answers(self, deployment: Deployment, order: Order, repeated: Counter[LoadPoint], tell: _Teller) -> bool:
        """False if the server fell silent in a load point and does not answer a single request either.

        Such a load point says nothing of the option: it is set aside, and what is missing is not run, which the ledger says.
        Where the server could not be reached and now is back, the load point is set aside too and run again; what was cut off
        more often than that ends the option.
        """
        records, point = Path(order.output_file), order.point
        silence = silence_at_end(records)
        if silence is None:
            return True
        situation = self._silence_in_words(deployment.option, point, silence)
        answers = deployment.answering_address(situation) is not None
        if answers and (silence.was_reached or repeated[point]):
            return True
        repeated[point] += 1
        set_aside(records)
        return answers or (repeated[point] <= MOST_REPEATS and self._answers_again(deployment.option, situation, tell))

    def _answers_again(self, option: OptionBase, situation: str, tell: _Teller) -> bool:
        """Wait for a server that was lost under load; false if it is gone for good or too long, which the ledger says."""
        longest_s = self._config.endpoints.unreachable_for_s
        deadline, pauses = time.monotonic() + longest_s, growing_pauses()
        situation = f"{situation}; waited up to {longest_s:g} s for it"
        while time.monotonic() < deadline and not self._stopping.is_set():
            if self._ledger.record(option.name).cause not in MAY_PASS:
                return False
            tell("waiting", situation)
            next(pauses)
            # With a session of its own: one that was opened before may look for the endpoint where it is no more.
            deployment = Deployment(option, self._config, self._run, self._ledger)
            if deployment.step().state not in READY:
                return False
            if deployment.answering_address(situation) is not None:
                return True
        return False

    def _silence_in_words(self, option: OptionBase, point: LoadPoint, silence: Silence) -> str:
        """In which load point a server fell silent, and which are not run for that."""
        left = [point, *missing_load_points(option, self._config, self._run)]
        named = "; ".join(f"{p.dataset} at {p.level.label}" for p in left[:MOST_NAMED])
        more = f" and {len(left) - MOST_NAMED} more" if len(left) > MOST_NAMED else ""
        return (
            f"fell silent under load ({point.dataset} at {point.level.label}: {silence.answered} of "
            f"{plural(silence.requests, 'request')} answered, none of the last {silence.trailing}) and then gave no answer to "
            f"a single request; {plural(len(left), 'load point')} not measured: {named}{more}"
        )

    def _note_tokens(self, record: EndpointRecord, records: Path) -> None:
        """Add the tokens of a load point to what is billed, where tokens are billed."""
        if record.usd_per_1m_input_tokens is None and record.usd_per_1m_output_tokens is None:
            return
        input_tokens, output_tokens, cached_tokens = tokens_of(records)
        self._ledger.update(
            record.option,
            billed_input_tokens=record.billed_input_tokens + input_tokens,
            billed_cached_tokens=record.billed_cached_tokens + cached_tokens,
            billed_output_tokens=record.billed_output_tokens + output_tokens,
        )

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
        asked = asked_of(point, option, config, self._run)
        return Order(
            option=point.option,
            dataset=point.dataset,
            level=point.level,
            repetition=point.repetition,
            seed=config.seed,
            start_of_prompts=asked.start_of_prompts,
            address=address,
            load=asked.load,
            percentile=config.slo.percentile,
            fewest_independent=asked.fewest_independent,
            generation=config.generation,
            extra_body=option.extra_body,
            omit_body_keys=option.omit_body_keys,
            tokenizer=_absolute_folder(tokenizer, config_dir),
            prompts_file=str(self._run.payloads / f"{slug(point.dataset)}.parquet"),
            prompt_tokens_column="prompt_tokens" if tokenizer == config.model.tokenizer else f"tokens:{tokenizer}",
            base_dir=str(config_dir),
            output_file=str(self._run.requests / f"{point.id}.parquet"),
        )

    def _delete(self, option: OptionBase) -> None:
        """Delete what the option made. What cannot be deleted now is tried again when all load is done."""
        record = self._ledger.record(option.name)
        is_kept = record is not None and record.state == "in_service" and self._config.endpoints.keep
        if record is None or not record.may_exist or is_kept:
            return
        try:
            delete_endpoint(record, self._run, self._ledger)
        except TeardownError as error:
            self._ledger.update(option.name, record.endpoint_name, state="failed", failure=str(error))


def _absolute_folder(tokenizer: str, base_dir: Path) -> str:
    """A tokenizer's folder as a path that any process finds; other names as they are."""
    folder = base_dir / expanded(tokenizer)
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
