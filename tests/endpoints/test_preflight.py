"""One real request before any load: what a user reads where a server does not answer, and what the exit status is."""

from __future__ import annotations

import re
import socket

import pytest
from attempt_specs import measure, moody_stub, spec_of
from command_line import config_of, openai, run_main
from faulty_server import KEY, faulty_server, tls_of_localhost

from helpers.endpoints.deployments import start_deployments
from helpers.endpoints.loading import load_all
from helpers.endpoints.preflight import first_answers
from helpers.load.load_processes import LoadProcesses
from helpers.prompts.making import make_prompts
from helpers.run.folder import RunFolder, open_run
from helpers.run.ledger import Ledger
from helpers.run.prompt_files import write_prompts
from helpers.run.records import read_requests
from helpers.verdict.exit_status import status_of_verdict
from helpers.verdict.verdict import Verdict
from local_sagemaker.tiny_model import default_cache_dir

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server():
    with faulty_server() as server:
        yield server


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def message_of(said: str, option: str) -> str:
    """The failure of an option, as it was printed."""
    return next(line for line in said.splitlines() if line.startswith(f"option {option!r}: no answer"))


@pytest.fixture(scope="module")
def checked(server, tmp_path_factory):
    """What `plan --check` says of one option of each fault, and its exit status."""
    folder = tmp_path_factory.mktemp("check")
    (folder / "other").mkdir()
    of_localhost, certificate = tls_of_localhost(folder / "other")
    with faulty_server(of_localhost) as tls:
        options = [openai(fault, server.url(fault)) for fault in FAULTS]
        options += [openai(fault, server.url(fault)) for fault in ("well", *ODD)]
        options[0] |= {"api_key": "${TEST_SECRET}"}
        options += [
            openai("no such host", "http://server.invalid/v1"),
            openai("closed port", f"http://127.0.0.1:{closed_port()}/v1"),
            openai("of another name", tls.url("well", "https"), ca_file=str(certificate)),
            openai("not trusted", tls.url("well", "https")),
            openai("no tls", server.url("well", "https")),
            openai("with password", server.url("wrong_key", user="user:${GATEWAY_PASSWORD}@")),
            openai("own header", server.url("wrong_key"), headers={"api-key": "${TEST_SECRET}", "X-Tenant": "t"}),
            openai("own authorization", server.url("wrong_key"), headers={"Authorization": "Token ${TEST_SECRET}"}),
            openai(
                "key and header", server.url("wrong_key"), api_key="${TEST_SECRET}", headers={"x-key": "${TEST_SECRET}"}
            ),
            openai("without a key", server.url("wrong_key")),
        ]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TEST_SECRET", KEY)
            patch.setenv("GATEWAY_PASSWORD", "pa55word")
            yield run_main("plan", "--check", "--config", config_of(folder, *options))


FAULTS = {
    "wrong_key": (r"key refused: HTTP 401: Incorrect API key provided: \(hidden\)", "check api_key"),
    "unknown_model": (r"unknown model: HTTP 404: The model `m` does not exist", "check served_model"),
    "wrong_path": (r"wrong path: HTTP 404: Not Found", "check base_url"),
    "busy": (r"too many requests: HTTP 429: Rate limit reached for requests: 3 per minute", "wait until the limit"),
    "too_long": (r"prompt too long: HTTP 400: This model's maximum context length is 64 tokens", "lower prompt_tokens"),
    "broken": (r"server error: HTTP 500: CUDA out of memory", "the server's log"),
    "moved": (r"redirected: HTTP 301: to https://elsewhere:8443/v1", "set base_url"),
    "filtered": (r"answer broken off: HTTP 200: the server broke off the answer: content_filter", "the server's log"),
    "web_page": (r"not an answer of this API: HTTP 200", "check api"),
    "empty": (r"empty answer: HTTP 200", "the server's log"),
    "engine_error": (r"server error: HTTP 200: engine is dead", "the server's log"),
    "cut": (r"answer broken off: HTTP 200: the answer ends without", "the server's log"),
}
UNREACHED = {
    "no such host": (r"no such host: .*Name or service not known", "check the host in base_url"),
    "closed port": (r"connection refused: connecting to 127\.0\.0\.1:\d+", "start the server"),
    "of another name": (r"certificate for another name: .*IP address mismatch.*'127.0.0.2'", "host name that the"),
    "not trusted": (r"certificate not trusted: .*self.signed", "set ca_file"),
    "no tls": (r"TLS failed: ", "use http://"),
}
ODD = {
    "no_usage": "no usage",
    "no_stream": "came in one piece",
    "only_reasoning": "was reasoning",
    "fails_once": "a request before this one failed: HTTP 502: no upstream",
}


@pytest.mark.parametrize("option", [*FAULTS, *UNREACHED])
def test_what_fails_is_reported_with_what_was_sent_what_came_back_and_the_next_step(checked, option):
    words, next_step = {**FAULTS, **UNREACHED}[option]
    message = message_of(checked[1], option)
    key = "a key" if option == "wrong_key" else "no key"
    assert re.search(rf"Sent: POST https?://\S+/chat/completions \(model 'm', stream, {key}\)\. Came back: ", message)
    assert re.search(rf"Came back: {words}.*\. Next: .*{re.escape(next_step)}", message)
    assert len(message) < 700


@pytest.mark.parametrize("option", ODD)
def test_an_answer_that_is_not_as_asked_for_is_no_failure_and_says_what_that_means(checked, option):
    assert re.search(rf"option {option!r}: answers after .* Sent: POST .*; .*{ODD[option]}", checked[1])


def test_the_check_sets_its_exit_status_and_shows_no_secret(checked):
    status, said = checked
    assert status == 6
    assert said.splitlines()[-1] == "exit status 6: not every option answers, or a notice cannot be sent: see above"
    assert re.search(
        r"option 'well': answers after [\d.]+ m?s\. Sent: POST \S+ \(model 'm', stream, no key\)\.\n", said
    )
    assert "model 'm', stream, a password). Came back: key refused" in message_of(said, "with password")
    assert KEY not in said and "pa55word" not in said and "planted" not in said and "dXNlcjpwYTU1d29yZA" not in said


@pytest.mark.parametrize(
    ("option", "sent", "next_step"),
    [
        ("wrong_key", "a key", "check api_key: it may be wrong"),
        ("with password", "a password", "check the user and password in base_url: it may be wrong"),
        ("own header", "a key in the header api-key", "check headers.api-key: it may be wrong"),
        ("own authorization", "a key in the header Authorization", "check headers.Authorization: it may be wrong"),
        ("key and header", "a key and a key in the header x-key", "check api_key and headers.x-key: it may be wrong"),
        (
            "without a key",
            "no key",
            "set api_key, or the header that the server reads its key from in headers: no key was",
        ),
    ],
)
def test_a_refused_key_is_looked_for_where_it_was_given(checked, option, sent, next_step):
    message = message_of(checked[1], option)
    assert f"(model 'm', stream, {sent}). Came back: key refused: HTTP 401" in message
    assert f". Next: {next_step}" in message
    assert KEY not in message and "pa55word" not in message


# --- a series -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def some_dead(server, tmp_path_factory):
    """A series over an option that is well and four that are not: its exit status, what was said, its run folder."""
    folder = tmp_path_factory.mktemp("some")
    with faulty_server() as dying, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEST_SECRET", KEY)
        options = [
            openai("well", server.url("well")),
            openai("wrong key", server.url("wrong_key"), api_key="${TEST_SECRET}"),
            openai("closed port", f"http://127.0.0.1:{closed_port()}/v1"),
            openai("dies", dying.url("dies")),
            openai("revoked", server.url("revoked")),
        ]
        server.seen.clear()
        config = config_of(folder, *options, endpoints={"unreachable_for_s": 2})  # for which the dead one is waited for
        status, said = run_main("report", "--config", config)
    (path,) = (folder / "runs").iterdir()
    return status, said, RunFolder(path)


def failures(run: RunFolder) -> dict[str, str | None]:
    return {record.option: record.failure for record in Ledger(run.ledger_file, run.run_id).records()}


def test_options_that_do_not_answer_do_not_stop_the_others(some_dead):
    status, said, run = some_dead
    assert status == 0
    assert said.splitlines()[-1] == (
        "exit status 0: a verdict: “well” is recommended; not measured: “wrong key”, “closed port”, “dies”, “revoked”"
    )
    done, total = re.findall(r"^ +(\d+) of (\d+): ", said, re.MULTILINE)[-1]
    assert done == total, "of the others nothing is to come"
    assert "failed option" not in said
    verdict = Verdict.model_validate_json((run.path / "verdict.json").read_text())
    assert verdict.recommended == "well"
    found = failures(run)
    assert found["well"] is None
    assert "HTTP 401: Incorrect API key provided" in found["wrong key"]
    assert re.search(r"Came back: connection refused: connecting to 127\.0\.0\.1:\d+\. Next", found["closed port"])
    assert all("Next: " in words for name, words in found.items() if name != "well")


def test_what_does_not_answer_gets_no_load(some_dead, server):
    assert server.seen["wrong_key"] == 2, "one request before endpoints would be made, and one before its load"


def test_a_server_that_dies_under_load_is_named_and_its_load_point_says_nothing(some_dead):
    _, _, run = some_dead
    words = failures(run)["dies"]
    assert re.search(
        r"stopped answering under load \(short at concurrency \d: 8 of \d+ requests answered, none of the last", words
    )
    assert "and then a single request failed too; 2 load points not measured: short at concurrency" in words
    assert re.search(r"Came back: connection refused: .*Next: start the server", words)
    assert not list(run.requests.glob("dies*"))
    assert len(list((run.requests / "set_aside").glob("dies*"))) == 1, "kept all the same"


def test_a_key_that_is_revoked_under_load_is_named(some_dead):
    _, _, run = some_dead
    assert re.search(
        r"stopped answering under load .* 0 of [\d,]+ requests answered.*HTTP 401", failures(run)["revoked"]
    )
    assert len(list((run.requests / "set_aside").glob("revoked*"))) == 1, "no second load point was tried"


@pytest.mark.parametrize("fault", ["server_error", "reset_at_once"])
def test_a_load_point_of_which_nothing_is_answered_ends_early(tmp_path, fault):
    with moody_stub() as url, LoadProcesses(tmp_path / "load.log") as processes:
        load = {"concurrency": [4], "min_requests": 1_000_000, "repeat_prompts": True, "max_duration_s": 60}
        requests, facts = measure(processes, spec_of(tmp_path, url, fault, **load))
    assert facts.ended_because == "nothing was answered"
    assert len(requests) >= 30 and "ok" not in set(requests["status"])
    assert (requests["done_ns"].max() - requests["sent_ns"].min()) / 1e9 < 45


def test_a_load_point_of_which_something_is_answered_goes_on(tmp_path):
    with moody_stub() as url, LoadProcesses(tmp_path / "load.log") as processes:
        load = {"concurrency": [4], "min_requests": 1_000_000, "repeat_prompts": True, "max_duration_s": 3}
        _, facts = measure(processes, spec_of(tmp_path, url, "every_third_fails", **load))
    assert facts.ended_because == "max_duration_s"


def test_no_request_of_a_preflight_is_measured(some_dead):
    _, _, run = some_dead
    asked = {answer.option: answer for answer in first_answers(run)}
    assert set(asked) == {"well", "dies", "revoked"}
    assert asked["well"].output_tokens == 6 and asked["well"].notes == []
    assert set(read_requests(run.requests)["option"]) == {"well"}


def test_a_run_of_which_nothing_answers_stops_before_any_load(server, tmp_path, monkeypatch):
    monkeypatch.setenv("TEST_SECRET", KEY)
    server.seen.clear()
    options = [
        openai("wrong key", server.url("wrong_key"), api_key="${TEST_SECRET}"),
        openai("closed port", f"http://127.0.0.1:{closed_port()}/v1"),
    ]
    status, said = run_main("report", "--config", config_of(tmp_path, *options))
    assert status == 6
    assert re.search(r"option 'wrong key': no answer .*HTTP 401: Incorrect API key.*Next: check api_key", said)
    assert re.search(r"option 'closed port': no answer .*connection refused.*Next: start the server", said)
    assert said.splitlines()[-1].startswith("exit status 6: no option was measured")
    assert server.seen["wrong_key"] == 1
    (path,) = (tmp_path / "runs").iterdir()
    report = (path / "report.md").read_text()
    assert "HTTP 401: Incorrect API key provided" in report and "connection refused: connecting to" in report
    verdict = Verdict.model_validate_json((path / "verdict.json").read_text())
    assert verdict.recommended is None and status_of_verdict(verdict) == 6
    assert KEY not in said + report

    # corrected as the messages say, the same run goes on
    corrected = config_of(tmp_path, openai("wrong key", server.url("well")))
    config, run = open_run(corrected, str(path), new=True)
    write_prompts(make_prompts(config.benchmark, tmp_path, default_cache_dir()).tables, run.payloads)
    start_deployments(config.benchmark, run, on_change=lambda records: None)
    load_all(config.benchmark, run, on_event=lambda event: None)
    assert set(read_requests(path / "requests")["option"]) == {"wrong key"}
    assert not any(failures(run).values())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompts": {"source": {"kind": "jsonl", "path": "no.jsonl"}, "template": "user_turn"}}, "no.jsonl: No such file"),
        ({"model": {"name": "m", "tokenizer": "./no", "context_tokens": 2048}}, "tokenizer ./no: no such folder"),
        ({"load": {"kind": "trace", "path": "no.csv", "min_requests": 9}}, "load.path 'no.csv': cannot be read"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", [["plan", "--check"], ["report"]])
def test_a_file_that_is_missing_is_named_before_anything_is_sent(server, tmp_path, command, changes, words):
    server.seen.clear()
    config = config_of(tmp_path, openai("well", server.url("well")), **changes)
    status, said = run_main(*command, "--config", config)
    assert status == 2
    assert words in said and "Next: " in said
    assert said.splitlines()[-1].startswith("exit status 2: wrong usage, config")
    assert not server.seen
