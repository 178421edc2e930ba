"""Shared prefixes as they are sent and found: a stub that logs prompts, and the embedded engine with and without its cache."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

import pytest
from attempt_specs import measure, moody_stub, server_log, spec_of
from tokenizers import Tokenizer

from helpers.config.benchmark import BenchmarkConfig
from helpers.load.load_processes import LoadProcesses
from helpers.metrics.summary import LoadPoint, found_hit_rate
from helpers.prompts.making import Prompts, make_prompts
from helpers.run.folder import RunFolder
from helpers.run.prompt_files import prompt_metadata
from helpers.run.records import read_facts
from helpers.verdict.hit_rates import HitRates
from local_sagemaker.tiny_model import default_cache_dir, ensure_model

pytestmark = pytest.mark.slow
DATASET = "stream"


def config_of(groups: int, prompt_tokens: list[int], **length: float) -> BenchmarkConfig:
    option = {"name": "stub", "target": "openai", "base_url": "http://localhost:1/v1", "served_model": "m"}
    return BenchmarkConfig.model_validate(
        {
            "name": "prefixes",
            "model": {"name": "m", "tokenizer": "synthetic:2m", "context_tokens": 4096},
            "prompts": {
                "source": {"kind": "python_reference"},
                "prefix": {"groups": groups, **length},
            },
            "datasets": [{"name": DATASET, "prompt_tokens": prompt_tokens, "count": 30}],
            "generation": {"max_output_tokens": 2},
            "options": [option],
            "load": {"kind": "closed_loop", "concurrency": [1], "min_requests": 1, "repeat_prompts": True},
            "slo": {"latency_s": 1},
            "traffic": {"requests_per_minute": 1},
        }
    )


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    with LoadProcesses(tmp_path_factory.mktemp("load") / "load.log") as processes:
        yield processes


def send(processes, run: Path, url: str, config: BenchmarkConfig, prompts: Prompts, **load):
    """The requests of a load point with these prompts, and its hit rates."""
    run.mkdir()
    prompts.write(RunFolder(run))
    spec = spec_of(run, url, DATASET, repeat_prompts=True, tokens=2, **load)
    spec = spec.model_copy(update={"prompts_file": str(run / "payloads" / f"{DATASET}.parquet")})
    requests, facts = measure(processes, spec)
    rates = HitRates(RunFolder(run), config).of(LoadPoint([facts], requests, None))
    assert read_facts(run / "requests") == [facts]
    return requests, rates


def common(one: list[int], other: list[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def share_of(prompts: list[list[int]], counted: int) -> float:
    """Tokens of the last prompts that begin an earlier one, by comparing each with all before it."""
    longest = [max((common(prompt, earlier) for earlier in prompts[:i]), default=0) for i, prompt in enumerate(prompts)]
    return sum(longest[-counted:]) / sum(map(len, prompts[-counted:]))


@pytest.mark.parametrize(("hit_rate", "groups"), [(0.2, 3), (0.8, 1)])
def test_what_is_sent_shares_what_was_asked(processes, tmp_path, hit_rate, groups):
    """Prompts are sent more than once, which a cache would find as a whole, did they not have salts."""
    with moody_stub() as url:
        load = {"concurrency": [4], "min_requests": 40, "warmup_requests": 3}
        config = config_of(groups, [300, 360], hit_rate=hit_rate)
        requests, rates = send(processes, tmp_path / "run", url, config, make_prompts(config, tmp_path), **load)
        log = server_log(url)
    assert requests["prompt_id"].duplicated().any()
    tokenizer = Tokenizer.from_file(str(ensure_model("2m", default_cache_dir()) / "tokenizer.json"))
    texts = [log[name]["body"]["messages"][0]["content"] for name in requests.sort_values("sent_ns")["request_id"]]
    assert len({text[:8] for text in texts[:groups]}) == groups, "one of each comes first"
    sent = [tokenizer.encode(f"<bos><user>{text}<eos><assistant>", add_special_tokens=False) for text in texts]
    assert all(300 <= len(prompt) < 360 for prompt in sent), "the bin bounds what is sent, with its salt"
    counted = int((requests["phase"] != "warmup").sum())
    true = share_of([prompt.ids for prompt in sent], counted)
    assert true == pytest.approx(hit_rate, abs=0.05)
    assert rates["asked_hit_rate"] == hit_rate
    assert rates["sent_hit_rate"] == pytest.approx(true, abs=0.01)
    assert found_hit_rate(requests) is None, "the stub reports no cache, which is unknown and not 0"


@contextmanager
def engine(**environment: str):
    """The URL of an embedded engine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    known = {"ENGINE_MODEL": "synthetic:2m", "ENGINE_THREADS": "1", "SAGEMAKER_BIND_TO_PORT": str(port)}
    command = [sys.executable, "-m", "local_sagemaker.engine"]
    process = subprocess.Popen(command, env={**os.environ, **known, **environment}, stdin=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5).close()
                break
            except urllib.error.URLError:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1/chat/completions"
    finally:
        process.stdin.close()
        process.wait()


@pytest.mark.timing
def test_the_engine_finds_what_was_asked_and_answers_sooner(processes, tmp_path):
    config, ttft_s = config_of(2, [1400, 1440], tokens=1120), {}
    prompts = make_prompts(config, tmp_path)
    for caching in ("false", "true"):
        with engine(ENGINE_PREFIX_CACHING=caching) as url:
            load = {"min_requests": 10, "warmup_requests": 3}
            requests, rates = send(processes, tmp_path / caching, url, config, prompts, **load)
        assert requests["ok"].all()
        steady = requests[requests["phase"] == "steady"]
        ttft_s[caching] = steady["ttft_s"].min()  # other programs on the machine slow most requests, but hardly all
        assert rates["asked_hit_rate"] == pytest.approx(1120 / 1420, abs=0.01)
        assert rates["sent_hit_rate"] == pytest.approx(rates["asked_hit_rate"], abs=0.05)
        found = found_hit_rate(steady[steady["ok"]])
        assert found is None if caching == "false" else found == pytest.approx(rates["asked_hit_rate"], abs=0.05)
    assert ttft_s["true"] < 0.6 * ttft_s["false"]


def test_made_prompts_say_how_much_they_share(tmp_path):
    table = make_prompts(config_of(3, [300, 360], hit_rate=0.5), tmp_path).tables[DATASET]
    said = prompt_metadata(table.schema)["prefix"]
    assert said == {"tokens": None, "hit_rate": 0.5, "groups": 3}
    rows = table.to_pandas()
    beginnings = {text[:characters] for text, characters in zip(rows["text"], rows["prefix_characters"], strict=True)}
    assert len(beginnings) == 3
    assert len({beginning[:8] for beginning in beginnings}) == 3, "they differ from their first characters on"
    assert rows["prefix_tokens"].sum() / rows["prompt_tokens"].sum() == pytest.approx(0.5, abs=0.01)
