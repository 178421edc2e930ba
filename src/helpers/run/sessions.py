"""The boto3 session of an option: the standard AWS credential chain, or an AWS profile that points to loopback.

The local SageMaker is reached as the AWS tools document it: through a profile with `endpoint_url` and credentials, in
an AWS config file that only its owner can read. This is the only module that knows of it, so the SageMaker code cannot
behave differently on a laptop.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.options import SageMakerOption
from helpers.run.folder import RunFolder
from helpers.run.ledger import EndpointRecord
from helpers.run.whole_files import OWNER_ONLY, write_atomically

if TYPE_CHECKING:
    import boto3
    import botocore.session
    from botocore.loaders import Loader

LOCAL_PROFILE = "local-sagemaker"
RETRIES = {"retry_mode": "standard", "max_attempts": 8}
"""A throttled control plane is asked again, after pauses that grow to 20 s."""
LOCAL_ROLE = "arn:aws:iam::000000000000:role/local-sagemaker"


def aws_session(option: SageMakerOption, config: BenchmarkConfig, run: RunFolder) -> boto3.Session:
    """A boto3 session for an option. Starts the local SageMaker where the option asks for it and it is not running."""
    if not option.local:
        return session_of_profile(None, None, config.aws.region)
    _local_profile(config, run)
    return session_of_profile(LOCAL_PROFILE, str(local_config_file(run)), config.aws.region)


def session_of_record(record: EndpointRecord, run: RunFolder) -> boto3.Session | None:
    """A session that reaches an endpoint of the ledger; None for a local SageMaker that has ended, and with it all
    that it held."""
    from helpers.run.local_server import running_url

    if not record.local:
        return session_of_profile(None, None, record.region)
    if running_url(_local_address_file(run)) is None:
        return None
    return session_of_profile(LOCAL_PROFILE, str(local_config_file(run)), record.region)


def end_local_sagemaker(run: RunFolder) -> None:
    """End the run's local SageMaker, and with it every model server; nothing happens if it does not run."""
    from helpers.run.local_server import stop

    stop(_local_address_file(run))


def session_of_profile(profile: str | None, config_file: str | None, region: str | None) -> boto3.Session:
    """A boto3 session for a profile of an AWS config file; both None: the standard chain. The region may be AWS's own."""
    import botocore.session

    core = botocore.session.Session(profile=profile)
    if profile is not None:
        core.set_config_variable("config_file", config_file)
    if region is not None:
        core.set_config_variable("region", region)
    for name, value in RETRIES.items():
        if core.get_config_variable(name) is None:  # else the person's own setting
            core.set_config_variable(name, value)
    return session_of(core, region)


def session_of(core: botocore.session.Session, region: str | None) -> boto3.Session:
    """A boto3 session on botocore's, with what others have parsed: one by itself parses the descriptions of services anew."""
    import boto3

    loader = _loader(core.get_config_variable("data_path"))
    core.register_component("data_loader", loader)
    session = boto3.Session(botocore_session=core, region_name=region)
    loader.search_paths[:] = dict.fromkeys(loader.search_paths)  # boto3 adds its own each time
    return session


@cache
def _loader(data_path: str | None) -> Loader:
    from botocore.loaders import create_loader

    return create_loader(data_path)


def local_config_file(run: RunFolder) -> Path:
    """The AWS config file of the run's local SageMaker."""
    return run.folder("local_sagemaker") / "aws_config"


def _local_address_file(run: RunFolder) -> Path:
    return run.folder("local_sagemaker") / "address.json"


def _local_profile(config: BenchmarkConfig, run: RunFolder) -> None:
    """Make sure that the local SageMaker runs and that its profile holds its present address."""
    from helpers.run.local_server import ensure_running

    server = ensure_running(
        _local_address_file(run),
        run.logs,
        engines=config.local_sagemaker.commands(),
        engine_variables=config.local_sagemaker.engine_variables,
        idle_timeout_s=config.local_sagemaker.idle_timeout_s,
        faults=config.local_sagemaker.faults,
    )
    profile = (
        f"[profile {LOCAL_PROFILE}]\nendpoint_url = {server.url}\nregion = {config.aws.region}\n"
        f"aws_access_key_id = {server.access_key_id}\naws_secret_access_key = {server.secret_access_key}\n"
    )
    if not local_config_file(run).is_file() or local_config_file(run).read_text() != profile:
        write_atomically(local_config_file(run), profile, mode=OWNER_ONLY)
