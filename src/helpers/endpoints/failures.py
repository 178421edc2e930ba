"""Why a deployment failed, and what to do about it: next steps, what a container's log says, the error to raise."""

from __future__ import annotations

import re

from helpers.errors import CredentialsError, DeployError
from helpers.run.aws_errors import Cause, cause_of_error, first_match

NEXT_STEP = {
    Cause.QUOTA: "ask for more at Service Quotas (“<instance type> for endpoint usage”), lower max_parallel_endpoints, or "
    "choose another instance type",
    Cause.CAPACITY: "run again later, let it ask again (on_no_capacity.retry_for_s, with subnets of other zones), or choose "
    "another instance type or region",
    Cause.IMAGE: "check image and version, that they exist in this region, and that the execution role may pull them from ECR",
    Cause.MODEL_DATA: "check model id or S3 URI, the execution role's access to it and, for a gated model, hf_token",
    Cause.CRASH: "correct the container's settings; its whole log is in CloudWatch, /aws/sagemaker/Endpoints/<endpoint name>",
    Cause.STARTUP: "raise startup_timeout_s, or correct the container's settings; its log is in CloudWatch, "
    "/aws/sagemaker/Endpoints/<endpoint name>",
    Cause.DRIVER: "set inference_ami to a machine image whose driver suits the container's CUDA (data/inference_amis.csv), or "
    "take a version of the container with another CUDA",
    Cause.CREDENTIALS: "log in again, then run it again: finished load points are kept",
    Cause.PERMISSION: "give the caller and the execution role the policies in docs/aws.md",
    Cause.THROTTLED: "run it again; fewer endpoints at once (max_parallel_endpoints) make fewer calls",
    Cause.CONNECTION: "check network, proxy and aws.region",
    Cause.VANISHED: "look who deleted it, then run it again",
    Cause.OTHER: "correct the option or the account (role, image, settings), then run it again",
}
NO_LOG_STEP = (
    "a container that prints nothing is the sign of a machine image whose driver does not suit its CUDA: set inference_ami "
    "(data/inference_amis.csv has what suits); else see that the logs may be read (docs/aws.md) and that the image starts"
)

_WORDS_OF_LOGS = (
    (
        r"nvidia driver.{0,80}too old|driver version is insufficient|forward compatibility was attempted|"
        r"unsupported display driver|nvidia-container-cli.{0,80}unsatisfied condition|neuron driver.{0,80}(version|old)",
        Cause.DRIVER,
    ),
    (
        r"gatedrepo|repository ?not ?found|401 client error|cannot access gated|no space left on device",
        Cause.MODEL_DATA,
    ),
    (r"out of memory|cuda error|traceback|exit code", Cause.CRASH),
)
_ENUM = re.compile(r"(enum value set: )(\[[^\]]*\]?)", re.IGNORECASE)
LONGEST_ENUM = 200
"""Characters of a list of values that a person reads."""


def cause_of_log(lines: str) -> Cause:
    """The cause that the last lines of a container give. Little is believed: a log may hold any words."""
    return first_match(_WORDS_OF_LOGS, lines)


def without_enums(words: str) -> str:
    """AWS's words without the list of all values that it would have taken: for instance types these are hundreds."""
    return _ENUM.sub(lambda found: found[0] if len(found[2]) <= LONGEST_ENUM else f"{found[1]}(left out)", words)


def deploy_error(option: str, doing: str, error: Exception, words: str | None = None) -> DeployError:
    """The error to raise for one of botocore: what was done, what AWS said, and the next step.

    `words`: what AWS said, if its own text may hold a secret. Expired credentials give a CredentialsError.
    """
    cause = cause_of_error(error)
    said = without_enums(words or str(error))
    text = f"option {option!r}: {doing}: {cause}: {said}. Next: {NEXT_STEP[cause]}"
    return CredentialsError(text, cause) if cause == Cause.CREDENTIALS else DeployError(text, cause)
