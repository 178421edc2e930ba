"""The way of an option under load: deployed, its missing load points run, its answers collected, its endpoint deleted."""

from __future__ import annotations

import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path

from helpers.config.benchmark import BenchmarkConfig, usable_cpu_count
from helpers.config.options import OptionBase
from helpers.config.strict import slug
from helpers.endpoints.attempt_spec import attempt_spec, single_request_specs
from helpers.endpoints.cloudwatch import CloudWatch
from helpers.endpoints.deployment import UNDER_WAY, Deployment
from helpers.endpoints.failures import NEXT_STEP
from helpers.endpoints.load_events import Notifier, OnEvent
from helpers.endpoints.no_answer import NoAnswer
from helpers.endpoints.quality_pass import answers_so_far, collect_answers, lacks_answers, note_gate
from helpers.endpoints.racing import (
    end_state,
    is_wanted,
    lacks_limits,
    limits_to_measure,
    note_leave,
    note_no_limit,
    place_for,
)
from helpers.endpoints.scraping import Scraper
from helpers.endpoints.teardown import delete_endpoint
from helpers.endpoints.waiting import growing_pauses
from helpers.errors import CredentialsError, LoadError, TeardownError
from helpers.load.address import Address
from helpers.load.cluster import Cluster
from helpers.load.cluster_processes import ClusterProcesses
from helpers.load.load_processes import LoadProcesses
from helpers.load.messages import AttemptSpec
from helpers.load.plan import file_of, missing_attempts
from helpers.metrics.answers import answers_file
from helpers.metrics.looks import looks_of
from helpers.number_text import plural
from helpers.run.aws_errors import CREDENTIAL_CODES, Cause
from helpers.run.finished_point import Silence, error_types, set_aside, silence_at_end
from helpers.run.folder import RunFolder
from helpers.run.ledger import READY, TOKENS, Ledger
from helpers.run.records import Attempt, tokens_of

MOST_REPEATS = 2
"""Times that an attempt which lost its server is repeated."""
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


class OptionRunner:
    """The load of all options of a run. One thread serves one option at a time: its place is the endpoint's."""

    def __init__(
        self, config: BenchmarkConfig, run: RunFolder, ledger: Ledger, cluster: Cluster | None, on_event: OnEvent
    ) -> None:
        self._config = config
        self._run = run
        self._ledger = ledger
        self._cluster = cluster
        self._on_event = on_event
        self.cloudwatch = CloudWatch(config, run)
        places = 1 if looks_of(config) else config.max_parallel_loads()
        self._load_places = threading.Semaphore(places)
        self._stopping = threading.Event()
        self._running: set[LoadProcesses] = set()
        self._begun: set[str] = set()
        self._ended: set[str] = set()
        self._lock = threading.Lock()

    def stop(self) -> None:
        """End all load; the threads then delete their endpoints."""
        self._stopping.set()
        with self._lock:
            for processes in self._running:
                processes.kill()
            for option in self._config.options:
                if option.name not in self._ended:
                    state = "stopping" if option.name in self._begun else "not begun"
                    Notifier(option, self._config, self._run, self._on_event)(state)

    def serve(self, option: OptionBase) -> None:
        """Deploy an option if it is not yet, run its missing load points, delete it."""
        notify = Notifier(option, self._config, self._run, self._on_event)
        state, detail = "stopped", ""
        try:
            state, detail = self._serve(option, notify)
        finally:
            with self._lock:
                self._ended.add(option.name)
                notify(state, detail)

    def _serve(self, option: OptionBase, notify: Notifier) -> tuple[str, str]:
        """How it ended, for a `LoadEvent`: state and detail."""
        if self._stopping.is_set():
            return "not begun", ""
        self._begun.add(option.name)
        if not missing_attempts(option, self._config, self._run):
            note_leave(option, self._config, self._run, self._ledger)
            if not self._lacks_answers(option):
                self._delete(option)
                return end_state(option, self._ledger), ""
        deployment = Deployment(option, self._config, self._run, self._ledger)
        try:
            ready = self._wait_until_ready(deployment, notify)
            if ready:
                with place_for(option, self._load_places, self._config, self._run):
                    ready = self._run_attempts(deployment, notify)
                    if ready:
                        note_leave(option, self._config, self._run, self._ledger)
                        ready = self._collect_answers(deployment, notify)
                notify("deleting")
                self.cloudwatch.ask(option, self._ledger.record(option.name))
        finally:
            self._delete(option)
        if ready:
            return end_state(option, self._ledger), ""
        if self._stopping.is_set():
            return "stopped", ""
        return "failed", self._ledger.record(option.name).failure or ""

    def _wait_until_ready(self, deployment: Deployment, notify: Notifier) -> bool:
        """True once the endpoint is in service, or not wanted any more; false if it failed for good, or all is to stop."""
        notify("starting")
        record = deployment.plan()
        # Of an earlier load that was cut off, or that got no answers; other failures are retried only by notebook 02.
        may_answer_now = record.failure is None or record.cause in list(NoAnswer)
        is_cut_off = record.state in ("deleting", "deleted") and may_answer_now
        record = deployment.begin() if is_cut_off else deployment.step()
        pauses = growing_pauses()
        while record.state in UNDER_WAY and not self._stopping.is_set():
            if record.state == "waiting":
                notify("waiting", record.cause or "")
            next(pauses)
            if not is_wanted(deployment.option, self._config, self._run):
                return True
            record = deployment.step()
        return record.state in READY

    def _run_attempts(self, deployment: Deployment, notify: Notifier) -> bool:
        """Run the missing load points, if a first request is answered; false if the endpoint was lost on the way."""
        option = deployment.option
        if not missing_attempts(option, self._config, self._run):
            return True
        address = deployment.answering_address()
        if address is None:
            return False
        repeated: Counter[Attempt] = Counter()
        scraper = Scraper(option, address, self._run)
        with self._start_processes(option) as processes:
            try:
                if not self._run_single_requests(deployment, address, processes, repeated, notify):
                    return False
                while attempts := missing_attempts(option, self._config, self._run):
                    if self._stopping.is_set():
                        return False
                    spec = attempt_spec(option, attempts[0], address, self._config, self._run)
                    label = f"{spec.dataset}, {spec.level.label}{', once more' if spec.is_control else ''}"
                    with scraper.attempt(spec.attempt.id):
                        processes.run(spec, lambda progress, label=label: notify.progress(label, progress))
                    if not self._goes_on(deployment, spec, repeated, notify):
                        return False
                    notify("loading", label)
            except LoadError:
                if not self._stopping.is_set():
                    raise
                return False
            finally:
                with self._lock:
                    self._running.discard(processes)
        return True

    def _run_single_requests(
        self,
        deployment: Deployment,
        address: Address,
        processes: LoadProcesses,
        repeated: Counter[Attempt],
        notify: Notifier,
    ) -> bool:
        """Where the SLO follows the machine: what it is a multiple of. False if a race has no limit after them."""
        option, config, run = deployment.option, self._config, self._run
        if not limits_to_measure(config, run):
            return True
        specs = single_request_specs(option, address, config, run)
        files = [Path(spec.output_file) for spec in specs]
        while missing := [spec for spec in specs if not Path(spec.output_file).is_file()]:
            processes.run(missing[0], lambda seen: notify.progress("single requests", seen))
            if looks_of(config) and not self._goes_on(deployment, missing[0], repeated, notify):
                return False
        if lacks_limits(config, run):
            note_no_limit(option, files, config, run, self._ledger)
            return False
        return True

    def _goes_on(self, deployment: Deployment, spec: AttemptSpec, repeated: Counter[Attempt], notify: Notifier) -> bool:
        """True if the endpoint is still there after a load point, so that the next may follow.

        Requests that were refused because of credentials, or that failed at an endpoint that no longer exists, say nothing
        about how the option serves: such an attempt is set aside. Raises CredentialsError.
        """
        records = Path(spec.output_file)
        self._note_tokens(deployment.option.name, *tokens_of(records))
        errors = self._errors_of(deployment.option, records)
        if deployment.step().state in READY:
            return self._still_answers(deployment, spec, repeated, notify)
        if errors:
            set_aside(records)
        return False

    def _errors_of(self, option: OptionBase, records: Path) -> list[str]:
        """Error types of the requests in a file. Raises CredentialsError."""
        errors = error_types(records)
        if refused := [error for error in errors if error in CREDENTIAL_CODES]:
            kept = set_aside(records)
            raise CredentialsError(
                f"option {option.name!r}: {len(refused)} requests were refused for invalid AWS credentials; their records are "
                f"set aside in {kept}. Next: {NEXT_STEP[Cause.CREDENTIALS]}",
                Cause.CREDENTIALS,
            )
        return errors

    def _lacks_answers(self, option: OptionBase) -> bool:
        return lacks_answers(option, self._config, self._run, self._ledger)

    def _collect_answers(self, deployment: Deployment, notify: Notifier) -> bool:
        """Run the pass whose answers are scored, if it is wanted. False if the server was lost, or all is to stop: then what came
        back says nothing of the option.
        """
        option, config, run = deployment.option, self._config, self._run
        if not self._lacks_answers(option):
            return True
        notify("loading", "quality")
        address = deployment.answering_address("no answer to the request before its quality pass", is_kept=False)
        if address is None:
            return False
        note = partial(self._note_answers, option.name)
        if not collect_answers(option, address, config, run, self._stopping.is_set, note):
            return False
        file = answers_file(option.name, run)
        errors, silence = self._errors_of(option, file), silence_at_end(file)
        is_there = deployment.step().state in READY
        if is_there and silence is not None and not silence.was_reached:
            situation = "stopped answering in its quality pass, which was not scored"
            is_there = deployment.answering_address(situation, is_kept=False) is not None
        if errors and not is_there:
            set_aside(file)
            return False
        answers_so_far(option.name, run).delete()
        note_gate(option, config, run, self._ledger)
        return True

    def _still_answers(
        self, deployment: Deployment, spec: AttemptSpec, repeated: Counter[Attempt], notify: Notifier
    ) -> bool:
        """False if the server fell silent in a load point and does not answer a single request either.

        Such an attempt says nothing about the option: it is set aside, and the remaining ones are not run, as the ledger
        records. If the server could not be reached and is back now, the attempt is set aside and repeated; one that loses
        its server more than `MOST_REPEATS` times ends the option.
        """
        records, attempt = Path(spec.output_file), spec.attempt
        silence = silence_at_end(records)
        if silence is None:
            return True
        situation = self._silence_in_words(deployment.option, spec, silence)
        answers = deployment.answering_address(situation) is not None
        if answers and (silence.was_reached or repeated[attempt]):
            return True
        repeated[attempt] += 1
        set_aside(records)
        return answers or (
            repeated[attempt] <= MOST_REPEATS and self._answers_again(deployment.option, situation, notify)
        )

    def _answers_again(self, option: OptionBase, situation: str, notify: Notifier) -> bool:
        """Wait for a server that was lost under load; false if it is gone for good or too long, which the ledger records."""
        longest_s = self._config.endpoints.unreachable_for_s
        deadline, pauses = time.monotonic() + longest_s, growing_pauses()
        situation = f"{situation}; waited up to {longest_s:g} s for it"
        while time.monotonic() < deadline and not self._stopping.is_set():
            if self._ledger.record(option.name).cause not in MAY_PASS:
                return False
            notify("waiting", situation)
            next(pauses)
            # With a new session: an older one may look for the endpoint at an address that is out of date.
            deployment = Deployment(option, self._config, self._run, self._ledger)
            if deployment.step().state not in READY:
                return False
            if deployment.answering_address(situation) is not None:
                return True
        return False

    def _silence_in_words(self, option: OptionBase, spec: AttemptSpec, silence: Silence) -> str:
        """In which load point a server fell silent, or that it did before, and which are not run for that."""
        attempt = spec.attempt
        left = [a for a in missing_attempts(option, self._config, self._run) if not a.is_control]
        moment = "in its single requests"
        if Path(spec.output_file) == file_of(attempt, self._run):
            moment, left = "under load", [attempt, *left]
        named = "; ".join(a.words for a in left[:MOST_NAMED])
        more = f" and {len(left) - MOST_NAMED} more" if len(left) > MOST_NAMED else ""
        return (
            f"stopped answering {moment} ({attempt.words}: {silence.answered} of "
            f"{plural(silence.requests, 'request')} answered, none of the last {silence.trailing}), and then a "
            f"single request failed too; {plural(len(left), 'load point')} not measured: {named}{more}"
        )

    def _note_tokens(self, option: str, input_tokens: int, output_tokens: int, cached_tokens: int) -> None:
        """Add tokens to what is billed of an option, where tokens are billed."""
        record = self._ledger.record(option)
        if record.is_billed_per_token and input_tokens + output_tokens:
            self._ledger.update(
                option,
                billed_input_tokens=record.billed_input_tokens + input_tokens,
                billed_cached_tokens=record.billed_cached_tokens + cached_tokens,
                billed_output_tokens=record.billed_output_tokens + output_tokens,
            )

    def _note_answers(self, option: str, rows: list[dict]) -> None:
        """The same of answers that were scored."""
        self._note_tokens(option, *(sum(row[name] or 0 for row in rows) for name in TOKENS))

    def _start_processes(self, option: OptionBase) -> LoadProcesses:
        """Load processes on CPUs that no others use: an even share of them for each endpoint that is loaded at once.

        Of a cluster: on its nodes, for one endpoint at a time.
        """
        log_file = self._run.logs / f"load-{slug(option.name)}.log"
        if self._cluster is not None:
            processes = ClusterProcesses(self._cluster, log_file)
            with self._lock:
                self._running.add(processes)
            return processes
        size = max(1, usable_cpu_count() // self._config.max_parallel_loads())
        with self._lock:
            taken = {place for processes in self._running for place in processes.places}
            first = next(i for i in range(0, len(taken) + size, size) if not taken & set(range(i, i + size)))
            processes = LoadProcesses(log_file, size, first)
            self._running.add(processes)
            return processes

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
