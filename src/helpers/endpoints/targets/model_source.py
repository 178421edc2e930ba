"""What a SageMaker model is made of: image, environment with its secrets, model data. Looked up when it is deployed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from helpers.config.containers import JumpStart
from helpers.config.secret_names import HIDDEN, SECRET_NAME
from helpers.endpoints.failures import NEXT_STEP, deploy_error
from helpers.errors import DeployError
from helpers.run.aws_errors import Cause, cause_of_error
from helpers.run.secret_values import secret_value

if TYPE_CHECKING:
    import boto3

    from helpers.config.options import SageMakerOption

_LOOKS_LIKE_A_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{16,}\b")
JUMPSTART_STEP = (
    "let the caller read JumpStart's bucket (s3:GetObject on arn:aws:s3:::jumpstart-cache-prod-*/*, statement JumpStartModels "
    "of docs/policies/caller.json): its list of models is read with the caller's credentials, not with the execution role's"
)
SHORTEST_SECRET = 4
"""Shorter values are no secrets, and blotting them out would blot out words."""


@dataclass(frozen=True)
class ModelSource:
    """Image, container environment and model data of one option. Holds secrets: it is never written."""

    image: str
    environment: dict[str, str] = field(repr=False)
    model_data_url: str | None
    accept_eula: bool = False
    secret_names: frozenset[str] = frozenset()
    """Environment variables from Secrets Manager, under any name."""

    def without_secrets(self, text: str) -> str:
        """A text of AWS or of the container, which may quote its environment, without the secrets in it."""
        for name, value in self.environment.items():
            is_secret = name in self.secret_names or SECRET_NAME.search(name)
            if is_secret and len(value) >= SHORTEST_SECRET:
                text = text.replace(value, HIDDEN)
        return _LOOKS_LIKE_A_TOKEN.sub(HIDDEN, text)


def find_model_source(option: SageMakerOption, region: str, session: boto3.Session) -> ModelSource:
    """Look up image, model data and secrets of an option. Raises DeployError."""
    secrets = _read_secrets(option, session)
    if option.jumpstart is not None:
        return _jumpstart_source(option.jumpstart, option, region, secrets)
    container = option.container
    return ModelSource(
        image=container.image_uri(option.instance_type, region),
        environment={**container.full_environment(), **secrets},
        model_data_url=container.model_data_url,
        secret_names=frozenset(secrets),
    )


def _read_secrets(option: SageMakerOption, session: boto3.Session) -> dict[str, str]:
    """Environment variable -> value, from AWS Secrets Manager."""
    wanted = (option.container or option.jumpstart).secrets
    if not wanted:
        return {}
    from botocore.exceptions import BotoCoreError, ClientError

    found = {}
    for name, reference in wanted.items():
        where = f"{name}: secret {reference!r} of AWS Secrets Manager"
        try:
            found[name] = secret_value(reference, session)
        except (ClientError, BotoCoreError) as error:
            raise deploy_error(option.name, where, error) from error
        except ValueError as error:
            raise DeployError(f"option {option.name!r}: {where} {error}") from None
    return found


def _jumpstart_source(
    jumpstart: JumpStart, option: SageMakerOption, region: str, secrets: dict[str, str]
) -> ModelSource:
    from botocore.exceptions import BotoCoreError, ClientError
    from sagemaker.core import environment_variables, image_uris, model_uris

    lookup = {
        "model_id": jumpstart.model_id,
        "model_version": jumpstart.version,
        "region": region,
        "instance_type": option.instance_type,
    }
    try:
        image = image_uris.retrieve(framework=None, image_scope="inference", **lookup)
        defaults = environment_variables.retrieve_default(script="inference", **lookup)
        data = model_uris.retrieve(model_scope="inference", **lookup)
    except (ValueError, KeyError, ClientError, BotoCoreError) as error:
        next_step = "check id, version and instance type in the JumpStart model list"
        if isinstance(error, ClientError | BotoCoreError):
            next_step = NEXT_STEP[cause_of_error(error)]
            if cause_of_error(error) in (Cause.PERMISSION, Cause.OTHER):
                next_step = JUMPSTART_STEP
        raise DeployError(
            f"option {option.name!r}: jumpstart model {jumpstart.model_id!r} version {jumpstart.version!r} "
            f"for {option.instance_type}: {error}. Next: {next_step}"
        ) from error
    environment = {**defaults, **jumpstart.environment, **secrets}
    return ModelSource(image, environment, data, jumpstart.accept_eula, frozenset(secrets))
