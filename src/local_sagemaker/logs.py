"""CloudWatch Logs of the endpoints: DescribeLogStreams and GetLogEvents over the files that the model servers write.

A log group outlives its endpoint, as on AWS. Lines are returned as the container printed them, secrets included, also as on
AWS: hiding them is up to the reader. Files have no time per line, so every event has the time of the last line, in
milliseconds since the epoch.
Names of groups and streams: https://docs.aws.amazon.com/sagemaker/latest/dg/logging-cloudwatch.html
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from local_sagemaker.api import ACCOUNT, ApiError, Record, check_parameters

GROUP_PREFIX = "/aws/sagemaker/Endpoints/"
INSTANCE = "i-local"
MAX_EVENTS = 10_000


@dataclass(frozen=True)
class LogFile:
    """What an endpoint's model server printed, and when it started, in milliseconds since the epoch."""

    path: Path
    variant_name: str
    created_ms: int

    @property
    def stream_name(self) -> str:
        """The log stream that holds it."""
        return f"{self.variant_name}/{INSTANCE}"

    def lines(self) -> list[str]:
        """All lines so far."""
        return self.path.read_text(encoding="utf-8", errors="replace").splitlines()

    def last_change_ms(self) -> int:
        """When the last line was printed, in milliseconds since the epoch."""
        return int(self.path.stat().st_mtime * 1000)


class Logs:
    """The two operations that read logs. `call` is the only entry point for requests."""

    def __init__(self, files: Mapping[str, LogFile]) -> None:
        self._files = files
        self._operations = {
            "DescribeLogStreams": self._describe_log_streams,
            "GetLogEvents": self._get_log_events,
        }

    def call(self, operation: str, parameters: Record, region: str) -> Record:
        """Performs one operation and returns its answer; raises `ApiError`."""
        if operation not in self._operations:
            raise ApiError(
                "UnknownOperationException",
                f"{operation} is not part of the local SageMaker; for logs it knows {', '.join(self._operations)}",
            )
        check_parameters("logs", operation, parameters)
        return self._operations[operation](parameters, region)

    def _describe_log_streams(self, parameters: Record, region: str) -> Record:
        group, log = self._find_group(parameters)
        name = log.stream_name
        if not name.startswith(parameters.get("logStreamNamePrefix", "")):
            return {"logStreams": []}
        last = log.last_change_ms()
        stream: Record = {
            "logStreamName": name,
            "arn": f"arn:aws:logs:{region}:{ACCOUNT}:log-group:{group}:log-stream:{name}",
            "creationTime": log.created_ms,
            "storedBytes": 0,  # as on AWS, which no longer counts them for streams
        }
        if log.lines():
            stream.update(firstEventTimestamp=last, lastEventTimestamp=last, lastIngestionTime=last)
        return {"logStreams": [stream]}

    def _get_log_events(self, parameters: Record, _: str) -> Record:
        """One page. A token is a direction and a line number; at either end of the stream it does not change."""
        _, log = self._find_group(parameters)
        if parameters["logStreamName"] != log.stream_name:
            raise ApiError("ResourceNotFoundException", "The specified log stream does not exist.")
        time = log.last_change_ms()
        is_wanted = parameters.get("startTime", 0) <= time < parameters.get("endTime", time + 1)
        lines = log.lines() if is_wanted else []
        limit = parameters.get("limit", MAX_EVENTS)
        default = "f/0" if parameters.get("startFromHead") else f"b/{len(lines)}"
        forward, number = _read_token(parameters.get("nextToken", default))
        first, end = (number, number + limit) if forward else (max(0, number - limit), number)
        page = lines[first:end]
        return {
            "events": [{"timestamp": time, "message": line, "ingestionTime": time} for line in page],
            "nextForwardToken": f"f/{first + len(page)}",
            "nextBackwardToken": f"b/{first}",
        }

    def _find_group(self, parameters: Record) -> tuple[str, LogFile]:
        """A log group, by name or ARN, and its endpoint's log."""
        group = str(parameters.get("logGroupName") or parameters.get("logGroupIdentifier", "")).rpartition(":")[2]
        log = self._files.get(group.removeprefix(GROUP_PREFIX))
        if not group.startswith(GROUP_PREFIX) or log is None or not log.path.exists():
            raise ApiError("ResourceNotFoundException", "The specified log group does not exist.")
        return group, log


def _read_token(token: str) -> tuple[bool, int]:
    """The token's direction (True: forward) and line."""
    direction, _, number = token.partition("/")
    if direction not in ("f", "b") or not number.isdecimal():
        raise ApiError("InvalidParameterException", "The specified nextToken is invalid.")
    return direction == "f", int(number)
