"""A series as a SageMaker Processing job: what is sent, what the container does with it, and how it is followed.

moto keeps the job, its files and its log, and runs nothing. What SageMaker would do then is done here: the files are laid
where the job expects them, and the container's command is run on them.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import boto3
import pypi
import pytest
import result_files as files
import yaml
from aws_stub import refusing
from botocore.config import Config
from examples import endpoint
from moto.sagemaker.models import sagemaker_backends

from helpers.config.benchmark import PROJECT_ROOT
from helpers.config.file import load_config
from helpers.errors import JobFailed, NoSuchRun
from helpers.run.folder import open_run
from helpers.run.ledger import Ledger
from helpers.run.remote import store_run
from helpers.series import following
from helpers.series.following import LOG_GROUP, follow

pytest_plugins = ["moto_server"]
ROOT = "s3://bucket/runs"
ROLE = "arn:aws:iam::123456789012:role/job"
MODEL = {"name": "${LABEL}", "tokenizer": "synthetic:2m", "context_tokens": 4096}
LONGEST_WORD = 256
"""Characters that SageMaker takes of each word of a command, newlines not among them; moto takes any."""
JOB = {"role": ROLE, "max_hours": 2, "secrets": {"LABEL": "ours/label#name"}}
IMAGE = {"image": "image:1"}
"""What the job section of most tests says, because the SDK that knows the default image takes seconds to import."""


@pytest.fixture(autouse=True)
def aws(moto_server, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", moto_server)
    boto3.client("s3").create_bucket(Bucket="bucket")
    boto3.client("secretsmanager").create_secret(Name="ours/label", SecretString='{"name": "model-7"}')


@dataclass
class Clone:
    """A copy of this repository that git does not know, with a config for results that were measured elsewhere."""

    path: Path

    def write(self, **sections: object) -> str:
        shutil.rmtree(self.path / "configs" / "mine", ignore_errors=True)
        (self.path / "configs" / "mine").mkdir()
        return str(write_config(self.path / "configs" / "mine", **sections).relative_to(self.path))

    def call(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "helpers", *arguments],
            cwd=self.path,
            env={**os.environ, "PYTHONPATH": str(self.path / "src"), **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def submit(self, config: str) -> str:
        """The URL of the run."""
        done = self.call("submit", "--config", config, LABEL="here")
        assert done.returncode == 0, done.stdout + done.stderr
        return next(
            line.rpartition("=")[2] for line in done.stdout.splitlines() if line.startswith("Next: make follow")
        )


def write_config(folder: Path, **sections: object) -> Path:
    """Of results that another tool measured, so that the series needs no server."""
    for streams in (2, 4):
        files.write_json(
            folder / f"a-{streams}.json", files.vllm(files.closed_loop(streams, 60), max_concurrency=streams)
        )
    load = {"kind": "closed_loop", "concurrency": [2, 4]}
    return files.write_config(folder, files.option("a", "vllm", "a-*.json"), load=load, **sections)


@pytest.fixture
def clone(tmp_path) -> Clone:
    path = tmp_path / "clone"
    path.mkdir()
    for folder in ("src", "notebooks", "data", "configs"):
        shutil.copytree(
            PROJECT_ROOT / folder, path / folder, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    for file in ("Makefile", "pyproject.toml", "requirements.txt", "README.md"):
        shutil.copy(PROJECT_ROOT / file, path)
    return Clone(path)


def described(url: str) -> dict:
    about = json.loads(
        boto3.client("s3").get_object(Bucket="bucket", Key=f"{key_of(url)}/job/about.json")["Body"].read()
    )
    return boto3.client("sagemaker").describe_processing_job(ProcessingJobName=about["job_name"])


def key_of(url: str) -> str:
    return url.removeprefix("s3://bucket/")


def test_a_job_is_told_all_that_it_needs_and_no_secret(clone):
    (clone.path / "runs").mkdir()
    (clone.path / "runs" / "old.txt").write_text("old")
    (clone.path / ".hidden").write_text("hidden")
    url = clone.submit(clone.write(run_root=ROOT, job=JOB, model=MODEL))
    job = described(url)
    assert job["RoleArn"] == ROLE and job["StoppingCondition"] == {"MaxRuntimeInSeconds": 7200}
    assert "sagemaker-distribution" in job["AppSpecification"]["ImageUri"]
    command = job["AppSpecification"]["ContainerEntrypoint"]
    arguments = job["AppSpecification"]["ContainerArguments"]
    assert all(len(word) <= LONGEST_WORD and "\n" not in word for word in command + arguments)
    assert arguments == [
        "--config",
        "configs/mine/imported.yml",
        "--run-dir",
        url,
        "--secret",
        "LABEL=ours/label#name",
    ]
    assert job["ProcessingInputs"][0]["S3Input"]["S3Uri"] == f"{url}/job/sent"
    packed = boto3.client("s3").get_object(Bucket="bucket", Key=f"{key_of(url)}/job/sent/source.zip")["Body"].read()
    names = zipfile.ZipFile(io.BytesIO(packed)).namelist()
    assert {"Makefile", "configs/mine/imported.yml", "notebooks/05_report.ipynb", "src/helpers/__main__.py"} < set(
        names
    )
    assert not [name for name in names if name.startswith((".", "runs"))]
    assert "model-7" not in json.dumps(job, default=str) and "here" not in json.dumps(arguments)


def test_the_sections_that_the_guide_shows_are_accepted(tmp_path):
    guide = (PROJECT_ROOT / "docs" / "running.md").read_text(encoding="utf-8")
    (shown,) = [text for text in re.findall(r"```yaml\n(.*?)```", guide, flags=re.DOTALL) if "job:" in text]
    config = load_config(write_config(tmp_path, **yaml.safe_load(shown))).benchmark
    assert config.job.max_hours == 12 and config.job.instance_type == "ml.m5.2xlarge"


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({}, "job: is missing"),
        ({"job": JOB, "run_root": None}, "run_root: is missing. Expected s3://bucket/prefix"),
        ({"job": {"role": ROLE}, "run_root": ROOT, "model": MODEL}, "job: {secrets: {LABEL: <id of the secret>}}"),
        ({"job": {"role": "me"}, "run_root": ROOT}, "job.role"),
    ],
)
def test_what_no_job_can_do_is_refused_before_anything_is_sent(clone, sections, words):
    done = clone.call("submit", "--config", clone.write(**sections), LABEL="here")
    assert done.returncode == 2 and words in done.stderr and "Next: " in done.stderr
    assert "Contents" not in boto3.client("s3").list_objects_v2(Bucket="bucket")


def test_a_config_outside_of_the_repository_is_refused(clone, tmp_path):
    config = write_config(tmp_path, run_root=ROOT, job={"role": ROLE})
    done = clone.call("submit", "--config", str(config))
    assert done.returncode == 2 and "whose files are sent to the job" in done.stderr


@pytest.mark.slow
@pytest.mark.network
def test_the_container_runs_the_series_and_the_report_is_fetched(clone, tmp_path, monkeypatch, capsys):
    """In a folder of its own, with the Python of the machine and nothing installed."""
    url = clone.submit(clone.write(run_root=ROOT, job=JOB | IMAGE, model=MODEL))
    job = described(url)["AppSpecification"]
    (tmp_path / "input").mkdir()
    (tmp_path / "job").mkdir()
    for name in ("source.zip", "job.sh"):
        boto3.client("s3").download_file("bucket", f"{key_of(url)}/job/sent/{name}", str(tmp_path / "input" / name))
    command = [*job["ContainerEntrypoint"], *job["ContainerArguments"]]
    command = [word.replace("/opt/ml/processing/input", str(tmp_path / "input")) for word in command]
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("VIRTUAL_ENV", "PYTHON"))}
    cache = subprocess.run([pypi.uv(), "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()
    path = os.pathsep.join([str(Path(pypi.uv()).parent), os.environ["PATH"]])
    done = subprocess.run(
        command,
        cwd=tmp_path / "job",
        env={**variables, "TMPDIR": str(tmp_path / "job"), "UV_CACHE_DIR": cache, "PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Stored in {url}" in done.stdout and "model-7" not in done.stdout
    _log(described(url)["ProcessingJobName"], done.stdout.splitlines())
    monkeypatch.chdir(tmp_path)
    verdict = follow(url, poll_s=0.1).verdict
    assert verdict.recommended == "a" and verdict.model == "model-7"
    said = capsys.readouterr().out
    assert f"Stored in {url}" in said and "report.html" in said


def _log(job: str, lines: list[str]) -> None:
    logs, stream = boto3.client("logs"), f"{job}/algo-1-1"
    logs.create_log_group(logGroupName=LOG_GROUP)
    logs.create_log_stream(logGroupName=LOG_GROUP, logStreamName=stream)
    now = round(1000 * time.time())
    events = [{"timestamp": now, "message": line or " "} for line in lines]
    logs.put_log_events(logGroupName=LOG_GROUP, logStreamName=stream, logEvents=events)


@pytest.mark.parametrize(("code", "is_given_up"), [("ThrottlingException", False), ("AccessDeniedException", True)])
def test_a_log_that_is_throttled_is_looked_at_again(moto_server, code, is_given_up):
    said: list[str] = []
    with refusing(code) as url:
        client = boto3.client("logs", endpoint_url=url, config=Config(retries={"total_max_attempts": 1}))
        lines = following._Lines("job", client, said.append)
        lines.say_new()
        lines.say_new()
    assert (len(said), lines._client is None) == (int(is_given_up), is_given_up)


@pytest.fixture
def submitted(clone, tmp_path, monkeypatch) -> str:
    """The URL of a run whose job was started and, as moto has it, is over."""
    monkeypatch.chdir(tmp_path)
    return clone.submit(clone.write(run_root=ROOT, job={"role": ROLE} | IMAGE))


def ends(url: str, status: str, **attributes: str) -> None:
    """moto has a job as completed from the beginning."""
    job = sagemaker_backends["123456789012"]["us-east-1"].processing_jobs[described(url)["ProcessingJobName"]]
    for name, value in {"processing_job_status": status, **attributes}.items():
        setattr(job, name, value)


def test_a_job_that_left_nothing_is_no_verdict_and_the_exit_status_of_a_series_that_failed_is_that_of_follow(submitted):
    """It never began: the image could not be pulled, or the packages could not be installed."""
    ends(submitted, "Failed", failure_reason="AlgorithmError: no such image")
    with pytest.raises(JobFailed, match=r"AlgorithmError: .* Next: read what it printed last"):
        follow(submitted, poll_s=0.1)
    ends(submitted, "Failed", exit_message="exit status 5: the budget is reached: the run stopped")
    assert follow(submitted, poll_s=0.1) == 5


def test_endpoints_that_a_stopped_job_left_are_named(submitted, tmp_path, capsys):
    config = write_config(tmp_path, run_root=ROOT)
    run = open_run(str(config), submitted, new=True)[1]
    Ledger(run.ledger_file, run.run_id).put(endpoint("a", state="in_service"))
    store_run(run.path)
    ends(submitted, "Stopped")
    with pytest.raises(JobFailed, match=r"job stopped\. Finished load points are kept in s3://"):
        follow(submitted, poll_s=0.1)
    assert f"Next: make cleanup RUN={submitted}" in capsys.readouterr().out


def test_a_run_without_a_job_cannot_be_followed(aws):
    with pytest.raises(NoSuchRun, match="no job was submitted for it"):
        follow(f"{ROOT}/x-1")
    with pytest.raises(NoSuchRun, match="Expected the s3:// URL of a run"):
        follow("x-1")


def test_what_the_job_prints_is_said_once(submitted):
    _log(described(submitted)["ProcessingJobName"], ["one", "two"])
    ends(submitted, "InProgress")
    said = []

    def say(line: str) -> None:
        said.append(line)
        if line == "two":
            ends(submitted, "Failed", exit_message="exit status 1: the run failed")

    assert follow(submitted, say, poll_s=0.1) == 1
    assert [line.rpartition(": ")[2] for line in said] == ["InProgress", "one", "two", "Failed"]


def test_ctrl_c_stops_following_and_not_the_job(submitted, tmp_path):
    ends(submitted, "InProgress")
    following = subprocess.Popen(
        [sys.executable, "-m", "helpers", "follow", submitted],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # a shell that runs pytest beside may have it ignored
    )
    assert "InProgress" in following.stdout.readline()
    following.send_signal(signal.SIGINT)
    assert "The job goes on. Next: make follow RUN=" in following.communicate(timeout=120)[0]
    assert following.returncode == 130
    assert described(submitted)["ProcessingJobStatus"] == "InProgress"


def test_a_refusal_of_sagemaker_names_the_next_step(clone, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", "http://127.0.0.1:9")
    done = clone.call(
        "submit", "--config", clone.write(run_root=ROOT, job={"role": ROLE} | IMAGE), AWS_MAX_ATTEMPTS="1"
    )
    assert done.returncode == 1 and "Next: check network, proxy and aws.region" in done.stderr
