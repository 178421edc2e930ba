"""The role that endpoints assume: from the config, else, in SageMaker alone, the role of the notebook or its job.

Elsewhere the caller's own role is not used: it may have more permissions than a container should, and SageMaker may be
unable to assume it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.errors import DeployError
from helpers.run.aws_errors import step_beside_a_run

if TYPE_CHECKING:
    import boto3

    from helpers.config.benchmark import BenchmarkConfig

NOTEBOOK_METADATA = Path("/opt/ml/metadata/resource-metadata.json")
"""Of a notebook instance or Studio space. https://docs.aws.amazon.com/sagemaker/latest/dg/nbi-metadata.html"""
NAME_OF_JOB = "TRAINING_JOB_NAME"
"""Variable of a training job; Studio runs notebook jobs as such."""
PROCESSING_JOB = Path("/opt/ml/config/processingjobconfig.json")
"""Of a processing job. https://docs.aws.amazon.com/sagemaker/latest/dg/build-your-own-processing-container.html"""


def find_execution_role(config: BenchmarkConfig, session: boto3.Session) -> str:
    """The ARN of the role. Raises DeployError that says how to make one."""
    if config.aws.execution_role:
        return config.aws.execution_role
    if not (NOTEBOOK_METADATA.is_file() or PROCESSING_JOB.is_file() or NAME_OF_JOB in os.environ):
        raise _no_role("this machine is not a notebook or job of SageMaker")
    from botocore.exceptions import BotoCoreError, ClientError
    from sagemaker.core.helper.session_helper import Session, get_execution_role

    try:
        return get_execution_role(sagemaker_session=Session(boto_session=session))
    except (ValueError, KeyError) as error:
        raise _no_role(f"the role of this notebook was not found: {error}") from error
    except (ClientError, BotoCoreError) as error:
        name_it = "set aws.execution_role to the ARN of this notebook's role"
        step = step_beside_a_run(error, name_it, f"try again, or {name_it}")
        raise _no_role(f"the role of this notebook was not found: {error}", step) from error


def _no_role(
    why: str, step: str = "make one as docs/aws.md says, and set aws.execution_role to its ARN"
) -> DeployError:
    return DeployError(
        f"no execution role: aws.execution_role is not in the config, and {why}. Expected the ARN of a role that "
        f"sagemaker.amazonaws.com may assume. Next: {step}"
    )
