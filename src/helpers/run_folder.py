"""The run folder: where one pass of the series keeps everything, and how a notebook finds it.

runs/<run id>/
    run.json  config.yml          what was run, on which machine, with which versions
    payloads/  endpoints.json  requests/  metrics/  figures/  verdict.json  report.html  report.md
    notebooks/                    the executed notebooks
    logs/                         of the load processes and of local model servers
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from helpers.config import PROJECT_ROOT, SECRET_NAME, usable_cpu_count
from helpers.config_file import LoadedConfig, load_config
from helpers.errors import RunFolderError

SCHEMA_VERSION = 1
MEASURED_SECTIONS = ("seed", "model", "prompts", "datasets", "generation", "options", "load")
RECORDED_PACKAGES = (
    "boto3",
    "sagemaker-core",
    "papermill",
    "pandas",
    "pyarrow",
    "uvloop",
    "transformers",
    "openvino-genai",
)


@dataclass(frozen=True)
class RunFolder:
    """One run's folder."""

    path: Path

    @property
    def run_id(self) -> str:
        """Readable and unique, for example quickstart-20261123-141502."""
        return self.path.name

    def folder(self, name: str) -> Path:
        """A sub-folder, made if it is not there."""
        folder = self.path / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def payloads(self) -> Path:
        """Prompts, one Parquet file per dataset."""
        return self.folder("payloads")

    @property
    def requests(self) -> Path:
        """Request records, one Parquet file per load point."""
        return self.folder("requests")

    @property
    def metrics(self) -> Path:
        """Tables computed from the request records."""
        return self.folder("metrics")

    @property
    def figures(self) -> Path:
        """Figures of the report."""
        return self.folder("figures")

    @property
    def logs(self) -> Path:
        """Logs of load processes and local model servers."""
        return self.folder("logs")

    @property
    def ledger_file(self) -> Path:
        """The ledger of endpoints."""
        return self.path / "endpoints.json"

    @property
    def instrument_file(self) -> Path:
        """What the load generator itself adds, by its calibration."""
        return self.path / "instrument.json"

    def about(self) -> dict:
        """The content of run.json."""
        return json.loads((self.path / "run.json").read_text(encoding="utf-8"))

    def require(self, name: str, written_by: str) -> Path:
        """The path of a file of this run. Raises RunFolderError, naming the notebook that writes it."""
        path = self.path / name
        if not path.exists():
            raise RunFolderError(f"{path}: not there. Next: run notebooks/{written_by} on this run folder first")
        return path


def open_run(config_path: str, run_dir: str = "", new: bool = False) -> tuple[LoadedConfig, RunFolder]:
    """The config and the folder of a run.

    An empty `run_dir` means a new run where `new` is true, else the newest run of this config. Raises RunFolderError
    where the folder was measured with another model, workload or set of options: SLO, traffic and prices may change
    between measuring and judging, what was measured may not.
    """
    config = load_config(config_path or PROJECT_ROOT / "configs" / "quickstart.yml")
    root = run_root(config)
    if run_dir:
        run = RunFolder(Path(run_dir).expanduser().resolve())
    elif new:
        run = new_run(config)
    else:
        run = RunFolder(_newest_run(root, config.benchmark.name))
    if (run.path / "run.json").is_file():
        _refuse_other_measurement(config, run)
    elif new:
        _begin(config, run)
    else:
        raise RunFolderError(
            f"{run.path}: no run.json there. Next: run notebooks/01_generate_data with this run_dir first"
        )
    return config, run


def run_root(config: LoadedConfig) -> Path:
    """The folder of the run folders."""
    root = config.benchmark.run_root
    return (config.path.parent / root).resolve() if root else PROJECT_ROOT / "runs"


def new_run(config: LoadedConfig) -> RunFolder:
    """A new, empty run folder, named after the config and the UTC time."""
    run_id = f"{config.benchmark.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    for suffix in ("", *(f"-{i}" for i in range(2, 100))):
        path = run_root(config) / f"{run_id}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.mkdir()
        except FileExistsError:  # another run began in the same second
            continue
        return RunFolder(path)
    raise RunFolderError(f"{run_root(config)}: a hundred runs began in one second. Next: give run_dir")


def find_run(run: str) -> RunFolder:
    """A run by its folder or, under the project's `runs`, by its id. Raises RunFolderError."""
    for path in (Path(run), PROJECT_ROOT / "runs" / run):
        if (path / "run.json").is_file():
            return RunFolder(path.resolve())
    raise RunFolderError(f"{run!r} is neither a run folder nor a run id under {PROJECT_ROOT / 'runs'}. Next: ls runs")


def _newest_run(root: Path, name: str) -> Path:
    runs = [path.parent for path in root.glob(f"{name}-*/run.json")]
    runs = [path for path in runs if json.loads((path / "run.json").read_text())["config_name"] == name]
    if not runs:
        raise RunFolderError(f"{root}: holds no run of {name!r}. Next: run notebooks/01_generate_data, or give run_dir")
    return max(runs, key=lambda path: json.loads((path / "run.json").read_text())["started_at"])


def _begin(config: LoadedConfig, run: RunFolder) -> None:
    run.path.mkdir(parents=True, exist_ok=True)
    write_atomically(run.path / "config.yml", config.public_yaml())
    about = {
        "schema_version": SCHEMA_VERSION,
        "run_id": run.run_id,
        "config_name": config.benchmark.name,
        "config_file": config.path.name,
        "config_dir": str(config.path.parent),
        "measured_digests": _measured_digests(config),
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "versions": _versions(),
    }
    write_atomically(run.path / "run.json", json.dumps(about, indent=1) + "\n")


def _refuse_other_measurement(config: LoadedConfig, run: RunFolder) -> None:
    recorded = run.about()["measured_digests"]
    changed = [name for name, digest in _measured_digests(config).items() if recorded.get(name) != digest]
    if changed:
        raise RunFolderError(
            f"{run.path}: was measured with other values of {', '.join(changed)} than {config.path} has now. "
            "Next: start a new run (empty run_dir), or restore these sections; compare with config.yml in the run folder"
        )


def _measured_digests(config: LoadedConfig) -> dict[str, str]:
    """Section -> digest of what decides the measurements in it; prices do not."""
    data = config.benchmark.model_dump(mode="json")
    for option in data["options"]:
        option.pop("price", None)
        option.pop("other_prices", None)
        _forget_secrets(option)
    return {
        name: hashlib.sha256(json.dumps(data[name], sort_keys=True).encode()).hexdigest()[:16]
        for name in MEASURED_SECTIONS
    }


def _forget_secrets(section: dict) -> None:
    """Blank out what may change without changing what is measured: keys, tokens and passwords."""
    for name, value in section.items():
        if isinstance(value, dict):
            _forget_secrets(value)
        elif isinstance(value, str) and SECRET_NAME.search(name):
            section[name] = ""


def describe_machine() -> dict:
    """This machine, as far as the measurements depend on it."""
    return {
        "cpu": _cpu_name(),
        "vcpus": usable_cpu_count(),
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _memory_gib() -> float | None:
    if not hasattr(os, "sysconf"):
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def _versions() -> dict[str, str]:
    found = {}
    for package in RECORDED_PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a crash leaves the old or the new content, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
