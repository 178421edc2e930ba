"""A series as a SageMaker Processing job: nobody has to watch it, and the role's credentials do not expire.

`submit` sends the files of this repository to S3, beside where the run will be, and starts the job, which unpacks them, installs
what they need and runs the series (`in_job`). `following` shows how it goes.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from helpers.config.benchmark import PROJECT_ROOT
from helpers.config.file import VARIABLE, LoadedConfig, load_config
from helpers.config.job import JobConfig
from helpers.config.strict import slug
from helpers.errors import ConfigError, DeployError
from helpers.run.aws_errors import Cause, cause_of_error
from helpers.run.folder import new_run_id
from helpers.run.remote import is_remote, run_url, split_url
from helpers.run.s3_errors import s3_errors_in_words
from helpers.run.secret_values import secret_value
from helpers.run.sessions import session_of_profile
from helpers.series.series import parameters_of_all
from helpers.verdict import exit_status

Say = Callable[[str], None]
ABOUT = "job/about.json"
"""In the run's folder in S3: what `follow` has to know."""
SENT = "job/sent"
"""There as well: the files of this repository, and the script that runs them. A job's command is too short to hold it."""
SCRIPT = Path(__file__).with_name("job.sh")
DISTRIBUTION = {"framework": "sagemaker-distribution", "version": "3.2.0"}
"""The default image, in the SDK's list; it has Python 3.12."""
LONGEST_JOB_NAME = 63
MESSAGE_FILE = Path("/opt/ml/output/message")
"""What a container writes here is the job's ExitMessage, of at most 1 kB."""
REPORTED = (exit_status.VERDICT, exit_status.INFEASIBLE, exit_status.UNDECIDED)
"""Exit statuses of a series that did what it was asked to."""
INPUT = "/opt/ml/processing/input"
_NOT_SENT = ("runs", "__pycache__")
_NEXT = {
    Cause.CREDENTIALS: "sign in (aws configure, aws sso login) or set AWS_PROFILE",
    Cause.PERMISSION: "give the caller the policy docs/policies/caller.json, with job.role among the roles it may pass",
    Cause.QUOTA: "ask for more at Service Quotas (“<instance type> for processing job usage”), or set job.instance_type",
    Cause.CONNECTION: "check network, proxy and aws.region",
}


# --- submitting ---------------------------------------------------------------------------------------------------


def submit(config_path: str, say: Say = print) -> str:
    """Start a job that runs the series on a config; returns the URL at which its run will be.

    Raises ConfigError or ParameterError before anything is sent, RunFolderError where S3 refuses, DeployError where
    SageMaker does.
    """
    config = load_config(config_path)
    parameters_of_all(config)
    _refuse_what_no_job_can_do(config)
    job, region = config.benchmark.job, config.benchmark.aws.region
    session = session_of_profile(None, None, region)
    run_id = new_run_id(config)
    url = run_url(config.benchmark.run_root, run_id)
    about = {"job_name": slug(run_id)[-LONGEST_JOB_NAME:].strip("-"), "region": region}
    request = _request(config, url, about["job_name"], job.image or _default_image(job, region))
    sent = {f"{SENT}/source.zip": _packed(config.path), f"{SENT}/{SCRIPT.name}": SCRIPT.read_bytes()}
    with s3_errors_in_words(url):
        client = session.client("s3")
        for name, content in {**sent, ABOUT: json.dumps(about).encode()}.items():
            client.put_object(Bucket=split_url(url)[0], Key=f"{split_url(url)[1]}/{name}", Body=content)
    with refusals_in_words(f"cannot start job {about['job_name']}"):
        session.client("sagemaker").create_processing_job(**request)
    say(
        f"Job {about['job_name']} was started: an {job.instance_type} in {region}, for {job.max_hours:g} hours at most. "
        f"It {job.cost_in_words()}.\nIts run will be {url}\nNext: make follow RUN={url}\n"
        f"To stop it: {stop_command(about)}"
    )
    return url


def _refuse_what_no_job_can_do(config: LoadedConfig) -> None:
    """Raise ConfigError for what is only on this machine: runs, files, variables."""
    if config.benchmark.job is None:
        raise ConfigError(
            f"{config.path}: job: is missing. Expected a section with the role of the job. Next: add job: "
            "{role: <ARN of a role with the policies in docs/permissions.md>}"
        )
    if not is_remote(config.benchmark.run_root):
        raise ConfigError(
            f"{config.path}: run_root: {config.benchmark.run_root or 'is missing'}. Expected s3://bucket/prefix, because the "
            "disk of a job is gone when it ends. Next: set it"
        )
    if not config.path.is_relative_to(PROJECT_ROOT):
        raise ConfigError(
            f"{config.path}: is not in {PROJECT_ROOT}, whose files are sent to the job. Next: move it to configs/, with the "
            "files that it names"
        )
    used = {name for text in _texts(config) for name in VARIABLE.findall(text)}
    lacking = sorted(used - set(config.benchmark.job.secrets))
    if lacking:
        raise ConfigError(
            f"{config.path}: ${{{lacking[0]}}} is read from the environment, which a job does not share. Next: store its value "
            f"in AWS Secrets Manager, and name it: job: {{secrets: {{{lacking[0]}: <id of the secret>}}}}"
        )


def _texts(config: LoadedConfig) -> list[str]:
    """Those in which a variable may be named."""
    parameters = [value for values in config.benchmark.parameters.values() for value in values.values()]
    return [*config.unexpanded.values(), *map(str, parameters)]


def _default_image(job: JobConfig, region: str) -> str:
    from sagemaker.core import image_uris

    try:
        return image_uris.retrieve(
            **DISTRIBUTION, region=region, instance_type=job.instance_type, image_scope="inference"
        )
    except ValueError as error:
        raise ConfigError(
            f"job.image: the SageMaker Distribution is not known in {region} ({error}). Expected an image with Python 3.11 to "
            "3.13, bash and make. Next: set job.image"
        ) from None


def _packed(config: Path) -> bytes:
    """The files of this repository as a ZIP archive. Raises ConfigError where the config is not among them."""
    names = _files()
    if config.relative_to(PROJECT_ROOT).as_posix() not in names:
        raise ConfigError(
            f"{config}: git ignores it, so it is not sent to the job. Next: move it to a folder that git does not ignore"
        )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.write(PROJECT_ROOT / name, name)
    return packed.getvalue()


def _files() -> list[str]:
    """Names of the files that are sent: what git would commit, or without git all but hidden ones and runs."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if (PROJECT_ROOT / ".git").exists():
        with suppress(OSError, subprocess.CalledProcessError):
            listed = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, check=True).stdout.decode()
            return sorted(name for name in listed.split("\0") if name and (PROJECT_ROOT / name).is_file())
    found = (path.relative_to(PROJECT_ROOT) for path in PROJECT_ROOT.rglob("*") if path.is_file())
    return sorted(
        path.as_posix() for path in found if not any(part in _NOT_SENT or part.startswith(".") for part in path.parts)
    )


def _request(config: LoadedConfig, url: str, job_name: str, image: str) -> dict[str, object]:
    """Of CreateProcessingJob."""
    job, aws = config.benchmark.job, config.benchmark.aws
    arguments = ["--config", config.path.relative_to(PROJECT_ROOT).as_posix(), "--run-dir", url]
    for name, reference in job.secrets.items():
        arguments += ["--secret", f"{name}={reference}"]
    source = {"S3Uri": f"{url}/{SENT}", "LocalPath": INPUT, "S3DataType": "S3Prefix", "S3InputMode": "File"}
    machine = {"InstanceCount": 1, "InstanceType": job.instance_type, "VolumeSizeInGB": job.volume_gb}
    if aws.kms_key_id:
        machine["VolumeKmsKeyId"] = aws.kms_key_id
    request = {
        "ProcessingJobName": job_name,
        "RoleArn": job.role,
        "AppSpecification": {
            "ImageUri": image,
            "ContainerEntrypoint": ["bash", f"{INPUT}/{SCRIPT.name}"],
            "ContainerArguments": arguments,
        },
        "ProcessingInputs": [{"InputName": "source", "S3Input": source}],
        "ProcessingResources": {"ClusterConfig": machine},
        "StoppingCondition": {"MaxRuntimeInSeconds": round(job.max_hours * 3600)},
        "Environment": {"AWS_DEFAULT_REGION": aws.region},
        "Tags": [{"Key": key, "Value": value} for key, value in aws.tags.items()],
    }
    if job.vpc:
        vpc = {"Subnets": job.vpc.subnets, "SecurityGroupIds": job.vpc.security_group_ids}
        request["NetworkConfig"] = {"VpcConfig": vpc}
    return request


@contextmanager
def refusals_in_words(doing: str) -> Iterator[None]:
    """Turn what botocore raises into a DeployError that says what was done, and the next step."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (ClientError, BotoCoreError) as error:
        cause = cause_of_error(error)
        step = _NEXT.get(cause, "correct the section `job` of the config, or try again")
        raise DeployError(f"{doing}: {cause}: {error}. Next: {step}", cause) from error


def stop_command(about: Mapping[str, str]) -> str:
    """The shell command that stops a job, of which `about` is its `ABOUT`."""
    return f"aws sagemaker stop-processing-job --region {about['region']} --processing-job-name {about['job_name']}"


# --- in the job ---------------------------------------------------------------------------------------------------


def in_job(secrets: Mapping[str, str], run_series: Callable[[], int]) -> int:
    """Run the series with the secrets in the environment, where the config expects them, and note how it ended. Returns 0 for
    each status with which a report was asked for and made, because a job with another one counts as failed.
    """
    session = session_of_profile(None, None, None)
    for name, reference in secrets.items():
        where = f"job.secrets.{name}: secret {reference!r} of AWS Secrets Manager"
        try:
            with refusals_in_words(where):
                os.environ[name] = secret_value(reference, session)
        except ValueError as error:
            raise ConfigError(f"{where} {error}") from None
    status = run_series()
    with suppress(OSError):  # where there is no such folder, nobody reads it
        MESSAGE_FILE.write_text(exit_status.in_words(status), encoding="utf-8")
    return exit_status.VERDICT if status in REPORTED else status
