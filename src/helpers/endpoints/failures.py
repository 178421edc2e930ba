"""Why a deployment failed, by what AWS says: a cause, and what to do about it.

Sources: error codes of the SageMaker API reference ("Common errors", CreateEndpoint), and the failure reasons listed in
https://repost.aws/knowledge-center/sagemaker-endpoint-creation-fail
"""

from __future__ import annotations

import re
from enum import StrEnum

from helpers.errors import CredentialsError, DeployError


class Cause(StrEnum):
    """What went wrong. The ledger keeps it, and what is done about it follows from it."""

    QUOTA = "quota exceeded"
    CAPACITY = "no capacity"
    IMAGE = "image not found"
    MODEL_DATA = "model download failed"
    CRASH = "container crashed"
    STARTUP = "not ready in time"
    DRIVER = "machine image does not suit"
    CREDENTIALS = "no valid credentials"
    PERMISSION = "not allowed"
    THROTTLED = "throttled"
    CONNECTION = "AWS not reached"
    VANISHED = "vanished"
    OTHER = "other"


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

CREDENTIAL_CODES = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "RequestExpired",
        "InvalidClientTokenId",
        "UnrecognizedClientException",
        "MissingAuthenticationTokenException",
        "AuthFailure",
    }
)
THROTTLING_CODES = frozenset({"ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded"})
NOT_FOUND_CODES = ("ValidationException", "ResourceNotFound")
_CODES = {
    **dict.fromkeys(CREDENTIAL_CODES, Cause.CREDENTIALS),
    **dict.fromkeys(THROTTLING_CODES, Cause.THROTTLED),
    "ResourceLimitExceeded": Cause.QUOTA,
    "InsufficientInstanceCapacity": Cause.CAPACITY,
    "AccessDenied": Cause.PERMISSION,
    "AccessDeniedException": Cause.PERMISSION,
}
_WORDS = (
    (r"insufficient.?instance.?capacity|unable to provision requested ml compute", Cause.CAPACITY),
    (r"service limit|resourcelimitexceeded", Cause.QUOTA),
    (r"model data|model artifact|download.{0,40}(model|s3:)|no space left on device", Cause.MODEL_DATA),
    (
        r"\bimage\b.{0,300}(not exist|not found|could not be found|invalid)|(repository|ecr:).{0,200}(grant|not exist)",
        Cause.IMAGE,
    ),
    (r"not authorized|access denied|could not assume role|ensure that the role", Cause.PERMISSION),
    (r"cannotstartcontainer|stopped (before|with)|exit code", Cause.CRASH),
    (r"ping health check", Cause.STARTUP),
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
_CREDENTIAL_ERRORS = (
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "TokenRetrievalError",
    "SSOTokenLoadError",
    "UnauthorizedSSOTokenError",
    "LoginRefreshTokenExpired",
)


def cause_of_words(reason: str) -> Cause:
    """The cause that AWS's own words tell: an error message or a failure reason."""
    return _first_match(_WORDS, reason)


def cause_of_log(lines: str) -> Cause:
    """The cause that the last lines of a container tell. Little is believed: a log may hold any words."""
    return _first_match(_WORDS_OF_LOGS, lines)


def _first_match(patterns: tuple[tuple[str, Cause], ...], text: str) -> Cause:
    for pattern, cause in patterns:
        if re.search(pattern, text, re.IGNORECASE | re.DOTALL):
            return cause
    return Cause.OTHER


def cause_of_error(error: Exception) -> Cause:
    """The cause of an error that botocore raised (a ClientError or a BotoCoreError)."""
    response = getattr(error, "response", None)
    if response is None:
        if type(error).__name__ in _CREDENTIAL_ERRORS:
            return Cause.CREDENTIALS
        is_network = "Connect" in type(error).__name__ or "Timeout" in type(error).__name__
        return Cause.CONNECTION if is_network else Cause.OTHER
    code = response.get("Error", {}).get("Code", "")
    return _CODES.get(code) or cause_of_words(str(error))


def is_not_found(error: Exception) -> bool:
    """True if an error that botocore raised says that the resource does not exist."""
    detail = (getattr(error, "response", None) or {}).get("Error", {})
    return detail.get("Code") in NOT_FOUND_CODES and bool(
        re.search("could not find|does not exist", detail.get("Message", ""), re.IGNORECASE)
    )


def is_passing(error: Exception) -> bool:
    """True where the same call may succeed a little later: throttled, not reached, or a fault of the service."""
    if cause_of_error(error) in (Cause.THROTTLED, Cause.CONNECTION):
        return True
    response = getattr(error, "response", None) or {}
    return response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500


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
