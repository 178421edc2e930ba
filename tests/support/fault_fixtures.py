"""Fixtures of the tests in an AWS account on loopback; test files name this module in `pytest_plugins`."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_lab import Lab, fault_config, lab_in

from helpers.load.calibration import calibrate
from helpers.prompts.making import make_prompts
from helpers.run import local_server as launcher
from helpers.run.folder import open_run
from helpers.run.prompt_files import write_prompts
from local_sagemaker.tiny_model import default_cache_dir


@pytest.fixture(scope="session")
def prepared(made_once) -> Path:
    """Prompts and calibration, which are the same for all runs of the fault config."""
    (run,) = (made_once("prepared", prepare) / "runs").iterdir()
    return run


def prepare(folder: Path) -> None:
    config, run = open_run(str(fault_config(folder)), new=True)
    write_prompts(make_prompts(config.benchmark, folder, default_cache_dir()).tables, run.payloads)
    calibrate(config.benchmark, run)


@pytest.fixture(scope="session")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of an AWS account on loopback, which the first lab opens."""
    folder = tmp_path_factory.mktemp("account")
    yield folder
    launcher.stop(folder / "address.json")


@pytest.fixture
def lab(tmp_path: Path, prepared: Path, account: Path) -> Iterator[Lab]:
    with lab_in(tmp_path, prepared, account) as lab:
        yield lab
