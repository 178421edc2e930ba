"""A mix as it is sent, against a server that logs what came when: shares, parts in flight together, latencies per part."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from attempt_specs import measure, moody_stub, server_log, spec_of
from examples import config_data

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load import ClosedLoop, OpenLoop
from helpers.load.load_processes import LoadProcesses
from helpers.load.postprocessing import ordered_prompts
from helpers.metrics.parts import read_parts
from helpers.prompts.making import make_prompts
from helpers.run.folder import RunFolder

pytestmark = pytest.mark.slow
SHARES = {"short": 0.7, "long": 0.3}
LOADS = [
    ClosedLoop(concurrency=[4], min_requests=150, warmup_requests=2, processes=2, mix=True, max_duration_s=20),
    OpenLoop(kind="open_loop", rate=[60], min_requests=150, processes=2, mix=True, max_duration_s=20),
]


@pytest.fixture(scope="module")
def sent(tmp_path_factory):
    """Kind of load -> the config, the run folder, the spec, the records, the facts and the server's log."""
    root, found = tmp_path_factory.mktemp("mixed"), {}
    with moody_stub() as url, LoadProcesses(root / "load.log") as processes:
        for load in LOADS:
            data = config_data(
                datasets=[
                    {"name": "short", "prompt_tokens": [40, 80], "count": 300},
                    {"name": "long", "prompt_tokens": [300, 400], "count": 140},
                ],
                options=["stub"],
                traffic={"mix": SHARES},
            )
            config = BenchmarkConfig.model_validate({**data, "load": load.model_dump()})
            folder = root / load.kind
            folder.mkdir()
            make_prompts(config, folder).write(RunFolder(folder))
            spec = spec_of(folder, url, "sized", load=load, level=load.levels()[0])
            prompts = str(folder / "payloads" / "mixed.parquet")
            spec = spec.model_copy(update={"dataset": "mixed", "prompts_file": prompts, "start_of_prompts": 0.4})
            spec = spec.model_copy(update={"output_file": str(folder / "requests" / f"{spec.attempt.id}.parquet")})
            requests, facts = measure(processes, spec)
            found[load.kind] = config, folder, spec, requests, facts, server_log(url)
    return found


@pytest.mark.parametrize("kind", [load.kind for load in LOADS])
def test_the_server_gets_the_shares_in_every_window_and_the_parts_together(sent, kind):
    _, _, _, requests, _, log = sent[kind]
    mine = requests[requests["status"] == "ok"].sort_values("sent_ns")
    assert len(mine) == len(requests)
    came = sorted((log[one.request_id]["received_ns"], one.request_id) for one in mine.itertuples())
    lengths = [len(log[name]["body"]["messages"][0]["content"]) for _, name in came]
    is_long = np.array(lengths) > 500
    assert (is_long == (mine.set_index("request_id")["part"] == "long").loc[[name for _, name in came]]).all()
    counts = np.append(0, np.cumsum(is_long))
    for window in (30, 60, 120):
        shares = (counts[window:] - counts[:-window]) / window
        assert np.abs(shares - 0.3).max() <= 5 / window, "two each of two load processes, and one that overtakes"
    times = [(log[name]["received_ns"], max(log[name]["writes_ns"])) for _, name in came]
    together = sum(
        any(is_long[j] != is_long[i] and times[j][0] < times[i][1] and times[j][1] > times[i][0] for j in near(i, came))
        for i in range(len(came))
    )
    assert together > 0.9 * len(came)


def near(i: int, came: list) -> range:
    return range(max(0, i - 20), min(len(came), i + 20))


@pytest.mark.parametrize("kind", [load.kind for load in LOADS])
def test_planted_latencies_come_out_per_part(sent, kind):
    config, folder, _, _, facts, _ = sent[kind]
    rows = read_parts(folder / "requests", [facts], config).set_index("part")
    assert list(rows.index) == ["short", "long"]
    assert rows.loc["short", "ttft_s_p50"] == pytest.approx(0.04, abs=0.02)
    assert rows.loc["long", "ttft_s_p50"] == pytest.approx(0.2, abs=0.02)
    assert rows["share"].to_dict() == pytest.approx(SHARES, abs=0.03)


def test_an_attempt_that_is_begun_again_sends_the_same_prompts_in_the_same_order(sent):
    _, _, spec, requests, *_ = sent["open_loop"]
    again = ordered_prompts(type(spec).model_validate(json.loads(spec.model_dump_json())))
    in_order = requests.sort_values("scheduled_ns")["prompt_id"].tolist()
    assert in_order == again["prompt_id"].to_pylist()[: len(in_order)]
    whole = pq.read_table(spec.prompts_file)
    assert again["prompt_id"][0] == whole["prompt_id"][round(0.4 * len(whole))], "it starts where its load point does"
