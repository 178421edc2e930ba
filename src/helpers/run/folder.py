"""The run folder: where one pass of the series keeps everything, and how a notebook finds it.

runs/<run id>/
    run.json  config.yml          what was run, on which machine, with which versions
    server/                       what servers said of themselves under load, if they did
    payloads/  endpoints.json  requests/  metrics/  figures/  verdict.json  report.html  report.md
    tables/                       of the report, as CSV and in one workbook
    notebooks/                    the executed notebooks
    logs/                         of the load processes and of local model servers

A run folder and all in it are for their owner alone (0700, 0600): prompts and answers may be confidential.

`run_root` in a config may be in S3. Then this folder is the local copy of the one there; see `run.remote`.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import JsonValue, TypeAdapter, ValidationError

from helpers.config.benchmark import PROJECT_ROOT
from helpers.config.file import LoadedConfig, load_config
from helpers.config.yaml import expanded
from helpers.errors import NoSuchRun, RunFolderError, log_errors_to, shown
from helpers.run.disk_errors import os_errors_in_words
from helpers.run.environment import describe_machine, package_versions
from helpers.run.ledger import merge_ledgers
from helpers.run.measured_config import is_corrected, refuse_other_measurement
from helpers.run.remote import RemoteRun, is_remote, remote_of, run_id_of, run_url, run_urls, say_once
from helpers.run.whole_files import keep_private, write_atomically

SCHEMA_VERSION = 1
_About = TypeAdapter(dict[str, JsonValue])
LOCAL_ROOT = PROJECT_ROOT / "runs"
RESULT_FOLDERS = ("", "metrics")
"""The endpoints and results of a run, without its prompts and requests, which are large."""


@dataclass(frozen=True)
class RunFolder:
    """One run's folder."""

    path: Path

    @property
    def run_id(self) -> str:
        """Readable and unique, for example quickstart-20261123-141502."""
        return self.path.name

    def folder(self, name: str) -> Path:
        """A sub-folder, made if it does not exist."""
        folder = self.path / name
        with os_errors_in_words(folder):
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
        """The content of run.json. Raises RunFolderError where that is damaged."""
        file = self.path / "run.json"
        try:
            with os_errors_in_words(file):
                return _About.validate_json(file.read_bytes())
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise RunFolderError(
                f"{file}: damaged: {reason}. Next: move this run folder away and start a new run"
            ) from None

    def require(self, name: str, written_by: str) -> Path:
        """The path of a file of this run. Raises RunFolderError, naming the notebook that writes it."""
        path = self.path / name
        if not path.exists():
            raise RunFolderError(f"{path}: does not exist. Next: run notebooks/{written_by} on this run folder first")
        return path


def open_run(config_path: str, run_dir: str = "", new: bool = False) -> tuple[LoadedConfig, RunFolder]:
    """The config and the folder of a run, with what its copy in S3 has newer.

    An empty `run_dir` means a new run where `new` is true, else the newest run of this config; `run_dir` may be in S3.
    Raises RunFolderError where the folder was measured with another model, workload or set of options: SLO, traffic and
    prices may change between measuring and judging, what was measured may not. Where `new` is true, a config that was
    corrected before anything of what it changes was measured is taken, and a copy in S3 that cannot be written is refused.
    """
    config = load_config(config_path or PROJECT_ROOT / "configs" / "quickstart.yml")
    if not run_dir and new:
        run = new_run(config)
        log_errors_to(run.logs / "errors.log")
        return config, run
    where = run_dir or _newest_run(config)
    run, remote = locate_run(config, where)
    if remote is not None:
        _fetch(run, remote, must=is_remote(where))
    if (run.path / "run.json").is_file():
        _adopt(config, run, may_correct=new)
        if remote is not None:
            remote.connect()
            if new:
                remote.upload_file("run.json")
    elif new:
        _begin(config, run, remote)
    else:
        raise RunFolderError(
            f"{run.path}: no run.json there. Next: run notebooks/01_generate_data with this run_dir first"
        )
    log_errors_to(run.logs / "errors.log")
    return config, run


def run_root(config: LoadedConfig) -> Path:
    """The local folder of the run folders."""
    root = config.benchmark.run_root
    return LOCAL_ROOT if not root or is_remote(root) else _local_path(root, config.path.parent)


def _local_path(text: str, base: Path | None = None) -> Path:
    """A path on this machine, absolute. Raises RunFolderError for what no path can be."""
    path = (base or Path()) / expanded(text)
    try:
        with os_errors_in_words(path):
            path.exists()
            return path.resolve()
    except (RuntimeError, ValueError) as error:
        raise RunFolderError(f"bad value {shown(text)}: {error}. Next: set run_root (or run_dir) to a folder") from None


def new_run(config: LoadedConfig) -> RunFolder:
    """A new run folder, named after the config and the UTC time, and its copy where `run_root` is in S3.

    Raises RunFolderError, and leaves nothing, where that cannot be written.
    """
    run_id = new_run_id(config)
    for suffix in ("", *(f"-{i}" for i in range(2, 100))):
        path = run_root(config) / f"{run_id}{suffix}"
        keep_private()
        with os_errors_in_words(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                path.mkdir()
            except FileExistsError:  # another run began in the same second
                continue
        run, remote = locate_run(config, str(path))
        try:
            if remote is None or not remote.exists():
                _begin(config, run, remote)
                return run
        except BaseException:
            shutil.rmtree(path)
            raise
        shutil.rmtree(path)  # on another machine a run began in the same second
    raise RunFolderError(f"{run_root(config)}: a hundred runs began in one second. Next: give run_dir")


def new_run_id(config: LoadedConfig) -> str:
    """The id of a run that begins now: the config's name and the UTC time."""
    return f"{config.benchmark.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"


@contextmanager
def scratch_run(config: LoadedConfig) -> Iterator[RunFolder]:
    """A run folder for what is only looked at: on this machine, and gone afterwards."""
    with TemporaryDirectory() as folder:
        run = RunFolder(Path(folder) / config.benchmark.name)
        _begin(config, run, None)
        yield run


def locate_run(config: LoadedConfig, run_dir: str) -> tuple[RunFolder, RemoteRun | None]:
    """The folder that `run_dir` means, and its copy in S3 if it has one; nothing is made, and S3 is not called.

    A local folder has the copy that it was opened with, else one under `run_root` where that is in S3. From here on, what this
    process makes is private.
    """
    keep_private()
    root, region = config.benchmark.run_root, config.benchmark.aws.region
    if is_remote(run_dir):
        return _local_copy(run_dir, region)
    path = _local_path(run_dir)
    remote = remote_of(path)
    if remote is None and is_remote(root):
        remote = RemoteRun(path, run_url(root, path.name), region)
    return RunFolder(path), remote


def run_to_continue(config: LoadedConfig, run_dir: str) -> RunFolder:
    """The folder that `run_dir` means, which notes its copy in S3 if it has one. Nothing is fetched yet."""
    run, remote = locate_run(config, run_dir)
    if remote is not None:
        remote.connect()
    return run


def find_run(run: str) -> RunFolder:
    """A run by its folder, by its id under the project's `runs`, or by its URL in S3, whose ledger and results are fetched.

    Raises NoSuchRun, and RunFolderError where S3 fails.
    """
    keep_private()
    if is_remote(run):
        found, remote = _local_copy(run, None)
        if not remote.exists():
            raise NoSuchRun(f"{run}: no run.json there. Next: aws s3 ls {run.rstrip('/').rpartition('/')[0]}/")
        _fetch(found, remote, must=True, folders=RESULT_FOLDERS)
        return found
    for base in (None, LOCAL_ROOT):
        path = _local_path(run, base)
        if (path / "run.json").is_file():
            found = RunFolder(path)
            if (remote := remote_of(path)) is not None:
                _fetch(found, remote, must=False, folders=RESULT_FOLDERS)
            return found
    raise NoSuchRun(f"{shown(run)} is neither a run folder nor a run id under {LOCAL_ROOT}. Next: ls runs")


def config_of_run(run: RunFolder) -> Path:
    """The config file that a run was started with; its copy in the run folder if that no longer exists."""
    about = run.about()
    begun_with = Path(about["config_dir"]) / about["config_file"]
    return begun_with if begun_with.is_file() else run.path / "config.yml"


def _local_copy(url: str, region: str | None) -> tuple[RunFolder, RemoteRun]:
    """Where the run of an S3 URL is, or will be, on this machine. Raises RunFolderError if another one is there."""
    run_id = run_id_of(url)
    path = LOCAL_ROOT / run_id
    remote = RemoteRun(path, run_url(url.rstrip("/").rpartition("/")[0], run_id), region)
    there = remote_of(path)
    if there is not None and there.url != remote.url:
        raise RunFolderError(f"{path} is the copy of {there.url}, not of {remote.url}. Next: move it away")
    return RunFolder(path), remote


def _fetch(run: RunFolder, remote: RemoteRun, must: bool, folders: tuple[str, ...] | None = None) -> None:
    """Fetch what is newer in S3; without `must`, a failure of S3 leaves what is here."""
    try:
        remote.fetch(merge_ledgers, folders)
    except RunFolderError as error:
        if must or not (run.path / "run.json").is_file():
            raise
        say_once(run.path, f"going on with what is in {run.path}, which may not be the newest. {error}")


def _newest_run(config: LoadedConfig) -> str:
    """Where the run of a config is that started last."""
    name, root = config.benchmark.name, config.benchmark.run_root
    if is_remote(root):
        runs = [(at, where) for at, where in run_urls(root, name, config.benchmark.aws.region) if at]
    else:
        root = run_root(config)
        abouts = {path.parent: RunFolder(path.parent).about() for path in root.glob(f"{name}-*/run.json")}
        mine = [(path, about) for path, about in abouts.items() if about.get("config_name") == name]
        runs = [(about.get("started_at", ""), str(path)) for path, about in mine]
    if not runs:
        raise RunFolderError(f"{root}: holds no run of {name!r}. Next: run notebooks/01_generate_data, or give run_dir")
    return max(runs)[1]


def runs_of(config: LoadedConfig) -> list[str]:
    """Where each run of a config is, under its `run_root`; also those whose run.json is missing or damaged, if named as a run."""
    name, root = config.benchmark.name, config.benchmark.run_root
    if is_remote(root):
        return [where for _, where in run_urls(root, name, config.benchmark.aws.region)]
    found = []
    for path in sorted(run_root(config).glob(f"{name}-*")):
        try:
            is_its = RunFolder(path).about().get("config_name") == name
        except RunFolderError:
            is_its = re.fullmatch(rf"{re.escape(name)}-\d{{8}}-\d{{6}}(-\d+)?", path.name) is not None
        if is_its:
            found.append(str(path))
    return found


def _begin(config: LoadedConfig, run: RunFolder, remote: RemoteRun | None) -> None:
    """Write what a run starts with; where it has a copy in S3, that it can be written shows before anything is made."""
    with os_errors_in_words(run.path):
        run.path.mkdir(parents=True, exist_ok=True)
    write_atomically(run.path / "config.yml", config.public_yaml())
    if remote is not None:
        remote.upload_file("config.yml")
    about = {
        "schema_version": SCHEMA_VERSION,
        "run_id": run.run_id,
        "config_name": config.benchmark.name,
        "config_file": config.path.name,
        "config_dir": str(config.path.parent),
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "versions": package_versions(),
    }
    write_atomically(run.path / "run.json", json.dumps(about, indent=1) + "\n")
    if remote is not None:
        remote.upload_file("run.json")


def _adopt(config: LoadedConfig, run: RunFolder, may_correct: bool) -> None:
    """Continue in a folder that was started with this config, on any machine, or with one that this one corrects."""
    about = run.about()
    if may_correct and is_corrected(config, run):
        about["corrected_at"] = datetime.now(UTC).isoformat(timespec="seconds")
        write_atomically(run.path / "config.yml", config.public_yaml())
    refuse_other_measurement(config, run)
    if not Path(about["config_dir"]).is_dir():
        about["config_dir"] = str(config.path.parent)
    if about != run.about():
        write_atomically(run.path / "run.json", json.dumps(about, indent=1) + "\n")
