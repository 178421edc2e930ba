"""One option on its way to an endpoint in service. All of its state is the ledger's, so that any process can continue it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.options import OptionBase, SageMakerOption
from helpers.endpoints import preflight
from helpers.endpoints.failures import NEXT_STEP, NO_LOG_STEP
from helpers.endpoints.targets.base import target_of
from helpers.endpoints.teardown import delete_endpoint
from helpers.errors import CredentialsError, DeployError, TeardownError
from helpers.load.address import Address
from helpers.run.aws_errors import Cause
from helpers.run.folder import RunFolder
from helpers.run.ledger import READY, EndpointRecord, Ledger, utc_now

UNDER_WAY = ("creating", "waiting")
NOTHING_RAN = (Cause.CAPACITY, Cause.QUOTA)
"""Causes of failures without an instance, so without a cost: AWS bills from when an instance is there."""
PROVISIONING_S = 900
"""Longest time that AWS takes for the machines, before the container starts."""


class Deployment:
    """Call `step` again and again until the option is ready, or has failed for good."""

    def __init__(self, option: OptionBase, config: BenchmarkConfig, run: RunFolder, ledger: Ledger) -> None:
        self.option = option
        self._config = config
        self._run = run
        self._ledger = ledger
        self._target = target_of(option, config, run)
        self._keep = config.endpoints.keep
        self._blockers: set[str] | None = None
        """Options whose endpoints used up the quota at the last attempt; None: not tried in this process."""

    def plan(self) -> EndpointRecord:
        """Enter the option into the ledger unless it is there. What cannot be planned is entered as refused."""
        record = self._ledger.record(self.option.name)
        if record is not None and record.state != "refused":
            return record
        try:
            return self._ledger.put(self._target.plan())
        except CredentialsError:
            raise
        except DeployError as error:
            refused = EndpointRecord(
                option=self.option.name,
                target=self.option.target,
                state="refused",
                endpoint_name=getattr(self.option, "endpoint_name", None) or "",
                instance_type=self.option.instance_type,
                instance_count=self.option.instance_count,
                failure=str(error),
                cause=error.cause,
            )
            return self._ledger.put(refused)

    def step(self) -> EndpointRecord:
        """Do what is next (create, look, ask again) and return the ledger's entry. Raises CredentialsError.

        An option that failed for good stays `failed` or `deleted` with its failure, and is not tried again by `step`.
        """
        record = self.plan()
        if record.state == "planned":
            return self._create(record)
        if record.state == "waiting":
            return self._ask_again(record)
        if record.state in ("creating", "in_service"):
            return self._look(record)
        return record

    def begin(self) -> EndpointRecord:
        """As `step`, but what an earlier attempt left (failed, deleted, vanished or cut off) is started again."""
        record = self.plan()
        if record.state in ("creating", "in_service"):
            record = self._look(record)
        if record.state in READY + UNDER_WAY:
            return record
        if record.may_exist and (record := self._discard(record)).may_exist:
            return record
        if record.state == "deleted":
            counted = (
                "billed_input_tokens",
                "billed_cached_tokens",
                "billed_output_tokens",
                "race_outcome",
                "race_because",
                "quality_gate",
            )
            spent = {name: getattr(record, name) for name in counted}
            spent["earlier_hours"] = record.billed_hours() or 0.0
            self._ledger.put(self._target.plan().model_copy(update=spent))
        return self.step()

    def answering_address(self, situation: str = preflight.FIRST_REQUEST, is_kept: bool = True) -> Address | None:
        """Where to send requests, once ready and if it answers one; else None, and the reason is noted as the option's failure,
        which begins with `situation`. The answer is kept as that to the first request, if it `is_kept`. Raises CredentialsError.
        """
        name = self.option.name
        try:
            address = self._target.address(self._ledger.record(name))
            address = address.model_copy(update={"headers": {**address.headers, **self.option.headers}})
            answer = preflight.ask(self.option, address, self._config, self._run, situation)
        except CredentialsError:
            raise
        except DeployError as error:
            self._ledger.update(name, failure=str(error), cause=error.cause)
            return None
        if is_kept:
            preflight.keep(answer, self._run)
        self._ledger.update(name, failure=None, cause=None)
        return address

    def _create(self, record: EndpointRecord) -> EndpointRecord:
        """Into the ledger first, then the calls. A failure is noted, or asked again where that may help."""
        name, now = self.option.name, utc_now()
        record = self._ledger.update(
            name,
            state="creating",
            create_called_at=now,
            attempts=record.attempts + 1,
            deploying_since=record.deploying_since or now,
            confirmed_at=None,
            failed_at=None,
            failure=None,
            cause=None,
        )
        try:
            made = self._target.create(record)
        except DeployError as error:
            if error.cause not in (Cause.CONNECTION, Cause.OTHER, None):
                self._ledger.update(name, confirmed_at=utc_now())  # it was refused, so nothing more will appear
            record = self._fail(str(error), error.cause)
            if isinstance(error, CredentialsError):
                raise
            return record
        # Even if the entry has changed in the meantime, what has just been made can be deleted.
        made_now = {"state": "creating", "deleted_at": None, "confirmed_at": utc_now(), "image": made.image}
        return self._ledger.update(name, **made_now)

    def _look(self, record: EndpointRecord) -> EndpointRecord:
        """Bring the ledger up to date; of an endpoint that vanished, what is left is deleted."""
        try:
            seen = self._target.status(record)
        except CredentialsError:
            raise
        except DeployError as error:
            return self._fail(str(error), error.cause)
        if seen.state == "in_service" and record.state != "in_service":
            since = seen.since or utc_now()
            found = {"state": "in_service", "in_service_at": since, "image_digest": seen.image_digest}
            return self._ledger.update(record.option, **found)
        if seen.state == "gone":
            failure = f"option {record.option!r}: its endpoint no longer exists. Next: {NEXT_STEP[Cause.VANISHED]}"
            return self._fail(failure, Cause.VANISHED)
        if seen.state == "failed":
            return self._fail(f"option {record.option!r}: endpoint {record.endpoint_name}: {seen.reason}", seen.cause)
        if seen.state == record.state == "creating" and _age_s(record.create_called_at) > self._longest_s():
            words = f"option {record.option!r}: {Cause.STARTUP}: still creating after {self._longest_s():g} s"
            return self._fail(f"{words}. Next: {NEXT_STEP[Cause.STARTUP]}; {NO_LOG_STEP}", Cause.STARTUP)
        return record

    def _longest_s(self) -> float:
        """Seconds after which an endpoint that still comes up is given up."""
        if not isinstance(self.option, SageMakerOption):
            return float("inf")
        return PROVISIONING_S + self.option.startup_timeout_s + self.option.model_download_timeout_s

    # --- asking again ---------------------------------------------------------------------------------------------

    def _fail(self, failure: str, cause: str | None) -> EndpointRecord:
        """Note a failure and delete what was made. Where asking again may help, the option then waits for its turn.

        What could not be deleted stays `failed`.
        """
        option = self.option.name
        record = self._ledger.update(option, failure=failure, cause=cause, failed_at=utc_now())
        again, self._blockers = self._may_ask_again(record), self._holders_of_quota(record)
        record = self._discard(record)
        if record.state != "deleted":
            return record
        if cause in NOTHING_RAN:
            record = self._ledger.update(option, create_called_at=None)
        if not again:
            return record
        kept = {
            name: getattr(record, name) for name in ("attempts", "deploying_since", "failed_at", "failure", "cause")
        }
        kept |= {"state": "waiting", "earlier_hours": record.billed_hours() or 0.0}
        return self._ledger.put(self._target.plan().model_copy(update=kept))

    def _discard(self, record: EndpointRecord) -> EndpointRecord:
        """Delete an option's endpoint. A failure is noted, and the end of the run tries again."""
        try:
            return delete_endpoint(record, self._run, self._ledger)
        except TeardownError as error:
            words = f"{record.failure}\n{error}" if record.failure else str(error)
            return self._ledger.update(record.option, record.endpoint_name, state="failed", failure=words)

    def _may_ask_again(self, record: EndpointRecord) -> bool:
        if record.cause == Cause.CAPACITY and isinstance(self.option, SageMakerOption):
            return _age_s(record.deploying_since) < self.option.on_no_capacity.retry_for_s
        return record.cause == Cause.QUOTA and bool(self._holders_of_quota(record))

    def _ask_again(self, record: EndpointRecord) -> EndpointRecord:
        """Create again when it is time: after the pause for capacity, when an endpoint of this run is gone for quota."""
        if record.cause == Cause.QUOTA:
            is_time = self._blockers is None or not self._blockers <= self._holders_of_quota(record)
        else:
            is_time = _age_s(record.failed_at) >= self.option.on_no_capacity.pause_s
        return self._create(record) if is_time else record

    def _holders_of_quota(self, record: EndpointRecord) -> set[str]:
        """Options of this run whose endpoints count against the same quota, and will be deleted when their load is done."""
        if self._keep:
            return set()
        return {
            other.option
            for other in self._ledger.remaining()
            if other.option != record.option
            and other.state != "failed"
            and (other.instance_type, other.local) == (record.instance_type, record.local)
        }


def _age_s(since: str | None) -> float:
    """Seconds since a UTC time, ISO 8601; 0 if there is none."""
    if since is None:
        return 0.0
    return (datetime.now(UTC) - datetime.fromisoformat(since)) / timedelta(seconds=1)
