"""How each notebook starts: one call converts its parameters to their types and opens the run that they name."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.file import LoadedConfig
from helpers.metrics.single_requests import with_measured_limits
from helpers.run import folder
from helpers.run.folder import RunFolder
from helpers.run.records import AttemptFacts, read_facts
from helpers.series.parameters import coerce_parameters


@dataclass(frozen=True)
class Run(RunFolder):
    """A run that a notebook works on: its folder and its config."""

    loaded: LoadedConfig
    """The config, with the file that it was read from."""

    @property
    def config(self) -> BenchmarkConfig:
        """The config's content; limits that depend on the machine are numbers once they are measured."""
        return self.loaded.benchmark

    @property
    def base_dir(self) -> Path:
        """The folder that the config's paths are relative to."""
        return self.loaded.path.parent

    def facts(self) -> list[AttemptFacts]:
        """What each load point says of itself."""
        return read_facts(self.requests)


def open_run(namespace: MutableMapping[str, object], new: bool = False) -> Run:
    """The run that a notebook's parameters (its `globals()`) name: `config_path` and `run_dir`.

    `new` as in `run.folder.open_run`, which documents what is refused. Raises ParameterError, ConfigError and RunFolderError.
    """
    coerce_parameters(namespace)
    config, found = folder.open_run(namespace["config_path"], namespace["run_dir"], new)
    return Run(found.path, with_measured_limits(config, found))
