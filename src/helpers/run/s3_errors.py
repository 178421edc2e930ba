"""What S3 or boto3 refused, in words, with the next step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import Timeout

from helpers.errors import RunFolderError
from helpers.run.aws_errors import Cause, cause_of_error, code_of


@contextmanager
def s3_errors_in_words(url: str) -> Iterator[None]:
    """Turn what S3, boto3 or a lock raises while `url` is used into a RunFolderError that names `run_root`."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError
    from s3transfer.exceptions import S3DownloadFailedError

    try:
        yield
    except Timeout as error:
        raise RunFolderError(
            f"run_root {url}: another process has been uploading this run for long ({error.lock_file}). "
            "Next: wait until it has ended"
        ) from error
    except (Boto3Error, BotoCoreError, ClientError, S3DownloadFailedError) as error:
        # boto3 puts its own error in the place of the one that S3 answered
        cause = error.__context__ if isinstance(error.__context__, ClientError) else error
        raise RunFolderError(f"run_root {url}: {_in_words(cause, url)}") from error


def _in_words(error: Exception, url: str) -> str:
    from botocore.exceptions import ConnectionError, HTTPClientError, ParamValidationError

    bucket, code, cause = url.split("/")[2], code_of(error), cause_of_error(error)
    if code == "NoSuchBucket":
        return (
            f"there is no bucket {bucket!r}. Next: make it (aws s3 mb s3://{bucket}), or correct run_root in the config"
        )
    if cause == Cause.CREDENTIALS:
        why = f"the AWS credentials were refused ({code})" if code else f"no AWS credentials that can be used: {error}"
        return f"{why}. Next: sign in (aws configure, aws sso login) or set AWS_PROFILE"
    if cause == Cause.PERMISSION:
        return (
            f"access denied ({error.operation_name}). Next: allow s3:ListBucket on the bucket {bucket!r}, and s3:GetObject and "
            "s3:PutObject under this prefix"
        )
    if isinstance(error, ParamValidationError) or code == "InvalidBucketName":
        return f"{bucket!r} is not the name of a bucket. Next: correct run_root in the config"
    if isinstance(error, ConnectionError | HTTPClientError):
        return f"S3 cannot be reached: {error}. Next: look at the network and at aws.region in the config"
    return f"{error}. Next: try again, or correct run_root in the config"
