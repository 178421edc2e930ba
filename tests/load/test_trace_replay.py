"""A trace with lengths, from its file to the records: through notebook 01's prompts, real load processes and a server that
notes what it was asked.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from attempt_specs import measure, moody_stub, server_log, spec_of
from examples import make_config

from helpers.config.workload import Generation
from helpers.load.load_processes import LoadProcesses
from helpers.metrics.summary import read_load_points
from helpers.prompts.making import make_prompts
from helpers.run.prompt_files import are_of_a_trace, write_prompts
from helpers.run.records import WHOLE_SCHEDULE
from helpers.verdict.request_checks import audit, check_requests

pytestmark = pytest.mark.slow

SPEED = 2.0
ROWS = [(1000 + 150 * i + 37 * (i % 3), 40 + 23 * (i % 7), 1 + i % 5) for i in range(24)]


def test_times_lengths_and_outputs_of_a_trace_reach_the_server_and_the_records(tmp_path):
    rows = [*ROWS[::-1], (1400, 90, 0)]  # in any order, with one that failed
    (tmp_path / "t.csv").write_text(
        "timestamp_ms,input_tokens,output_tokens\n" + "".join(f"{t},{n},{out}\n" for t, n, out in rows)
    )
    config = make_config(
        ["stub"],
        model={"name": "m", "tokenizer": "synthetic:2m", "context_tokens": 1000},
        datasets=[{"name": "as_asked", "prompt_tokens": [1, 900]}],
        load={"kind": "trace", "path": "t.csv", "speed": [SPEED], "min_requests": 9},
    )
    tables = make_prompts(config, tmp_path).tables
    (file,) = write_prompts(tables, tmp_path / "payloads")
    assert are_of_a_trace(file)
    with moody_stub() as url, LoadProcesses(tmp_path / "load.log", processes=2) as processes:
        spec = spec_of(tmp_path, url + "/chat/completions", "as_asked", load=config.load, level=config.load.levels()[0])
        generation = Generation(max_output_tokens=24, fixed_output_length=True)
        changes = {"prompts_file": str(file), "replays_lengths": True, "base_dir": "/nowhere", "generation": generation}
        changes["output_file"] = str(tmp_path / "requests" / f"{spec.attempt.id}.parquet")
        requests, facts = measure(processes, spec.model_copy(update=changes))
        bodies = {request_id: noted["body"] for request_id, noted in server_log(url).items()}
    assert facts.ended_because == WHOLE_SCHEDULE
    requests = requests.sort_values("scheduled_ns")
    due = requests["scheduled_ns"].to_numpy(dtype="int64")
    at_ms = np.array(sorted(t for t, *_ in ROWS))
    assert (due - due[0]) / 1e6 == pytest.approx((at_ms - at_ms[0]) / SPEED, abs=1e-3)
    assert (requests["sent_ns"].to_numpy(dtype="int64") >= due).all()
    in_order = [out for _, _, out in sorted(ROWS)]
    assert requests["asked_output_tokens"].tolist() == requests["output_tokens"].tolist() == in_order
    made = pd.DataFrame(tables["as_asked"].to_pylist()).set_index("prompt_id")
    for row, (_, tokens, out) in zip(requests.itertuples(), sorted(ROWS), strict=True):
        body = bodies[row.request_id]
        assert body["messages"][0]["content"] == made.loc[row.prompt_id, "text"]
        assert abs(made.loc[row.prompt_id, "prompt_tokens"] - tokens) <= 1
        assert (body["max_tokens"], body["min_tokens"], body["ignore_eos"]) == (out, out, True)
    assert facts.asked_output_tokens is None, "no number holds for all"

    [point] = read_load_points(tmp_path / "requests", [facts], config)
    assert not [warning for warning in check_requests([audit(point)], config) if warning.kind == "output_length"]
    shorter = point.requests.assign(output_tokens=point.requests["output_tokens"].replace(5, 3))
    shorter = replace(point, requests=shorter)
    [warning] = [w for w in check_requests([audit(shorter)], config) if w.kind == "output_length"]
    assert warning.message.startswith(f"{in_order.count(5)} of 24 answers have fewer output tokens than requested. ")
    assert warning.rows == [f"stub, as_asked, trace at 2 times its speed: {in_order.count(5)} of 24"]
