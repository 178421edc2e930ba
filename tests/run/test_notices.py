"""Notices of runs that nobody watches: what each channel is sent, on which ends of a run, and what a failed notice changes."""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import boto3
import pytest
import yaml
from aws_stub import refusing
from command_line import config_of, openai, run_main
from conftest import small_config, thorough
from fault_lab import fault_config
from faulty_server import faulty_server
from result_files import write_two_options

from helpers.config.file import load_config
from helpers.config.notify import Notify
from helpers.errors import ConfigError
from helpers.run import notices
from helpers.run.notices import Notice, send

pytest_plugins = ["fault_fixtures", "moto_server"]

SECRET_PATH = "T00000000/B00000000/planted-webhook-secret"
NOTICE = Notice("Run x", "Run x: <!channel> & more", {"run_id": "x"})
WRITES = [sys.executable, "-c", "import sys; open(sys.argv[1], 'a').write(sys.stdin.read())"]


class Hook(http.server.BaseHTTPRequestHandler):
    """Keeps what is posted to it; a path may ask for a status, or for no answer."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.path.startswith("/hang"):
            self.server.ends.wait(30)
            return
        self.server.posted.append((self.command, self.path, json.loads(body)))
        asked = re.match(r"/status/(\d+)", self.path)
        self.send_response(int(asked[1]) if asked else 200)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        self.server.posted.append((self.command, self.path, {}))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hook():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        server.posted, server.ends = [], threading.Event()
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        server.url = f"http://127.0.0.1:{server.server_port}"
        yield server
        server.ends.set()
        server.shutdown()


@pytest.fixture
def channel(hook, tmp_path, monkeypatch):
    """A config's `notify` that writes to a file and posts to the hook, and the texts of both."""
    monkeypatch.setenv("HOOK", f"{hook.url}/{SECRET_PATH}")
    monkeypatch.setenv("TEST_SECRET", "s3cr3t-of-the-test")
    written = tmp_path / "notices.txt"
    return {"webhook": "${HOOK}", "command": [*WRITES, str(written)]}, written


def holds_secret(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and b"planted-webhook-secret" in path.read_bytes()]


# --- the config ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("notify", "words"),
    [
        ({}, "give at least one of sns_topic, webhook, command"),
        (
            {"webhook": f"https://hooks.slack.com/services/{SECRET_PATH}"},
            "a secret is written into the file. Expected ${NAME}",
        ),
        ({"webhook": "${NO_URL}"}, "bad value (a value from the environment). Expected a URL without a user"),
        ({"sns_topic": "benchmarks"}, "bad value 'benchmarks'. Expected the ARN of a standard SNS topic"),
        ({"sns_topic": "arn:aws:sns:us-east-1:123456789012:x.fifo"}, "Expected the ARN of a standard SNS topic"),
        ({"command": []}, "notify.command: bad value"),
        ({"command": ["post", "--token", "${SOME_TOKEN}"]}, "let the command read it from its environment"),
        ({"comand": ["x"]}, "Did you mean `command`?"),
    ],
)
def test_a_wrong_channel_is_refused_and_no_secret_is_quoted(tmp_path, monkeypatch, notify, words):
    for name in ("TEST_SECRET", "SOME_TOKEN", "NO_URL"):
        monkeypatch.setenv(name, "user:planted-password@host")
    with pytest.raises(ConfigError) as refused:
        load_config(small_config(tmp_path, notify=notify))
    assert words in str(refused.value) and "Next: " in str(refused.value)
    assert "planted" not in str(refused.value)


# --- channels -----------------------------------------------------------------------------------------------------


def test_a_webhook_gets_text_that_mentions_nobody_and_fields(hook):
    assert send(Notify(webhook=f"{hook.url}/{SECRET_PATH}"), NOTICE) == []
    ((_, path, body),) = hook.posted
    assert path == f"/{SECRET_PATH}"
    assert body == {"text": "Run x: &lt;!channel&gt; &amp; more", "run": {"run_id": "x"}}


def test_a_topic_gets_the_text(moto_server, hook):
    sns = boto3.client("sns")
    topic = sns.create_topic(Name="benchmarks")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=hook.url)
    assert [is_well for _, is_well in notices.check_channels(Notify(sns_topic=topic))] == [True]
    assert hook.posted == [], "the check sends nothing"
    assert send(Notify(sns_topic=topic), Notice("Lauf “x”\n" * 60, "text")) == []
    ((_, _, body),) = hook.posted
    assert (body["Message"], body["Subject"][:10], len(body["Subject"])) == ("text", "Lauf ?x? L", 99)


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/status/404", "it answered HTTP 404"),
        ("/status/500", "it answered HTTP 500"),
        ("/status/302", "it answered HTTP 302"),
        (None, "it was not reached (Connection refused)"),
    ],
)
def test_a_webhook_that_refuses_is_a_warning_without_its_url(hook, path, words):
    url = f"{hook.url}{path}" if path else f"http://127.0.0.1:{closed_port()}"
    (warning,) = send(Notify(webhook=f"{url}/{SECRET_PATH}?x"), NOTICE)
    assert f"notify.webhook: the notice was not sent: {words}. Next: check" in warning
    assert "planted" not in warning and "127.0.0.1" not in warning
    assert [method for method, *_ in hook.posted] == ["POST"] * bool(path), "a redirect is not followed"


def test_what_is_not_there_is_a_warning_and_fails_the_check(moto_server):
    notify = Notify(sns_topic="arn:aws:sns:us-east-1:123456789012:gone", command=["no-such-program"])
    for said in (send(notify, NOTICE), [line for line, is_well in notices.check_channels(notify) if not is_well]):
        assert [line.split("notify.")[1].split(":")[0] for line in sorted(said)] == ["command", "sns_topic"]
        assert "NotFound" in "".join(said) and "no-such-program" in "".join(said)
        assert all("Next: " in line for line in said)
    (warning,) = send(Notify(command=[sys.executable, "-c", "raise SystemExit(3)"]), NOTICE)
    assert "it ended with status 3" in warning


def test_for_credentials_that_have_expired_the_next_step_is_to_log_in(moto_server, monkeypatch):
    notify = Notify(sns_topic="arn:aws:sns:us-east-1:123456789012:there")
    with refusing("ExpiredToken", 403) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SNS", url)
        ((checked, _),) = notices.check_channels(notify)
        for said in (checked, *send(notify, NOTICE)):
            assert "ExpiredToken" in said and "Next: log in again" in said and "caller.json" not in said


@pytest.mark.slow
def test_no_channel_is_waited_for_longer_than_ten_seconds(hook):
    sleeps = [sys.executable, "-c", "import subprocess; subprocess.run(['sleep', '40'])"]
    began = time.monotonic()
    warnings = send(Notify(webhook=f"{hook.url}/hang", command=sleeps), NOTICE)
    assert 9 < time.monotonic() - began < 25, "the command would take 40 s, the webhook 30"
    assert len(warnings) == 2


# --- runs ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_finished_run_says_its_bottom_line_and_where_the_report_is(channel, hook, moto_server, tmp_path):
    notify, written = channel
    config = write_two_options(tmp_path, 0.4, notify={**notify, "sns_topic": "arn:aws:sns:us-east-1:123456789012:gone"})
    status, said = run_main("import", "--config", config, "--fail-if", "tied; recommended != slow")
    assert status == 7, "the failed notice changes nothing"
    *_, warning, last = said.splitlines()
    assert warning.startswith("Warning: notify.sns_topic: the notice was not sent: ")
    (run,) = (tmp_path / "runs").iterdir()
    text = written.read_text()
    assert text.splitlines()[0] == f"Run {run.name}: {last}"
    assert "Serve Llama-3.1-8B-Instruct with “fast”: it meets the SLO" in text
    assert "$" in text and "\\" not in text and "**" not in text, "no markup"
    assert text.endswith(f"Spent so far: $0.00.\nReport: {run}/report.html\n")
    ((_, _, body),) = hook.posted
    assert (body["run"]["exit_status"], body["run"]["recommended"]) == (7, "fast")
    assert (body["run"]["run_id"], body["run"]["where"]) == (run.name, f"{run}/report.html")
    assert body["text"] in text
    assert holds_secret(tmp_path) == [] and "planted" not in said
    assert yaml.safe_load((run / "config.yml").read_text())["notify"]["webhook"] == "${HOOK}"


def test_a_run_that_does_not_begin_says_why(channel, tmp_path):
    notify, written = channel
    config = write_two_options(tmp_path, 0.4, notify=notify)
    (tmp_path / "slow.json").write_text("{")
    status, _ = run_main("import", "--config", config)
    assert status == 2
    first, second, *_ = written.read_text().splitlines()
    assert first.startswith("Run of imported, which did not begin: exit status 2: wrong usage, config, prompts")
    assert second.startswith("ResultFileError: ") and "slow.json" in second


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL, *thorough(signal.SIGTERM)])
def test_a_run_that_is_stopped_or_killed_says_so(channel, tmp_path, stop):
    notify, written = channel
    load = {
        "kind": "closed_loop",
        "concurrency": [1],
        "min_requests": 100_000,
        "max_duration_s": 100,
        "repeat_prompts": True,
    }
    with faulty_server() as server:
        config = config_of(tmp_path, openai("well", server.url("well")), load=load, notify=notify)
        process = subprocess.Popen(
            [sys.executable, "-m", "helpers", "report", "--config", config],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        for line in process.stdout:
            if b"01_generate_data" in line:
                break
        process.send_signal(stop)
        process.communicate(timeout=60)
        waits_until = time.monotonic() + 120
        while not (written.exists() and written.read_text()) and time.monotonic() < waits_until:
            time.sleep(0.2)
    (run,) = (tmp_path / "runs").iterdir()
    text = written.read_text()
    if stop == signal.SIGKILL:
        assert text.startswith(f"Run {run.name}: the process that ran it was killed or crashed.")
    else:
        status = 128 + stop
        assert process.returncode == status
        assert text.startswith(f"Run {run.name}: exit status {status}: stopped by ")
        assert f"Run folder: {run}" in text
    assert holds_secret(run) == []


@pytest.mark.slow
def test_an_import_that_is_stopped_says_so(channel, tmp_path):
    notify, written = channel
    config = write_two_options(tmp_path, 0.4, notify=notify)
    process = subprocess.Popen(
        [sys.executable, "-m", "helpers", "import", "--config", config],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    for line in process.stdout:
        if b"load point" in line:
            break
    process.terminate()
    process.communicate(timeout=60)
    (run,) = (tmp_path / "runs").iterdir()
    assert process.returncode == 128 + signal.SIGTERM
    assert written.read_text().startswith(f"Run {run.name}: exit status 143: stopped by ")


@pytest.mark.slow
def test_a_budget_that_is_reached_before_anything_is_measured_is_the_status_and_the_notice(lab, channel):
    notify, written = channel
    price = {"usd_per_hour": 36000.0, "as_of": "2026-11-01"}
    config = fault_config(lab.folder, ("a",), option={"price": price}, budget_usd=0.01, notify=notify)
    run = lab.begin(config)
    lab.start()
    said = lab.helpers("report", "--config", str(config), "--run-dir", str(run.path))
    assert said.splitlines()[-1] == "exit status 5: the budget is reached: the run stopped"
    assert f"Run {run.run_id}: exit status 5: the budget is reached" in written.read_text()
    assert "has reached budget_usd 0.01" in written.read_text()
    assert "Spent so far: $0.00." not in written.read_text()
    assert lab.left() == set()
