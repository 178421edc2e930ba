"""What the kernel of notebooks 02 and 03 does, without Jupyter."""

import gc
import os
import sys

from patience import bear_a_busy_machine

from helpers.endpoints.deployments import start_deployments
from helpers.endpoints.loading import load_all
from helpers.errors import ServingVerdictError
from helpers.run.folder import open_run


def main(config_path: str, run_dir: str) -> int:
    config, run = open_run(config_path, run_dir)
    try:
        start_deployments(config.benchmark, run, on_change=lambda records: None)
        load_all(config.benchmark, run, on_event=lambda event: None)
    except ServingVerdictError as error:
        print(type(error).__name__, error, *getattr(error, "__notes__", []), sep="\n")
        return 1
    return 0


def main_of_process(environment: dict[str, str], config_path: str, run_dir: str) -> None:
    """As `main`, in a process that was forked for it: with the environment and the session that a new one would have."""
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    bear_a_busy_machine()
    gc.freeze()
    sys.exit(main(config_path, run_dir))
