"""What AWS refused: the cause of an error that botocore raised.

Error codes: "Common errors" and CreateEndpoint of the SageMaker API reference, and
https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html (List of error codes). Failure reasons of endpoints:
https://repost.aws/knowledge-center/sagemaker-endpoint-creation-fail
"""

from __future__ import annotations

import re
from enum import StrEnum


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


CREDENTIAL_CODES = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "RequestExpired",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "RequestTimeTooSkewed",
        "UnrecognizedClientException",
        "MissingAuthenticationTokenException",
        "AuthFailure",
    }
)
NOT_FOUND_CODES = ("ValidationException", "ResourceNotFound")
_CODES = {
    **dict.fromkeys(CREDENTIAL_CODES, Cause.CREDENTIALS),
    **dict.fromkeys(
        (
            "ThrottlingException",
            "Throttling",
            "ThrottledException",
            "RequestThrottled",
            "RequestThrottledException",
            "TooManyRequestsException",
            "RequestLimitExceeded",
            "SlowDown",
        ),
        Cause.THROTTLED,
    ),
    **dict.fromkeys(
        ("AccessDenied", "AccessDeniedException", "AllAccessDisabled", "AccountProblem", "403"), Cause.PERMISSION
    ),
    "ResourceLimitExceeded": Cause.QUOTA,
    "InsufficientInstanceCapacity": Cause.CAPACITY,
}
_CREDENTIAL_ERRORS = (
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "ProfileNotFound",
    "SSOError",
    "TokenRetrievalError",
    "SSOTokenLoadError",
    "UnauthorizedSSOTokenError",
    "LoginRefreshTokenExpired",
)
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


def cause_of_words(reason: str) -> Cause:
    """The cause that AWS's own words give: an error message or a failure reason."""
    return first_match(_WORDS, reason)


def first_match(patterns: tuple[tuple[str, Cause], ...], text: str) -> Cause:
    """The cause of the first pattern that the text matches."""
    for pattern, cause in patterns:
        if re.search(pattern, text, re.IGNORECASE | re.DOTALL):
            return cause
    return Cause.OTHER


def code_of(error: Exception) -> str:
    """AWS's code of an error, for example `AccessDenied`; empty where AWS did not answer."""
    return _detail(error).get("Code", "")


def cause_of_error(error: Exception) -> Cause:
    """The cause of an error that botocore raised (a ClientError or a BotoCoreError)."""
    if getattr(error, "response", None) is None:
        if type(error).__name__ in _CREDENTIAL_ERRORS:
            return Cause.CREDENTIALS
        is_network = "Connect" in type(error).__name__ or "Timeout" in type(error).__name__
        return Cause.CONNECTION if is_network else Cause.OTHER
    return _CODES.get(code_of(error)) or cause_of_words(str(error))


def is_not_found(error: Exception) -> bool:
    """True if an error that botocore raised says that the resource does not exist."""
    return code_of(error) in NOT_FOUND_CODES and bool(
        re.search("could not find|does not exist", _detail(error).get("Message", ""), re.IGNORECASE)
    )


def is_passing(error: Exception) -> bool:
    """True where the same call may succeed a little later: throttled, not reached, or a fault of the service."""
    if cause_of_error(error) in (Cause.THROTTLED, Cause.CONNECTION):
        return True
    response = getattr(error, "response", None) or {}
    return response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500


def step_beside_a_run(error: Exception, if_not_allowed: str, if_passing: str) -> str:
    """What to do about a call that the run does not need and AWS refused: a permission helps only where one is missing."""
    if is_passing(error):
        return if_passing
    return {
        Cause.PERMISSION: if_not_allowed,
        Cause.CREDENTIALS: "log in again (aws sso login, or new keys)",
    }.get(cause_of_error(error), "look at what AWS said")


def _detail(error: Exception) -> dict[str, str]:
    return (getattr(error, "response", None) or {}).get("Error", {})
