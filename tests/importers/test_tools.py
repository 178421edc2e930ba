"""The commands of docs/import.md, run as they are printed: each tool's own numbers are those that are read from its files.

Each tool gets an environment of its own, and a server on loopback that refuses one request of 25. AIPerf is run by `make
test`, all of them by `make test-tools`, which takes some minutes.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pypi
import pytest
import result_files as files
from failing_server import failing_server

from helpers.config.benchmark import PROJECT_ROOT
from helpers.config.file import load_config
from helpers.importers.found import FoundPoint
from helpers.importers.importing import read_results
from local_sagemaker.tiny_model import ensure_model

MODEL = "test/tiny"
WITHIN_S = 400
DOCS = (PROJECT_ROOT / "docs" / "import.md").read_text(encoding="utf-8")
NO_TORCH = (
    "GuideLLM brings 5 GB of torch. Next: put torch's wheel for CPUs into a folder and its path into PIP_FIND_LINKS"
)
Numbers = dict[float, dict[str, float]]
"""By level: what a tool says of its requests. Times in seconds."""


@dataclass(frozen=True)
class Tool:
    """A tool of docs/import.md: where its files are, and how it says its own numbers."""

    path: str
    printed: Callable[[Path], Numbers]
    levels: tuple[int, ...] = (4,)
    exact: float = 1e-4
    """Relative difference of times that is none: what the tool rounds away."""
    python: str = sys.executable
    torch: bool = False


def of_aiperf(results: Path) -> Numbers:
    said = json.loads((results / "profile_export_aiperf.json").read_text())
    return {
        4: {
            "answers": said["request_count"]["avg"],
            "failures": said["error_request_count"]["avg"],
            "output_tokens": said["total_output_tokens"]["avg"],
            "latency_mean": said["request_latency"]["avg"] / 1e3,
            "latency_p50": said["request_latency"]["p50"] / 1e3,
            "latency_p99": said["request_latency"]["p99"] / 1e3,
            "ttft_p50": said["time_to_first_token"]["p50"] / 1e3,
            "ttft_p99": said["time_to_first_token"]["p99"] / 1e3,
        }
    }


def of_llmeter(results: Path) -> Numbers:
    said = [json.loads(path.read_text()) for path in results.glob("*/*/stats.json")]
    return {
        one["clients"]: {
            "answers": one["total_requests"] - one["failed_requests"],
            "failures": one["failed_requests"],
            "output_tokens": one["total_output_tokens"],
            "latency_mean": one["time_to_last_token-average"],
            "ttft_mean": one["time_to_first_token-average"],
        }
        for one in said
    }


def of_guidellm(results: Path) -> Numbers:
    def numbers(metrics: dict) -> dict[str, float]:
        latency, first = (metrics[name]["successful"] for name in ("request_latency", "time_to_first_token_ms"))
        return {
            "answers": metrics["request_totals"]["successful"],
            "failures": metrics["request_totals"]["errored"],
            "output_tokens": metrics["output_token_count"]["successful"]["total_sum"],
            "done_mean": latency["mean"],  # to the end of the connection's answer, not to the last token
            "ttft_mean": first["mean"] / 1e3,
        }

    said = json.loads((results / "benchmarks.json").read_text())["benchmarks"]
    return {one["config"]["strategy"]["streams"]: numbers(one["metrics"]) for one in said}


def of_inference_perf(results: Path) -> Numbers:
    said = json.loads((results / "stage_0_lifecycle_metrics.json").read_text())
    latency = said["successes"]["latency"]
    return {
        4: {
            "answers": said["successes"]["count"],
            "failures": said["failures"]["count"],
            "latency_mean": latency["request_latency"]["mean"],
            "latency_p50": latency["request_latency"]["median"],
            "latency_p99": latency["request_latency"]["p99"],
        }
    }


def of_genai_perf(results: Path) -> Numbers:
    (path,) = results.glob("*/profile_export_genai_perf.json")
    said = json.loads(path.read_text())
    return {4: {"answers": said["request_count"]["avg"], "latency_mean": said["request_latency"]["avg"] / 1e3}}


SWEPT = (1, 4, 16)
TOOLS = {
    "aiperf": Tool("results/profile_export.jsonl", of_aiperf),
    "llmeter": Tool("results/*/*/responses.jsonl", of_llmeter, SWEPT),
    "guidellm": Tool("results/benchmarks.json", of_guidellm, SWEPT, torch=True),
    "inference_perf": Tool("results/stage_0_lifecycle_metrics.json", of_inference_perf, python="3.12"),
    "genai_perf": Tool("artifacts/*/profile_export.json", of_genai_perf),
}
NEWEST = ()


@pytest.mark.network
@pytest.mark.parametrize(
    ("name", "versions"),
    [
        pytest.param("aiperf", pypi.OF_A_DAY, id="aiperf-of-a-day", marks=pytest.mark.thorough),
        *(pytest.param(name, NEWEST, id=name, marks=pytest.mark.tools) for name in TOOLS),
    ],
)
def test_a_tool_run_as_the_docs_say_has_the_numbers_that_are_read_from_its_files(name, versions, tmp_path, hub, server):
    tool, section = TOOLS[name], section_of(name, server)
    options = [*versions, *torch_of_cpus(tool, tmp_path)]
    bin_ = pypi.environment(tmp_path / "env", *packages(section), python=tool.python, options=options)
    for text in re.findall(r"```yaml\n(# config\.yml\n.*?)```", section, re.DOTALL):
        (tmp_path / "config.yml").write_text(text)
    for text in re.findall(r"```python\n(.*?)```", section, re.DOTALL):
        run(bin_, tmp_path, hub, f"python -c {shlex.quote(text)}")
    for text in commands(section):
        run(bin_, tmp_path, hub, text)

    option = files.option(name, name, tool.path)
    load = {"kind": "closed_loop", "concurrency": list(tool.levels)}
    (found,) = read_results(load_config(files.write_config(tmp_path, option, load=load)))
    printed = tool.printed(tmp_path / tool.path.split("/")[0])
    assert sorted(printed) == sorted(tool.levels)
    assert sum(one.get("failures", 1) for one in printed.values()) > 0
    for level, said in printed.items():
        read = numbers_of(*(point for at, point in found.points if at.level.value == level))
        shown = {key: (value, said[key]) for key, value in read.items() if key in said}
        assert len(shown) == len(said), (sorted(read), sorted(said))
        for key, (ours, theirs) in shown.items():
            exact = 0 if key in ("answers", "failures", "output_tokens") else tool.exact
            assert ours == pytest.approx(theirs, rel=exact), (name, level, key, shown)


def numbers_of(point: FoundPoint) -> dict[str, float]:
    """The numbers of a load point as it was read, whether its requests have times or not."""
    if point.requests:
        answered = [one for one in point.requests if one.measured and one.error_type is None]
        latency = [(one.last_token_ns - one.sent_ns) / 1e9 for one in answered]
        done = [(one.done_ns - one.sent_ns) / 1e9 for one in answered]
        ttft = [(one.first_token_ns - one.sent_ns) / 1e9 for one in answered]
        failures = sum(one.measured and one.error_type not in (None, "cut_off") for one in point.requests)
        output_tokens = sum(one.output_tokens or 0 for one in answered)
        return {
            "answers": len(answered),
            "failures": failures,
            "output_tokens": output_tokens,
            **statistics("latency", latency),
            **statistics("done", done),
            **statistics("ttft", ttft),
        }
    (group,) = point.groups
    sums = {
        "answers": group.requests - group.failures,
        "failures": group.failures,
        "output_tokens": group.output_tokens,
    }
    means = {"latency_mean": group.latency_mean_s}
    reported = {key.replace("_s_p", "_p"): value for key, value in group.reported.items()}
    lists = statistics("latency", group.latency_s or []) | statistics("ttft", group.ttft_s or [])
    return {key: value for key, value in {**sums, **means, **reported, **lists}.items() if value is not None}


def statistics(name: str, values: list[float]) -> dict[str, float]:
    """Mean and percentiles of what there is."""
    if not values:
        return {}
    percentiles = {f"{name}_p{percent}": float(np.percentile(values, percent)) for percent in (50, 99)}
    return {f"{name}_mean": float(np.mean(values)), **percentiles}


# --- what the docs say ---------------------------------------------------------------------------------------------


def section_of(name: str, url: str) -> str:
    """The section of the docs about a format, for this server and model."""
    (section,) = re.findall(rf"^### `{name}`.*?(?=^### )", DOCS, re.DOTALL | re.MULTILINE)
    return re.sub(r"\bURL\b", url, re.sub(r"\bM\b", MODEL, section))


def lines(section: str) -> list[str]:
    """The indented lines of the section, each with what continues it."""
    prose = re.sub(r"```.*?```", "", section, flags=re.DOTALL)
    return re.findall(r"^    (\S(?:.*\\\n)*.*)", prose, re.MULTILINE)


def packages(section: str) -> list[str]:
    (line,) = [line for line in lines(section) if line.startswith("pip install ")]
    return shlex.split(line, comments=True)[2:]


def commands(section: str) -> list[str]:
    return [line for line in lines(section) if not line.startswith(("pip install ", "aws "))]


# --- what they run in ----------------------------------------------------------------------------------------------


def run(bin_: Path, folder: Path, hub: Path, text: str) -> None:
    environment = {
        **os.environ,
        "PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}",
        "HF_HOME": str(hub),
        "HF_HUB_OFFLINE": "1",
    }
    command = ["timeout", "--signal=KILL", str(WITHIN_S), "bash", "-c", text]
    done = subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def torch_of_cpus(tool: Tool, folder: Path) -> list[str]:
    """Options of uv that take torch's small build; skips where there is none."""
    if not tool.torch:
        return []
    wheels = [
        path for place in os.environ.get("PIP_FIND_LINKS", "").split() for path in Path(place).glob("torch-*+cpu-*.whl")
    ]
    if not wheels:
        pytest.skip(NO_TORCH)
    (folder / "torch.txt").write_text(f"torch @ {wheels[0].as_uri()}\n")
    return ["--overrides", str(folder / "torch.txt")]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of the Hugging Face hub that holds one small tokenizer, so that nothing is downloaded."""
    model = tmp_path_factory.mktemp("hub") / "hub" / f"models--{MODEL.replace('/', '--')}"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text("0" * 40)
    (model / "snapshots").mkdir()
    (model / "snapshots" / ("0" * 40)).symlink_to(ensure_model("2m"))
    return model.parent.parent


@pytest.fixture
def server() -> Iterator[str]:
    with failing_server(MODEL) as url:
        yield url
