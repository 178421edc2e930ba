"""The role that endpoints assume: from the config, else the role of the SageMaker notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.errors import DeployError

if TYPE_CHECKING:
    import boto3

    from helpers.config import BenchmarkConfig


def find_execution_role(config: BenchmarkConfig, session: boto3.Session) -> str:
    """The ARN of the role. Raises DeployError that says how to make one."""
    if config.aws.execution_role:
        return config.aws.execution_role
    from botocore.exceptions import BotoCoreError, ClientError
    from sagemaker.core.helper.session_helper import Session, get_execution_role

    try:
        return get_execution_role(sagemaker_session=Session(boto_session=session))
    except (ValueError, KeyError, ClientError, BotoCoreError) as error:
        raise DeployError(
            f"no execution role: aws.execution_role is not in the config, and this is not a SageMaker notebook with a role "
            f"({error}). Expected the ARN of a role that sagemaker.amazonaws.com may assume. Next: make one as docs/aws.md says, "
            "and set aws.execution_role to its ARN"
        ) from error
