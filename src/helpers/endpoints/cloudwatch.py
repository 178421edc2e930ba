"""What CloudWatch has of a SageMaker endpoint: invocations, latencies and utilisations by the minute.

CloudWatch keeps them after the endpoint is deleted, and has them minutes late. So no load waits for them: they are asked for
once when an option's load is done, which keeps its endpoint up for at most `ASK_S` more, and again when all endpoints are
gone, until they are complete or `WAIT_S` have passed since the option's load. A call that is refused is said once.
Names and units: https://docs.aws.amazon.com/sagemaker/latest/dg/monitoring-cloudwatch.html
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import pyarrow.compute as pc
import pyarrow.parquet as pq

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.options import OptionBase, SageMakerOption
from helpers.endpoints.targets.sagemaker_requests import VARIANT
from helpers.metrics.answers import count_answers
from helpers.metrics.replicates import replicate_of
from helpers.number_text import plural
from helpers.run.aws_errors import is_not_found, is_passing, step_beside_a_run
from helpers.run.folder import RunFolder
from helpers.run.ledger import EndpointRecord
from helpers.run.records import AttemptFacts, read_attempt_facts
from helpers.run.remote import say_once
from helpers.run.server_samples import CLOUDWATCH, Sample, add_samples
from helpers.run.sessions import session_of_record

if TYPE_CHECKING:
    import boto3

ACTION = "cloudwatch:GetMetricData"
ASK_S = 12.0
"""At most: two calls of one attempt each, with the time-outs below."""
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 2, 4
WAIT_S = 180.0
PAUSE_S = 15.0
MOST_FAILURES = 3
"""Calls of a run that may fail in passing."""
PERIOD_S = 60
INVOCATIONS, INSTANCES = "AWS/SageMaker", "/aws/sagemaker/Endpoints"
QUERIES = {
    "Invocations": (INVOCATIONS, "Invocations", "Sum"),
    "Invocation4XXErrors": (INVOCATIONS, "Invocation4XXErrors", "Sum"),
    "Invocation5XXErrors": (INVOCATIONS, "Invocation5XXErrors", "Sum"),
    "ModelLatency": (INVOCATIONS, "ModelLatency", "Sum"),
    "ModelLatencyCount": (INVOCATIONS, "ModelLatency", "SampleCount"),
    "OverheadLatency": (INVOCATIONS, "OverheadLatency", "Sum"),
    "OverheadLatencyCount": (INVOCATIONS, "OverheadLatency", "SampleCount"),
    "CPUUtilization": (INSTANCES, "CPUUtilization", "Average"),
    "MemoryUtilization": (INSTANCES, "MemoryUtilization", "Average"),
    "GPUUtilization": (INSTANCES, "GPUUtilization", "Average"),
    "GPUMemoryUtilization": (INSTANCES, "GPUMemoryUtilization", "Average"),
}
"""Our name -> namespace, metric and statistic."""


class _Loaded(NamedTuple):
    """A load point: from its first send to its last answer on the clock of the records, and how many answers it had."""

    facts: AttemptFacts
    begin_ns: int
    end_ns: int
    answers: int

    @property
    def offset_ns(self) -> int:
        """From the clock of the records to the time of day."""
        monotonic, wall = self.facts.clock_pairs[0]
        return wall - monotonic


class _Owed(NamedTuple):
    option: SageMakerOption
    record: EndpointRecord
    loaded: list[_Loaded]
    since: float


class CloudWatch:
    """Asks for the endpoints of a run, and writes what there is beside the records of each load point."""

    def __init__(self, config: BenchmarkConfig, run: RunFolder) -> None:
        self._config, self._run = config, run
        self._owed: list[_Owed] = []
        self._refused = threading.Event()
        self._failures = 0

    def ask(self, option: OptionBase, record: EndpointRecord) -> None:
        """Of an endpoint whose load is done, while it is still there. Never raises what AWS answers."""
        if not isinstance(option, SageMakerOption) or option.inference_component is not None:
            return
        loaded = self._loaded(option, record)
        if not loaded or self._refused.is_set():
            return
        session = session_of_record(record, self._run)
        if session is not None and not self._collect(option, record, loaded, session, is_last=False):
            self._owed.append(_Owed(option, record, loaded, time.monotonic()))

    def ask_again(self) -> None:
        """Of all endpoints that were not complete, until they are, or it is too late."""
        for option, record, loaded, since in self._owed:
            while not self._refused.is_set() and (session := session_of_record(record, self._run)) is not None:
                is_last = time.monotonic() > since + WAIT_S
                if self._collect(option, record, loaded, session, is_last) or is_last:
                    break
                say_once(
                    self._run.path / "waiting for cloudwatch",
                    f"All load is over. CloudWatch does not have all figures yet: it is asked again for at most {WAIT_S:g} s.",
                )
                time.sleep(PAUSE_S)
        self._owed.clear()

    def _variant_of(self, option: SageMakerOption, record: EndpointRecord, session: boto3.Session) -> str | None:
        """The name of the endpoint's variant; None if there is none. Raises what botocore raises."""
        if option.deploy:
            return VARIANT
        endpoint = session.client("sagemaker", config=_once()).describe_endpoint(EndpointName=record.endpoint_name)
        variants = endpoint.get("ProductionVariants") or [{}]
        return variants[0].get("VariantName")

    def _collect(
        self,
        option: SageMakerOption,
        record: EndpointRecord,
        loaded: list[_Loaded],
        session: boto3.Session,
        is_last: bool,
    ) -> bool:
        """Write what there is; true if that is all, or no more can be had."""
        from botocore.exceptions import BotoCoreError, ClientError

        begin_ns = min(each.begin_ns + each.offset_ns for each in loaded)
        action = "sagemaker:DescribeEndpoint"
        try:
            variant = self._variant_of(option, record, session)
            if variant is None:
                return True
            action = ACTION
            found = _read(session, record.endpoint_name, variant, begin_ns)
        except (BotoCoreError, ClientError) as error:
            if is_not_found(error):
                return True  # it is gone: that is noticed, and said, elsewhere
            self._failures += 1
            if is_passing(error) and self._failures < MOST_FAILURES and not is_last:
                return False
            self._refused.set()
            allow = f"allow {action} as docs/policies/caller.json does"
            say_once(
                self._run.path / "cloudwatch",
                f"Warning: CloudWatch was not read: {error}. How busy the instances were stays unknown; the measurement "
                f"itself is not affected. Next: {step_beside_a_run(error, allow, 'nothing; a new run asks again')}",
            )
            return True
        counted = sum(found.get("Invocations", {}).values())
        scored = count_answers(record.option, self._run, _made_ns(record))[1]
        answered = sum(each.answers for each in loaded) + scored
        trouble = None
        if counted < answered and is_last:
            had = f"CloudWatch had {plural(round(counted), 'invocation')}"
            trouble = f"{had} after {WAIT_S:g} s, of {plural(answered, 'answer')} that came"
        if found:
            for each in loaded:
                add_samples(self._run, each.facts.load_point, CLOUDWATCH, list(_samples(found, each)), trouble)
        return counted >= answered

    def _loaded(self, option: OptionBase, record: EndpointRecord) -> list[_Loaded]:
        """What this endpoint was loaded with."""
        found = []
        for path in sorted(self._run.requests.glob("*.parquet")):
            facts = read_attempt_facts(path)
            is_its = facts.option == option.measured_as
            if is_its and option.replicate in (None, replicate_of(facts, self._config)):
                times = pq.read_table(path, columns=["sent_ns", "done_ns", "status"])
                begin, end = pc.min(times["sent_ns"]).as_py(), pc.max(times["done_ns"]).as_py()
                if begin is not None and end is not None:
                    found.append(_Loaded(facts, begin, end, pc.sum(pc.equal(times["status"], "ok")).as_py()))
        return [each for each in found if each.begin_ns + each.offset_ns >= _made_ns(record)]


def _made_ns(record: EndpointRecord) -> float:
    """Time of day when an endpoint was made, ns; 0 if not by the run. A run that was continued had another one before."""
    made = record.create_called_at
    return datetime.fromisoformat(made).timestamp() * 1e9 if made else 0


def _once() -> object:
    """One attempt with short time-outs: what fails is asked again later, or stays unknown."""
    from botocore.config import Config

    once = {"total_max_attempts": 1, "mode": "standard"}
    return Config(connect_timeout=CONNECT_TIMEOUT_S, read_timeout=READ_TIMEOUT_S, retries=once)


def _read(session: boto3.Session, endpoint: str, variant: str, begin_ns: int) -> dict[str, dict[int, float]]:
    """Our name -> time of day at which a period begins, in s -> value; a metric that CloudWatch does not have is left out."""
    dimensions = [{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": variant}]
    queries = [
        {
            "Id": f"q{i}",
            "MetricStat": {
                "Metric": {"Namespace": namespace, "MetricName": metric, "Dimensions": dimensions},
                "Period": PERIOD_S,
                "Stat": stat,
            },
        }
        for i, (namespace, metric, stat) in enumerate(QUERIES.values())
    ]
    begin_s = begin_ns // 1_000_000_000 // PERIOD_S * PERIOD_S
    pages = session.client("cloudwatch", config=_once()).get_metric_data(
        MetricDataQueries=queries,
        StartTime=datetime.fromtimestamp(begin_s, UTC),
        EndTime=datetime.fromtimestamp(time.time() + PERIOD_S, UTC),
    )
    names, found = list(QUERIES), {}
    for result in pages["MetricDataResults"]:
        if result["Timestamps"]:
            times = [round(stamp.timestamp()) for stamp in result["Timestamps"]]
            found[names[int(result["Id"][1:])]] = dict(zip(times, result["Values"], strict=True))
    return found


def _samples(found: dict[str, dict[int, float]], loaded: _Loaded) -> Iterator[Sample]:
    """The periods that a load point has a part of; one may have parts of several load points."""
    for name, values in found.items():
        for wall_s, value in sorted(values.items()):
            begin_ns = wall_s * 1_000_000_000 - loaded.offset_ns
            if begin_ns <= loaded.end_ns and begin_ns + PERIOD_S * 1_000_000_000 > loaded.begin_ns:
                yield Sample(begin_ns, name, value, float(PERIOD_S), CLOUDWATCH)
