"""What shipped configs send to SageMaker. `.venv/bin/python tests/support/aws_bodies.py` writes it anew to aws_bodies.json.

Nothing is called. Of JumpStart models, image, data and default environment are found on AWS alone: names stand for them.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

from helpers.config.benchmark import PROJECT_ROOT, BenchmarkConfig
from helpers.config.file import load_config
from helpers.config.options import SageMakerOption
from helpers.endpoints.targets.model_source import ModelSource, find_model_source
from helpers.endpoints.targets.sagemaker_requests import EndpointRequests, endpoint_requests

SNAPSHOT = Path(__file__).with_name("aws_bodies.json")
COMMAND = ".venv/bin/python tests/support/aws_bodies.py"
CONFIGS = sorted((PROJECT_ROOT / "configs").glob("*.yml"))
ROLE = "arn:aws:iam::123456789012:role/endpoints"
OPERATIONS = ("CreateModel", "CreateEndpointConfig", "CreateEndpoint")


def source_of(option: SageMakerOption, region: str) -> ModelSource:
    """Image, environment and model data of an option."""
    if option.container:
        return find_model_source(option, region, session=None)
    asked = option.jumpstart
    data = f"s3://jumpstart-cache-prod-{region}/{asked.model_id}/"
    return ModelSource(f"jumpstart:{asked.model_id}:{asked.version}", asked.environment, data, asked.accept_eula)


def bodies(option: SageMakerOption, config: BenchmarkConfig) -> EndpointRequests:
    """The bodies of an option, under a name of its own."""
    source = source_of(option, config.aws.region)
    return endpoint_requests(option, config.aws, source, name="run-1-a", role=ROLE, subnets=[], tags={"run-id": "1"})


def is_made_on_aws(option: object) -> bool:
    """True where a run creates an endpoint on AWS."""
    return isinstance(option, SageMakerOption) and option.deploy and not option.local


def all_bodies() -> dict[str, dict[str, dict[str, object]]]:
    """Config -> option -> operation -> body, of all that the shipped configs create on AWS."""
    configs = {path.stem: load_config(path).benchmark for path in CONFIGS}
    return {
        name: {
            option.name: dict(zip(OPERATIONS, bodies(option, config), strict=True))
            for option in config.options
            if is_made_on_aws(option)
        }
        for name, config in configs.items()
        if any(map(is_made_on_aws, config.options))
    }


def variables() -> dict[str, str]:
    """Every variable that a config names -> a value that shows where it ends up."""
    named = re.findall(r"\$\{(\w+)\}", "".join(path.read_text(encoding="utf-8") for path in CONFIGS))
    return {name: "http://example.com" if name.endswith("_URL") else f"value-of-{name}" for name in named}


if __name__ == "__main__":
    os.environ |= variables()
    SNAPSHOT.write_text(json.dumps(all_bodies(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    sys.stdout.write(f"wrote {SNAPSHOT}\n")
