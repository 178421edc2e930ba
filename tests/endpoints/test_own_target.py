"""A target of one's own: the documented example from creation to deletion, what is refused, and what goes wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import small_config

from helpers.config.benchmark import PROJECT_ROOT
from helpers.endpoints.deployments import start_deployments
from helpers.endpoints.loading import load_all
from helpers.endpoints.targets.base import target_of
from helpers.endpoints.targets.python_file import delete_python, python_delete_command
from helpers.endpoints.teardown import delete_remaining
from helpers.errors import DeployError, TeardownError
from helpers.prompts.making import make_prompts
from helpers.run.folder import RunFolder, open_run
from helpers.run.ledger import EndpointRecord, Ledger
from helpers.run.prompt_files import write_prompts
from helpers.run.records import read_requests
from local_sagemaker.tiny_model import default_cache_dir

pytestmark = pytest.mark.slow

DOCUMENT = PROJECT_ROOT / "docs" / "own_target.md"
SERVER = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        self.answer(b"")

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        tokens = body["max_tokens"]
        events = [{"choices": [{"index": 0, "delta": {"content": f"w{i} "}}]} for i in range(tokens)]
        events += [{"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}]
        events += [{"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": tokens}}]
        lines = [f"data: {json.dumps(event)}\\n\\n" for event in events]
        self.answer("".join([*lines, "data: [DONE]\\n\\n"]).encode())

    def answer(self, data):
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
COMPLETE = """
def create(name, settings): pass
def status(name, settings): return settings.get("status", "in_service")
def address(name, settings): return ADDRESS
def delete(name, settings): pass
"""


def documented_example() -> str:
    (code,) = re.findall(r"^```python\n(.*?)^```$", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return code


def own_config(folder: Path, code: str, /, address: object = None, **settings: object) -> Path:
    """A config with one option, served by `code`, in which ADDRESS is the address."""
    (folder / "own").mkdir(exist_ok=True)
    (folder / "own" / "target.py").write_text(f"ADDRESS = {address!r}\n{code}")
    option = {
        "name": "my own",
        "target": "python",
        "file": "own/target.py",
        "api": "openai_chat",
        "instance_type": "c7i.4xlarge",
        "instance_count": 2,
        "price": {"usd_per_hour": 0.714},
        "settings": settings,
    }
    return small_config(folder, options=[option])


def target_and_record(path: Path):
    config, run = open_run(str(path), new=True)
    target = target_of(config.benchmark.options[0], config.benchmark, run)
    return target, target.plan()


@pytest.fixture
def example(tmp_path):
    """A config for the documented example with a small server; ends what a failed test leaves."""
    (tmp_path / "server.py").write_text(SERVER)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    yield own_config(
        tmp_path,
        documented_example(),
        command=[sys.executable, str(tmp_path / "server.py"), str(port)],
        url=f"http://127.0.0.1:{port}",
        served_model="m",
        folder=str(tmp_path / "local_server"),
    )
    for pid_file in (tmp_path / "local_server").glob("*.pid"):
        with suppress(ProcessLookupError):
            os.killpg(int(pid_file.read_text()), signal.SIGKILL)


def answers(record: EndpointRecord) -> bool:
    port = int(record.settings["url"].rsplit(":", 1)[1])
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# --- the documented example ---------------------------------------------------------------------------------------


def test_the_documented_example_is_deployed_loaded_and_deleted(example, tmp_path):
    config, run = open_run(str(example), new=True)
    write_prompts(make_prompts(config.benchmark, example.parent, default_cache_dir()).tables, run.payloads)
    (record,) = start_deployments(config.benchmark, run, on_change=lambda records: None)
    assert record.state == "in_service"
    assert answers(record)
    assert record.file == str(tmp_path / "own" / "target.py")
    assert record.settings == config.benchmark.options[0].settings
    assert (record.target, record.instance_type, record.usd_per_option_hour()) == ("python", "c7i.4xlarge", 1.428)
    assert re.fullmatch(r"small-.*-my-own-[0-9a-f]{6}", record.endpoint_name)
    (record,) = load_all(config.benchmark, run, on_event=lambda event: None)
    requests = read_requests(run.requests)
    assert set(requests["status"]) == {"ok"}
    assert len(requests["load_point"].unique()) == 4
    assert (record.state, record.failure) == ("deleted", None)
    assert record.startup_s() is not None and 0 < record.billed_hours() < 1
    assert not answers(record)
    assert not list((tmp_path / "local_server").glob("*.pid"))


DEPLOY_AND_DIE = """
import os, sys, time
from helpers.endpoints.deployment import Deployment
from helpers.run.ledger import Ledger
from helpers.run.folder import open_run

config, run = open_run(sys.argv[1], new=True)
deployment = Deployment(config.benchmark.options[0], config.benchmark, run, Ledger(run.ledger_file, run.run_id))
record = deployment.begin()
while record.state == "creating":
    time.sleep(0.05)
    record = deployment.step()
print(run.path, record.state, flush=True)
os._exit(1)
"""


def test_what_a_process_that_died_had_made_is_deleted_from_the_ledger_alone(example):
    """By another process and without the config; and once more, when nothing is there any more."""
    dead = subprocess.run(
        [sys.executable, "-c", DEPLOY_AND_DIE, example], stdout=subprocess.PIPE, text=True, check=False
    )
    path, state = dead.stdout.rsplit(maxsplit=1)
    run = RunFolder(Path(path))
    record = Ledger(run.ledger_file, run.run_id).record("my own")
    assert (state, record.state) == ("in_service", "in_service")
    assert answers(record)
    example.unlink()
    assert [deleted.option for deleted in delete_remaining(run)] == ["my own"]
    assert Ledger(run.ledger_file, run.run_id).record("my own").state == "deleted"
    assert not answers(record)
    delete_python(record)


def test_a_server_that_ends_at_once_fails_its_option_with_its_own_words(example, tmp_path):
    (tmp_path / "server.py").write_text("raise SystemExit('no model')")
    config, run = open_run(str(example), new=True)
    with pytest.raises(
        DeployError, match=r"option 'my own'.*the server has ended, see .*\.log in .*local_server.*Next: "
    ):
        start_deployments(config.benchmark, run, on_change=lambda records: None)
    record = Ledger(run.ledger_file, run.run_id).record("my own")
    delete_remaining(run)
    assert not list((tmp_path / "local_server").glob("*.pid"))
    assert "no model" in (tmp_path / "local_server" / f"{record.endpoint_name}.log").read_text()


# --- what is refused before anything is made ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "def create(name, settings): pass",
            r"defines no function status; .* address; .* delete\. Expected the functions",
        ),
        (COMPLETE + "status = 'in_service'", "defines no function status"),
        (COMPLETE + "def delete(name): pass", r"delete\(name\) cannot be called so: too many positional arguments"),
        (COMPLETE + "async def create(name, settings): pass", "create is async"),
        ("def create(name, settings):\n  pass pass", r"SyntaxError: invalid syntax \(target.py, line 3\)"),
        ("\n\nimport no_such_module", r"ModuleNotFoundError: No module named 'no_such_module' \(line 4\)"),
        ("\n1 / 0", r"ZeroDivisionError: division by zero \(line 3\)"),
    ],
)
def test_a_file_that_cannot_serve_is_refused_before_anything_is_made(tmp_path, code, words):
    with pytest.raises(DeployError, match=words) as refused:
        target_and_record(own_config(tmp_path, code))
    assert str(refused.value).startswith(f"option 'my own': {tmp_path / 'own' / 'target.py'}: ")
    assert str(refused.value).endswith("see docs/own_target.md")


def test_a_file_that_is_not_there_is_named(tmp_path):
    path = own_config(tmp_path, COMPLETE)
    (tmp_path / "own" / "target.py").unlink()
    with pytest.raises(DeployError, match=r"own/target\.py: FileNotFoundError"):
        target_and_record(path)


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"api_key": "${TEST_SECRET}"}, r"settings\.api_key"),
        ({"db_password": 5153}, r"settings\.db_password"),
        ({"servers": [{"env": {"HF_TOKEN": "${TEST_SECRET}"}}]}, r"settings\.servers\[0\]\.env\.HF_TOKEN"),
        ({"credentials": {"user": "u", "pass": "${TEST_SECRET}"}}, r"settings\.credentials"),
    ],
)
def test_settings_that_look_like_secrets_are_refused_and_not_shown(tmp_path, monkeypatch, settings, where):
    monkeypatch.setenv("TEST_SECRET", "s3cr3t")
    with pytest.raises(
        DeployError, match=rf"option 'my own': {where}: looks like a secret.*Secrets Manager"
    ) as refused:
        target_and_record(own_config(tmp_path, COMPLETE, **settings))
    assert "s3cr3t" not in str(refused.value) and "5153" not in str(refused.value)


def test_settings_that_only_name_a_secret_are_taken(tmp_path, monkeypatch):
    arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:hf-abc"
    monkeypatch.setenv("SECRET_ARN", arn)
    settings = {"secret": "${SECRET_ARN}", "token": None, "needs_password": False, "max_tokens": 5}
    _, record = target_and_record(own_config(tmp_path, COMPLETE, **settings))
    assert record.settings == {**settings, "secret": arn}


# --- what the functions give --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "state", "reason"),
    [
        ("creating", "creating", None),
        ("in_service", "in_service", None),
        ("gone", "gone", None),
        ("failed: no GPU", "failed", "no GPU. Next: correct "),
    ],
)
def test_states_are_taken_as_they_are(tmp_path, answer, state, reason):
    target, record = target_and_record(own_config(tmp_path, COMPLETE, status=answer))
    found = target.status(record)
    assert found.state == state and found.since is not None
    assert found.reason is None if reason is None else found.reason.startswith(reason)


@pytest.mark.parametrize("answer", ["InService", "failed", None, ["creating"], 3])
def test_what_is_no_state_is_refused(tmp_path, answer):
    target, record = target_and_record(own_config(tmp_path, COMPLETE, status=answer))
    words = (
        f"status({record.endpoint_name!r}) returned {answer!r}. Expected one of creating, in_service, gone, 'failed: "
    )
    with pytest.raises(DeployError, match=re.escape(words)):
        target.status(record)


def test_an_address_may_say_all_that_a_request_needs(tmp_path):
    address = {
        "url": "https://example.com/v1/chat/completions",
        "bearer_token": "t0ken",
        "served_model": "m",
        "framing": "aws_event_stream",
        "sigv4": {"service": "sagemaker", "region": "eu-west-1", "as_bearer_token": False},
        "request_id_header": "X-My-Id",
    }
    target, record = target_and_record(own_config(tmp_path, COMPLETE, address=address))
    found = target.address(record)
    assert found.model_dump(exclude_none=True) == {**address, "api": "openai_chat", "headers": {}}
    assert "t0ken" not in repr(found)
    target, record = target_and_record(own_config(tmp_path, COMPLETE, address={"url": "http://127.0.0.1:8/v1"}))
    found = target.address(record)
    assert (found.framing, found.request_id_header, found.bearer_token) == ("plain", "X-Request-Id", None)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (None, "returned a NoneType"),
        ({}, "returned url None"),
        ({"url": "ftp://example.com"}, "returned url 'ftp://example.com'"),
        ({"url": "http://"}, "returned url 'http://'"),
        ({"url": "http://127.0.0.1", "headers": {}}, "returned the unknown key 'headers'"),
        ({"url": "http://127.0.0.1", "bearer_token": ["s3cr3t"]}, "bearer_token: Input should be a valid string"),
        ({"url": "http://127.0.0.1", "framing": "sse"}, "framing: Input should be 'plain' or 'aws_event_stream'"),
        ({"url": "http://127.0.0.1", "sigv4": {"service": "x"}}, "sigv4.region: Field required"),
    ],
)
def test_an_address_that_is_none_is_refused_without_its_secrets(tmp_path, address, words):
    target, record = target_and_record(own_config(tmp_path, COMPLETE, address=address))
    with pytest.raises(DeployError, match=re.escape(words)) as refused:
        target.address(record)
    assert "Expected a dict with `url`" in str(refused.value)
    assert "s3cr3t" not in str(refused.value)


def test_certificates_are_looked_for_beside_the_file(tmp_path):
    path = own_config(tmp_path, COMPLETE, address={"url": "https://127.0.0.1", "ca_file": "ca.pem"})
    target, record = target_and_record(path)
    with pytest.raises(DeployError, match=rf"ca_file: {tmp_path / 'own' / 'ca.pem'}: .*No such file"):
        target.address(record)
    (tmp_path / "own" / "ca.pem").write_text("no certificate")
    with pytest.raises(DeployError, match="Expected a file of certificates in PEM format"):
        target.address(record)


@pytest.mark.parametrize("function", ["create", "status", "address"])
def test_what_a_function_raises_says_where(tmp_path, function):
    code = (
        COMPLETE
        + f"\n\ndef {function}(name, settings):\n    help_out()\n\ndef help_out():\n    raise OSError('no room')\n"
    )
    target, record = target_and_record(own_config(tmp_path, code))
    words = rf"target\.py: {function}\('{record.endpoint_name}'\) raised OSError: no room \(line 13\)\. Next: "
    with pytest.raises(DeployError, match=words):
        getattr(target, function)(record)


def test_functions_share_name_and_settings_and_cannot_change_them(tmp_path):
    code = """
from dataclasses import dataclass
import json
from pathlib import Path

@dataclass
class Called:
    function: str
    name: str
    seen: list

def called(function, name, settings):
    settings["seen"].append(function)
    with Path(settings["log"]).open("a") as log:
        log.write(json.dumps(vars(Called(function, name, settings["seen"]))) + "\\n")

def create(name, settings): called("create", name, settings)
def status(name, settings): called("status", name, settings); return "in_service"
def address(name, settings): called("address", name, settings); return {"url": "http://127.0.0.1:8"}
def delete(name, settings): called("delete", name, settings)
"""
    target, record = target_and_record(own_config(tmp_path, code, log=str(tmp_path / "log"), seen=[]))
    assert target.create(record) == record
    target.status(record)
    target.address(record)
    delete_python(record)
    log = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert log == [
        {"function": function, "name": record.endpoint_name, "seen": [function]}
        for function in ("create", "status", "address", "delete")
    ]
    assert record.settings["seen"] == []
    assert not (tmp_path / "own" / "__pycache__").exists()


# --- deleting -----------------------------------------------------------------------------------------------------


def test_what_cannot_be_deleted_says_so_and_stays_in_the_ledger(tmp_path):
    code = COMPLETE + "\ndef delete(name, settings):\n    raise OSError('locked')\n"
    config, run = open_run(str(own_config(tmp_path, code, address={"url": "http://127.0.0.1:8"})), new=True)
    (record,) = start_deployments(config.benchmark, run, on_change=lambda records: None)
    words = rf"target\.py: delete\('{record.endpoint_name}'\) raised OSError: locked \(line 9\): .*may still cost money"
    with pytest.raises(TeardownError, match=words):
        delete_remaining(run)
    assert Ledger(run.ledger_file, run.run_id).record("my own").state == "deleting"
    (tmp_path / "own" / "target.py").write_text(COMPLETE)
    assert [record.option for record in delete_remaining(run)] == ["my own"]


def test_a_file_that_was_moved_cannot_delete(tmp_path):
    _, record = target_and_record(own_config(tmp_path, COMPLETE))
    (tmp_path / "own" / "target.py").rename(tmp_path / "elsewhere.py")
    with pytest.raises(TeardownError, match=r"own/target\.py.*FileNotFoundError.*may still cost money"):
        delete_python(record)


def test_a_person_can_delete_with_the_command_in_the_message(tmp_path):
    code = COMPLETE + "\ndef delete(name, settings):\n    open(settings['it\\'s'] + name, 'w').close()\n"
    _, record = target_and_record(own_config(tmp_path, code, **{"it's": str(tmp_path / 'a "b" ')}))
    subprocess.run(python_delete_command(record), shell=True, check=True)
    assert (tmp_path / f'a "b" {record.endpoint_name}').is_file()
