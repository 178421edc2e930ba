"""A server that becomes slower during its visit: the report of the real series says so, and says nothing of one that does not."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
import small_server
from conftest import small_config

from helpers.load.plan import count_attempts
from helpers.metrics.control import FOLDER
from helpers.run.records import read_facts
from helpers.series.notebook import open_run
from helpers.series.series import run_series
from helpers.verdict.verdict import Verdict

pytestmark = [pytest.mark.slow, pytest.mark.timing]

TOKEN_S = 0.04
SLOWER_FROM = 430
"""The first load point sends about 410 requests."""
OPTIONS = {"steady": 1.0, "slowing": 1.2}
"""Option -> how many times as long its tokens take from then on."""


@contextmanager
def server(times: float) -> Iterator[str]:
    """The URL of a planted server."""
    number = count()

    class Handler(small_server.Handler):
        def do_POST(self) -> None:  # noqa: N802 (its base's name)
            self.token_s = TOKEN_S * (times if next(number) >= SLOWER_FROM else 1)
            super().do_POST()

    found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=found.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{found.server_port}/v1"
    finally:
        found.shutdown()
        thread.join()
        found.server_close()


def config_of(folder: Path, urls: dict[str, str]) -> Path:
    options = [
        {
            "name": name,
            "target": "openai",
            "api": "openai_chat",
            "base_url": url,
            "served_model": "m",
            "price": {"usd_per_hour": 1.0, "as_of": "2026-11-01"},
        }
        for name, url in urls.items()
    ]
    load = {
        "kind": "closed_loop",
        "concurrency": [2, 4],
        "min_requests": 400,
        "warmup_requests": 1,
        "repeat_prompts": True,
        "max_duration_s": 60,
    }
    datasets = [{"name": "short", "prompt_tokens": [60, 120], "count": 200}]
    generation = {"max_output_tokens": 2}
    return small_config(folder, options=options, datasets=datasets, generation=generation, load=load)


def test_the_report_names_the_option_that_became_slower(tmp_path):
    with server(OPTIONS["steady"]) as steady, server(OPTIONS["slowing"]) as slowing:
        path = config_of(tmp_path, {"steady": steady, "slowing": slowing})
        run = run_series(str(path), say=lambda line: None)
    verdict = Verdict.model_validate_json((run.path / "verdict.json").read_text())
    (warning,) = [warning for warning in verdict.warnings if warning.kind == "moved"]
    (row,) = warning.rows
    assert row.startswith("slowing, short, concurrency")
    assert "longer" in row
    report = (run.path / "report.md").read_text()
    assert "The service changed while it was measured." in report
    assert "Did the service change while it was measured?" in report, "the table, which has the steady one too"
    controls = read_facts(run.path / FOLDER)
    assert sorted(control.option for control in controls) == sorted(OPTIONS)
    sent = sum(process.requests for f in read_facts(run.requests) for process in f.processes)
    assert sum(process.requests for f in controls for process in f.processes) <= 0.06 * sent
    config = open_run({"config_path": str(path), "run_dir": str(run.path)}).config
    assert all(count_attempts(option, config, run) == (2, 2) for option in config.options)
