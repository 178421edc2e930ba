"""One real request before any load: what a user reads where a server does not answer, and what the exit status is."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
from conftest import small_config
from faulty_server import KEY, certificate_for, faulty_server

from helpers.__main__ import main

LOAD = {
    "kind": "closed_loop",
    "concurrency": [1, 2],
    "min_requests": 12,
    "warmup_requests": 1,
    "max_duration_s": 10,
    "request_timeout_s": 5,
    "repeat_prompts": True,
}


@pytest.fixture(scope="module")
def server():
    with faulty_server() as server:
        yield server


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def openai(name: str, url: str, **more: object) -> dict:
    price = {"usd_per_hour": 1.0, "as_of": "2026-11-01"}
    return {"name": name, "target": "openai", "base_url": url, "served_model": "m", "price": price, **more}


def config_of(folder: Path, *options: dict, **changes: object) -> str:
    datasets = [{"name": "short", "prompt_tokens": [60, 120], "count": 60}]
    return str(small_config(folder, **{"options": list(options), "datasets": datasets, "load": LOAD, **changes}))


def message_of(said: str, option: str) -> str:
    """The failure of an option, as it was printed."""
    return next(line for line in said.splitlines() if line.startswith(f"option {option!r}: no answer"))


@pytest.fixture(scope="module")
def checked(server, tmp_path_factory):
    """What `plan --check` says of one option of each fault, and its exit status."""
    folder = tmp_path_factory.mktemp("check")
    (folder / "other").mkdir()
    of_another_name, certificate = certificate_for("somebody.example", folder / "other")
    with faulty_server(of_another_name) as tls:
        options = [openai(fault, server.url(fault)) for fault in FAULTS]
        options += [openai(fault, server.url(fault)) for fault in ("well", *ODD)]
        options[0] |= {"api_key": "${TEST_SECRET}"}
        options += [
            openai("no such host", "http://server.invalid/v1"),
            openai("closed port", f"http://127.0.0.1:{closed_port()}/v1"),
            openai("of another name", tls.url("well", "localhost", "https"), ca_file=str(certificate)),
            openai("not trusted", tls.url("well", "localhost", "https")),
            openai("no tls", server.url("well", scheme="https")),
            openai("with password", server.url("wrong_key", "user:pa55word@127.0.0.1")),
        ]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TEST_SECRET", KEY)
            yield run_main(["plan", "--check", "--config", config_of(folder, *options)], folder)


def run_main(arguments: list[str], folder: Path) -> tuple[int, str]:
    """Exit status, and what a terminal shows."""
    import io
    from contextlib import redirect_stderr, redirect_stdout

    with redirect_stdout(io.StringIO()) as said, redirect_stderr(said):
        status = main(arguments)
    Path("/tmp/preflight-said").mkdir(exist_ok=True); Path("/tmp/preflight-said", folder.name + ".txt").write_text(said.getvalue())
    return status, said.getvalue()


FAULTS = {
    "wrong_key": (r"key refused: HTTP 401: Incorrect API key provided: \(hidden\)", "check api_key"),
    "unknown_model": (r"unknown model: HTTP 404: The model `m` does not exist", "check served_model"),
    "wrong_path": (r"wrong path: HTTP 404: Not Found", "check base_url"),
    "busy": (r"too many requests: HTTP 429: Rate limit reached for requests: 3 per minute", "wait until the limit"),
    "too_long": (r"request refused: HTTP 400: This model's maximum context length is 64 tokens", "generation"),
    "broken": (r"server error: HTTP 500: CUDA out of memory", "the server's log"),
    "moved": (r"redirected: HTTP 301", "set base_url"),
    "web_page": (r"not an answer of this API: HTTP 200", "check api"),
    "empty": (r"empty answer: HTTP 200", "the server's log"),
    "engine_error": (r"server error: HTTP 200: engine is dead", "the server's log"),
    "cut": (r"answer broken off: HTTP 200: the answer ends without", "the server's log"),
}
UNREACHED = {
    "no such host": (r"no such host: .*Name or service not known", "check the host in base_url"),
    "closed port": (r"connection refused: .*Connect call failed", "start the server"),
    "of another name": (r"certificate for another name: .*Hostname mismatch.*'localhost'", "host name that the"),
    "not trusted": (r"certificate not trusted: .*self.signed", "set ca_file"),
    "no tls": (r"TLS failed: ", "use http://"),
}
ODD = {
    "no_usage": "no usage",
    "no_stream": "came in one piece",
    "only_reasoning": "was reasoning",
}


@pytest.mark.parametrize("option", [*FAULTS, *UNREACHED])
def test_what_fails_is_said_with_what_was_sent_what_came_back_and_the_next_step(checked, option):
    words, next_step = {**FAULTS, **UNREACHED}[option]
    message = message_of(checked[1], option)
    key = "a key" if option == "wrong_key" else "no key"
    assert re.search(rf"Sent: POST https?://\S+/chat/completions \(model 'm', stream, {key}\)\. Came back: ", message)
    assert re.search(rf"Came back: {words}.*\. Next: .*{re.escape(next_step)}", message)
    assert len(message) < 700


@pytest.mark.parametrize("option", ODD)
def test_an_answer_that_is_not_as_asked_for_is_no_failure_and_says_what_that_means(checked, option):
    assert f"option {option!r}: answers." in checked[1]
    assert re.search(rf"option {option!r}: .*{ODD[option]}", checked[1])


def test_the_check_tells_by_its_exit_status_and_shows_no_secret(checked):
    status, said = checked
    assert status == 6
    assert said.splitlines()[-1].startswith("exit status 6: ")
    assert "option 'well': answers." in said
    assert KEY not in said and "pa55word" not in said
