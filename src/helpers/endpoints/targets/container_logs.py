"""The last lines that an endpoint's container printed, from CloudWatch Logs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.run.aws_errors import code_of

if TYPE_CHECKING:
    import boto3

LINES = 15


def last_log_lines(endpoint_name: str, session: boto3.Session) -> list[str]:
    """The last lines of the container that printed last; empty if there are none. Whole, and with the secrets that the container
    printed: these are to be hidden before a line is cut. Raises what botocore raises where they cannot be read.

    Source of the names: https://docs.aws.amazon.com/sagemaker/latest/dg/logging-cloudwatch.html
    """
    from botocore.exceptions import ClientError

    group = f"/aws/sagemaker/Endpoints/{endpoint_name}"
    try:
        logs = session.client("logs")
        streams = logs.describe_log_streams(logGroupName=group, orderBy="LastEventTime", descending=True, limit=1)
        if not streams["logStreams"]:
            return []
        stream = streams["logStreams"][0]["logStreamName"]
        events = logs.get_log_events(logGroupName=group, logStreamName=stream, limit=LINES, startFromHead=False)
    except ClientError as error:
        if code_of(error) == "ResourceNotFoundException":
            return []
        raise
    return [event["message"].rstrip() for event in events["events"]]
