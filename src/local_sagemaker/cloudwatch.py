"""CloudWatch metrics of the endpoints: GetMetricData over what the data plane counted and what the model servers used.

Figures are kept by the minute, from the first moment on: on AWS they arrive minutes later. Latencies are in microseconds,
utilisations in percent of one core or of the memory, as on AWS. Endpoints keep theirs after they are deleted.
Names: https://docs.aws.amazon.com/sagemaker/latest/dg/monitoring-cloudwatch.html
"""

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple

import psutil

from local_sagemaker.api import ApiError, Record, check_parameters

INVOCATIONS, INSTANCES = "AWS/SageMaker", "/aws/sagemaker/Endpoints"
PERIOD_S = 60
LOOK_S = 5.0
Key = tuple[str, str, str, str]
"""Namespace, metric, endpoint, variant."""


class Used(NamedTuple):
    """A model server that runs: whose it is, and its process."""

    endpoint_name: str
    variant_name: str
    pid: int


class Minute(NamedTuple):
    """What is kept of the values of a minute."""

    count: int
    total: float
    least: float
    most: float

    def with_value(self, value: float) -> "Minute":
        """The minute with one value more."""
        return Minute(self.count + 1, self.total + value, min(self.least, value), max(self.most, value))


EMPTY = Minute(0, 0.0, math.inf, -math.inf)
STATISTICS: dict[str, Callable[[Minute], float]] = {
    "Sum": lambda minute: minute.total,
    "SampleCount": lambda minute: float(minute.count),
    "Average": lambda minute: minute.total / minute.count,
    "Minimum": lambda minute: minute.least,
    "Maximum": lambda minute: minute.most,
}


class Metrics:
    """All figures of all endpoints. `call` is the only entry point for requests."""

    def __init__(self) -> None:
        self._values: defaultdict[Key, dict[int, Minute]] = defaultdict(dict)

    def note_invocation(self, endpoint: str, variant: str, status: int, model_s: float, overhead_s: float) -> None:
        """Counts an invocation that has ended with this HTTP status; an error says nothing about latency."""
        self._note(INVOCATIONS, "Invocations", endpoint, variant, 1.0)
        self._note(INVOCATIONS, "Invocation4XXErrors", endpoint, variant, float(400 <= status < 500))
        self._note(INVOCATIONS, "Invocation5XXErrors", endpoint, variant, float(status >= 500))
        if status < 400:
            self._note(INVOCATIONS, "ModelLatency", endpoint, variant, model_s * 1e6)
            self._note(INVOCATIONS, "OverheadLatency", endpoint, variant, overhead_s * 1e6)

    async def watch(self, running: Callable[[], Iterable[Used]]) -> None:
        """Looks every few seconds at what the processes use, for ever."""
        known: dict[int, psutil.Process] = {}
        while True:
            now = list(running())
            known = {each.pid: known[each.pid] for each in now if each.pid in known}
            for each in now:
                with suppress(psutil.Error):
                    is_first = each.pid not in known
                    process = known.setdefault(each.pid, psutil.Process(each.pid))
                    cpu = process.cpu_percent()  # since the last look
                    if not is_first:
                        self._note(INSTANCES, "CPUUtilization", each.endpoint_name, each.variant_name, cpu)
                    memory = process.memory_percent()
                    self._note(INSTANCES, "MemoryUtilization", each.endpoint_name, each.variant_name, memory)
            await asyncio.sleep(LOOK_S)

    def _note(self, namespace: str, metric: str, endpoint: str, variant: str, value: float) -> None:
        minute = int(time.time()) // PERIOD_S * PERIOD_S
        values = self._values[namespace, metric, endpoint, variant]
        values[minute] = values.get(minute, EMPTY).with_value(value)

    def call(self, operation: str, parameters: Record) -> Record:
        """Performs one operation and returns its answer; raises `ApiError`."""
        if operation != "GetMetricData":
            raise ApiError(
                "UnknownOperationException",
                f"{operation} is not part of the local SageMaker; of CloudWatch it knows GetMetricData",
            )
        check_parameters("cloudwatch", operation, parameters)
        begin, end = (float(parameters[name]) for name in ("StartTime", "EndTime"))
        newest_first = parameters.get("ScanBy", "TimestampDescending") == "TimestampDescending"
        queries = parameters["MetricDataQueries"]
        return {"MetricDataResults": [self._result(query, begin, end, newest_first) for query in queries]}

    def _result(self, query: Record, begin: float, end: float, newest_first: bool) -> Record:
        if "MetricStat" not in query:
            raise ApiError("ValidationError", "Expressions are not part of the local SageMaker: give a MetricStat.")
        stat = query["MetricStat"]
        if stat["Period"] != PERIOD_S:
            raise ApiError("ValidationError", f"Period is {stat['Period']}; the local SageMaker has {PERIOD_S}.")
        if stat["Stat"] not in STATISTICS:
            raise ApiError("ValidationError", f"Stat is {stat['Stat']}; expected {', '.join(STATISTICS)}.")
        metric = stat["Metric"]
        of = {dimension["Name"]: dimension["Value"] for dimension in metric.get("Dimensions", [])}
        key = (metric["Namespace"], metric["MetricName"], of.get("EndpointName", ""), of.get("VariantName", ""))
        minutes = sorted((m for m in self._values.get(key, {}) if begin <= m < end), reverse=newest_first)
        return {
            "Id": query["Id"],
            "Label": query.get("Label", metric["MetricName"]),
            "Timestamps": minutes,
            "Values": [STATISTICS[stat["Stat"]](self._values[key][minute]) for minute in minutes],
            "StatusCode": "Complete",
        }
