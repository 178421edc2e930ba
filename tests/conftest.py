"""What is made once for all tests: a finished run of a small config, by the real series, and whatever else takes long."""

from __future__ import annotations

import gc
import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml
from filelock import FileLock
from warm_kernels import provisioner

from helpers.run.folder import RunFolder
from helpers.series.series import run_series

SECRET = "s3cr3t-tokens-must-not-be-written"
ENDS_WITHIN_S = 60
LONGEST = [
    "series",
    "lost_servers",
    "secrets",
    "jobs",
    "raced_limits",
    "racing",
    "studio",
    "tools",
    "preflight",
    "remote_runs",
    "run_status",
    "explore",
    "fault_kills",
    "aws_deploy",
    "reference_report",
    "reference_page",
    "faults",
    "bedrock",
    "slo_of_machine",
    "import_series",
    "report_page",
    "compare",
    "load_trouble",
]
"""Test files that run whole series or wait for long: they come first, so that no process is left with one of them at the end."""


def small_config(folder: Path, **changes: object) -> Path:
    """Write a config of two options that takes seconds; `changes` replace top-level sections."""
    option = {
        "target": "sagemaker",
        "local": True,
        "api": "openai_chat",
        "instance_type": "ml.c5.large",
        "price": {"usd_per_hour": 0.102, "as_of": "2026-11-01"},
    }
    engine = {"ENGINE_MODEL": "synthetic:2m", "ENGINE_THREADS": 1, "SOME_SECRET": "${TEST_SECRET}"}
    config = {
        "name": "small",
        "seed": 7,
        "run_root": str(folder / "runs"),
        "model": {"name": "tiny-llama-2m", "tokenizer": "synthetic:2m", "context_tokens": 2048},
        "prompts": {"source": {"kind": "python_reference"}},
        "datasets": [
            {"name": "short", "prompt_tokens": [60, 120], "count": 200},
            {"name": "long", "prompt_tokens": [200, 300], "count": 200},
        ],
        "generation": {"max_output_tokens": 6},
        "options": [
            {
                **option,
                "name": "no batching",
                "container": {"image": "openvino-genai", "environment": {**engine, "ENGINE_MAX_NUM_SEQS": 1}},
            },
            {
                **option,
                "name": "batch of 4",
                "container": {"image": "openvino-genai", "environment": {**engine, "ENGINE_MAX_NUM_SEQS": 4}},
            },
        ],
        "load": {"kind": "closed_loop", "concurrency": [1, 2], "min_requests": 24, "warmup_requests": 1},
        "slo": {"percentile": 75, "latency_s": 5, "error_rate": 0.2, "confidence": 0.9},
        "traffic": {"requests_per_minute": 600},
        **changes,
    }
    path = folder / "small.yml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def thorough(*values: object) -> list:
    """Parameters of which `make test` tries others of the kind, and `make test-thorough` these."""
    return [
        pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.thorough) for value in values
    ]


STARTERS = {
    "browser",
    "checked",
    "doomed_processes",
    "engines",
    "example",
    "finished_run",
    "followed",
    "lab",
    "made_once",
    "model_folder",
    "moto_process",
    "opened",
    "outcomes",
    "page",
    "processes",
    "records",
    "sagemaker",
    "server_url",
    "some_dead",
}
"""Fixtures that start an engine, a browser, load processes or a series, or take long."""
HEAVY = ("local_sagemaker", "ipykernel_launcher", "playwright", "helpers report")
"""Words in commands that only tests marked `slow` or `timing` may start."""
_quick_test: pytest.Item | None = None


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """What is imported and collected stays to the end: looking through it for garbage would take a third of the time, and again
    in every test.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if STARTERS.intersection(item.fixturenames) or item.path.parent.name == "local_sagemaker":
            item.add_marker(pytest.mark.slow)
    place = {f"test_{name}": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item):
    global _quick_test
    _quick_test = None if {"slow", "timing", "tools"}.intersection(m.name for m in item.iter_markers()) else item
    try:
        return (yield)
    finally:
        _quick_test = None


def _refuse_heavy(event: str, arguments: tuple) -> None:
    """A test that starts more than `make test-quick` allows fails, in whichever pass it runs."""
    if event == "subprocess.Popen" and _quick_test is not None:
        words = arguments[1] if isinstance(arguments[1], str) else " ".join(map(os.fsdecode, arguments[1]))
        if any(heavy in words for heavy in HEAVY):
            raise RuntimeError(f"{_quick_test.nodeid} starts {words[:200]!r}. Next: mark it slow")


sys.addaudithook(_refuse_heavy)


@pytest.fixture(autouse=True, scope="session")
def loopback_only():
    """Nothing looks up prices or the instance's role on the network, whatever machine the tests run on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_ENDPOINT_URL_PRICING", "http://127.0.0.1:9")
        yield


@pytest.fixture(autouse=True, scope="session")
def nothing_is_left_running():
    """Every process that a test started has ended when the last one has, a watchdog or a local SageMaker after a moment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TESTS_OF", mark := f"{os.getpid()}")
        yield
    _, left = psutil.wait_procs(list(started_with("TESTS_OF", mark)), timeout=ENDS_WITHIN_S)
    commands = []
    for process in left:
        with suppress(psutil.Error):
            commands.append(" ".join(process.cmdline()))
            process.kill()
    assert commands == []


@pytest.fixture(autouse=True, scope="session")
def warm_kernels():
    """Kernels fork from a process that has imported what they need."""
    with provisioner("warm"):
        yield


def started_with(name: str, value: str) -> Iterator[psutil.Process]:
    """Processes that have a variable in their environment, but for this one's servers of multiprocessing, which end with it."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            is_server = process.ppid() == os.getpid() and "multiprocessing." in " ".join(process.cmdline())
            if process.environ().get(name) == value and not is_server:
                yield process


@dataclass(frozen=True)
class FinishedRun:
    """A finished run, its config file, and what the runner said."""

    run: RunFolder
    config_path: Path
    said: str


MakeOnce = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MakeOnce:
    """`made_once(name, make)` is the folder `name`, which `make(folder)` fills: once, whichever of pytest's processes asks first.

    The others wait for it. What is in it is for reading only. `make test` names a folder for both of its calls of pytest.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # which the worker processes share
    root = Path(os.environ.get("MADE_ONCE", root))

    def make_once(name: str, make: Callable[[Path], object]) -> Path:
        folder, is_made = root / name, root / f"{name}.made"
        with FileLock(root / f"{name}.lock"):
            if not is_made.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                is_made.touch()
        return folder

    return make_once


@pytest.fixture(scope="session")
def finished_run(made_once: MakeOnce) -> FinishedRun:
    """The small config, run by the series runner with real papermill, endpoints and engine."""

    def make(folder: Path) -> None:
        with (
            pytest.MonkeyPatch.context() as patch,
            redirect_stdout(io.StringIO()) as said,
        ):
            patch.setenv("TEST_SECRET", SECRET)
            run_series(str(small_config(folder)))
        (folder / "said.txt").write_text(said.getvalue())

    folder = made_once("finished-run", make)
    (run,) = (folder / "runs").iterdir()
    return FinishedRun(RunFolder(run), folder / "small.yml", (folder / "said.txt").read_text())


@pytest.fixture
def run_copy(finished_run, tmp_path, monkeypatch) -> FinishedRun:
    """A copy of the finished run that a test may change."""
    monkeypatch.setenv("TEST_SECRET", SECRET)
    copy = tmp_path / finished_run.run.run_id
    shutil.copytree(finished_run.run.path, copy)
    return FinishedRun(RunFolder(copy), finished_run.config_path, finished_run.said)
