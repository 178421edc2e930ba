"""`/metrics` of strangers: the names of several servers, and pages that are broken, hostile or absent."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from examples import make_config, option

from helpers.endpoints import prometheus, scraping
from helpers.endpoints.prometheus import NoMetrics, fetch_metrics, read_metrics
from helpers.endpoints.scraping import Scraper
from helpers.load.address import Address
from helpers.run.folder import RunFolder
from helpers.run.server_samples import read_samples

VLLM = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a } b"} 3.0
vllm:num_requests_running{engine="1",model_name="a } b"} 4.0
vllm:num_requests_waiting{engine="0"} 0.0
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:kv_cache_usage_perc{engine="1"} 0.75
vllm:gpu_cache_usage_perc{engine="0"} 0.1
vllm:num_preemptions_total{engine="0"} 2.0
vllm:request_success_total{finished_reason="length"} 5.0
vllm:request_success_total{finished_reason="stop"} 6.0
vllm:request_success_total{finished_reason="abort"} 7.0
vllm:e2e_request_latency_seconds_sum{engine="0"} NaN
vllm:e2e_request_latency_seconds_bucket{engine="0",le="0.3"} 7.0
vllm:prompt_tokens_total 1e3
"""


@pytest.mark.parametrize(
    ("page", "values"),
    [
        (
            VLLM,
            {"running": 7, "waiting": 0, "kv_cache": 0.75, "preemptions": 2, "requests": 11, "prompt_tokens": 1000},
        ),
        ('vllm:gpu_cache_usage_perc{model_name="m"} 0.5\n', {"kv_cache": 0.5}),
        (
            "sglang:num_running_reqs 2\nsglang:num_queue_reqs 1\nsglang:token_usage 0.28\nsglang:spec_accept_length 2.5\n",
            {"running": 2, "waiting": 1, "kv_cache": 0.28, "acceptance_length": 2.5},
        ),
        (
            "tgi_queue_size 3\ntgi_batch_current_size 8\ntgi_request_success 9\ntgi_request_duration_sum 4.5\n"
            "tgi_request_duration_count 9\n",
            {"waiting": 3, "running": 8, "requests": 9, "latency_sum_s": 4.5, "latency_count": 9},
        ),
        ("<html>It works!</html>", {}),
    ],
)
def test_what_servers_call_by_their_own_names_has_one_name(page, values):
    assert read_metrics(page) == values


@contextmanager
def page_at(answer, asked=None):
    """The URL of a server that answers GET with `answer(handler)`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if asked is not None:
                asked.append((self.path, dict(self.headers)))
            answer(self)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def says(page: str, status: int = 200, **headers: str):
    def answer(handler):
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(page.encode())

    return answer


def drips(handler):
    handler.send_response(200)
    handler.end_headers()
    for _ in range(600):
        handler.wfile.write(b"#")
        handler.wfile.flush()
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (says("", 404), "HTTP 404"),
        (says("", 302, Location="http://127.0.0.1:9/"), "HTTP 302"),
        (says("#" * 5_000_000), "larger than 4,194,304 bytes"),
        (says("vllm:num_requests_running 1\n" * 3000), "3,000 lines of these quantities"),
        (says('vllm:num_requests_running{x="<script>} 1\n'), "not Prometheus' text format"),
        (drips, "did not end within"),
        (lambda handler: handler.connection.close(), "not read"),
    ],
)
def test_a_page_that_cannot_be_used_is_given_up_in_time_and_not_quoted(answer, words, monkeypatch):
    monkeypatch.setattr(prometheus, "TIMEOUT_S", 0.5 if answer is drips else 20)
    began_s = time.monotonic()
    with page_at(answer) as url, pytest.raises(NoMetrics, match=words) as caught:
        fetch_metrics(f"{url}/metrics", {}, None)
    assert time.monotonic() - began_s < 15, "the page would last 30 s"
    assert "script" not in str(caught.value)


def scraper_of(tmp_path, url, api="http://127.0.0.1:9/v1", **changes):
    """Of an option with this `metrics_url` (None: none), and the run."""
    keys = {"base_url": api, **({"metrics_url": url} if url else {}), **changes}
    config = make_config([option("a", **keys)])
    address = Address(
        url=f"{api}/chat/completions", api="openai_chat", request_id_header="x", framing="plain", bearer_token="secret"
    )
    run = RunFolder(tmp_path)
    return Scraper(config.options[0], address, run), run


def test_a_server_without_metrics_is_left_in_peace_and_nothing_is_said(tmp_path, capsys):
    asked = []
    with page_at(says("", 404), asked) as url:
        scraper, run = scraper_of(tmp_path, None, api=f"{url}/some/v1")
        with scraper.attempt("point"):
            pass
    assert {path for path, _ in asked} == {"/some/metrics"} and len(asked) <= 2
    assert read_samples(run, "point") is None and not (tmp_path / "server").exists()
    assert capsys.readouterr() == ("", "")


def test_a_page_that_the_config_names_and_that_fails_is_said_once_with_its_reason_and_the_load_goes_on(
    tmp_path, capsys
):
    with page_at(says("", 500)) as url:
        scraper, run = scraper_of(tmp_path, f"{url}/metrics?key=hidden")
        for point in ("one", "two", "three"):
            with scraper.attempt(point):
                pass
    said = capsys.readouterr().err
    assert said.count("Warning: option 'a'") == 1
    assert "/metrics was not read throughout: it answered HTTP 500." in said and "hidden" not in said
    assert read_samples(run, "one")[1] == "it answered HTTP 500"


def test_a_server_that_dies_under_load_leaves_what_it_said_before(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(scraping, "EVERY_S", 0.05)
    asked = []
    with page_at(says(VLLM), asked) as url:
        scraper, run = scraper_of(tmp_path, f"{url}/metrics")
        with pytest.raises(ZeroDivisionError), scraper.attempt("broken off"):
            raise ZeroDivisionError
        context = scraper.attempt("point")
        before = len(asked)
        context.__enter__()
        until = time.monotonic() + 30
        while len(asked) < before + 5 and time.monotonic() < until:
            time.sleep(0.01)
    context.__exit__(None, None, None)
    samples, trouble = read_samples(run, "point")
    assert (samples["name"] == "running").sum() >= 3
    assert trouble == "it was not reached (ConnectionRefusedError)"
    assert capsys.readouterr().err.count("was not read throughout") == 1
    assert read_samples(run, "broken off") is None


def test_the_key_of_the_api_goes_to_no_other_server(tmp_path):
    asked = []
    with page_at(says(VLLM), asked) as url:
        scraper_of(tmp_path, f"{url}/metrics")
        scraper_of(tmp_path, None, api=f"{url}/v1")
    authorizations = [headers.get("Authorization") for _, headers in asked]
    assert authorizations[0] is None and authorizations[-1] == "Bearer secret"
