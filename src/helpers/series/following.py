"""What a job of `series.job` prints, from any machine, until it ends, and then its report."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from helpers.errors import JobFailed, NoSuchRun, shown
from helpers.run.aws_errors import code_of, is_passing
from helpers.run.folder import find_run
from helpers.run.ledger import Ledger
from helpers.run.remote import is_remote, split_url
from helpers.run.s3_errors import s3_errors_in_words
from helpers.run.sessions import session_of_profile
from helpers.series.job import ABOUT, Say, refusals_in_words, stop_command
from helpers.verdict.analysis import read_verdict
from helpers.verdict.gates import Judged

if TYPE_CHECKING:
    import boto3
    from botocore.client import BaseClient

LOG_GROUP = "/aws/sagemaker/ProcessingJobs"
POLL_S = 10.0
ENDED = ("Completed", "Failed", "Stopped")


def follow(url: str, say: Say = print, poll_s: float = POLL_S) -> int | Judged:
    """Show what a job prints until it ends, then fetch its report; returns how the series ended.

    Ctrl-C stops following, not the job. Raises NoSuchRun where no job was submitted, JobFailed where it was stopped or ended
    without a word.
    """
    if not is_remote(url):
        raise NoSuchRun(
            f"{shown(url)}: bad value. Expected the s3:// URL of a run. Next: take the one that make submit printed"
        )
    about = _read_about(url)
    session = session_of_profile(None, None, about["region"])
    try:
        ended = _followed(about["job_name"], session, say, poll_s)
    except KeyboardInterrupt:
        say(f"\nThe job goes on. Next: make follow RUN={url}, or, to stop it: {stop_command(about)}")
        raise
    return _outcome(url, ended, say)


def _read_about(url: str) -> dict[str, str]:
    from botocore.exceptions import ClientError

    bucket, key = split_url(url)
    with s3_errors_in_words(url):
        try:
            client = session_of_profile(None, None, None).client("s3")
            return json.loads(client.get_object(Bucket=bucket, Key=f"{key}/{ABOUT}")["Body"].read())
        except ClientError as error:
            if code_of(error) != "NoSuchKey":
                raise
    raise NoSuchRun(
        f"{url}: no job was submitted for it: it has no {ABOUT}. Next: make status RUN={url}, or make submit"
    )


def _followed(job_name: str, session: boto3.Session, say: Say, poll_s: float) -> dict:
    """What SageMaker says of the job once it has ended."""
    sagemaker, lines, said = session.client("sagemaker"), _Lines(job_name, session.client("logs"), say), ""
    while True:
        with refusals_in_words(f"cannot look at job {job_name}"):
            described = sagemaker.describe_processing_job(ProcessingJobName=job_name)
        status = described["ProcessingJobStatus"]
        if status != said:
            say(f"{job_name}: {status}")
            said = status
        lines.say_new()
        if status in ENDED:
            return described
        time.sleep(poll_s)


class _Lines:
    """What the job's container prints, from CloudWatch."""

    def __init__(self, job_name: str, client: BaseClient, say: Say) -> None:
        self._streams_of = {"logGroupName": LOG_GROUP, "logStreamNamePrefix": f"{job_name}/"}
        self._client, self._say, self._next = client, say, {}

    def say_new(self) -> None:
        """Say the lines that came since the last call; a log that cannot be read is said once, and stops nothing. After a failure
        in passing it is tried again at the next call.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        if self._client is None:
            return
        try:
            for stream in self._client.describe_log_streams(**self._streams_of)["logStreams"]:
                self._say_new_of(stream["logStreamName"])
        except (ClientError, BotoCoreError) as error:
            is_not_there_yet = code_of(error) == "ResourceNotFoundException"
            if not is_not_there_yet and not is_passing(error):
                self._say(f"(What it prints cannot be read: {error})")
                self._client = None

    def _say_new_of(self, stream: str) -> None:
        while True:
            token = {"nextToken": self._next[stream]} if stream in self._next else {}
            events = self._client.get_log_events(
                logGroupName=LOG_GROUP, logStreamName=stream, startFromHead=True, **token
            )
            for event in events["events"]:
                self._say(event["message"].rstrip())
            if events["nextForwardToken"] == self._next.get(stream):
                return
            self._next[stream] = events["nextForwardToken"]


def _outcome(url: str, ended: Mapping[str, str], say: Say) -> int | Judged:
    """The verdict of the job's run, or the status with which it ended."""
    try:
        run = find_run(url)
    except NoSuchRun:
        run = None
    left = [] if run is None else Ledger(run.ledger_file, run.run_id).remaining()
    for record in left:
        say(f"Left, and costing money: {record.endpoint_name}. Next: make cleanup RUN={url}")
    if run is not None and (run.path / "report.html").is_file():
        say(f"Report    {run.path / 'report.html'}")
    words = ended.get("ExitMessage") or ended.get("FailureReason") or f"job {ended['ProcessingJobStatus'].lower()}"
    status = re.search(r"exit status (\d+)", words)
    if run is not None and ended["ProcessingJobStatus"] == "Completed":
        return Judged(read_verdict(run))
    if status is not None:
        return int(status[1])
    where = f"Finished load points are kept in {url}. " if run else ""
    raise JobFailed(f"{words}. {where}Next: read what it printed last; make submit starts another job")
