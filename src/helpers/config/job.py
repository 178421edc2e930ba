"""The SageMaker Processing job in which `submit` runs a whole series, so that nobody has to watch it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt

from helpers.config.options import sagemaker_instance
from helpers.config.strict import Strict, in_words


class VpcConfig(Strict):
    """A VPC in which containers run."""

    subnets: list[str] = Field(min_length=1, max_length=16, description="Subnet ids; each subnet is in one zone.")
    security_group_ids: list[str] = Field(min_length=1, max_length=5)


class JobConfig(Strict):
    """The machine of the job, from which the load is sent."""

    role: Annotated[
        str,
        *in_words(
            r"arn:[\w-]+:iam::\d{12}:role/.+", "the ARN of a role", lambda _: "arn:aws:iam::123456789012:role/job"
        ),
    ] = Field(description="The role of the job, with which AWS is called.")
    instance_type: Annotated[
        str, *in_words(r"ml\.[^/\s\x00-\x1f]+", "a SageMaker instance type, which begins with ml.", sagemaker_instance)
    ] = Field(default="ml.m5.2xlarge", description="The machine that sends the load.")
    image: str | None = Field(
        default=None, description="Image with Python 3.11 to 3.13, bash and make; default: the SageMaker Distribution."
    )
    max_hours: float = Field(default=24, gt=0, le=120, description="After which the job is stopped.")
    usd_per_hour: float | None = Field(
        default=None,
        gt=0,
        description="Price of the machine as a Processing instance; without it, `budget_usd` leaves it out.",
    )
    volume_gb: PositiveInt = 30
    secrets: dict[str, str] = Field(
        default_factory=dict,
        description="NAME of a `${NAME}` in this config -> the secret of AWS Secrets Manager that holds its value (or one key of "
        "it: id#key).",
    )
    vpc: VpcConfig | None = Field(default=None, description="It needs a way to S3 and to a package index.")

    def cost_in_words(self) -> str:
        """What follows the name of the machine in a sentence."""
        if self.usd_per_hour is None:
            return "is billed too, at a price that is unknown: budget_usd leaves it out. Next: state job.usd_per_hour"
        most = self.usd_per_hour * self.max_hours
        return f"takes ${self.usd_per_hour:g} an hour, ${most:,.2f} in max_hours, which counts towards budget_usd"
