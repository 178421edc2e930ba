"""The engine of the local SageMaker and the tiny model that it loads."""

import asyncio
import http.client
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from botocore.exceptions import ClientError
from local_sagemaker_calls import MESSAGES, ask, create, delete, joined, status_after, stream, wait_for

from local_sagemaker.engine import scheduler
from local_sagemaker.engine.errors import SettingError
from local_sagemaker.engine.routes import make_application
from local_sagemaker.engine.settings import EngineSettings, read_settings
from local_sagemaker.engine.text_decoding import StopTexts, StreamingDetokenizer
from local_sagemaker.event_loop import new_event_loop
from local_sagemaker.tiny_model import default_cache_dir, ensure_model

pytest_plugins = ["local_sagemaker_fixtures"]

# Settings


def test_engine_names_a_bad_setting(sagemaker: Any) -> None:
    create(sagemaker, "bad-setting", "openvino-genai", {"ENGINE_MODEL": "nowhere"})
    assert "ENGINE_MODEL='nowhere': expected" in status_after(sagemaker, "bad-setting", "Creating")["FailureReason"]
    delete(sagemaker, "bad-setting")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ENGINE_THREADS", "0"),
        ("ENGINE_THREADS", "100000"),
        ("ENGINE_MAX_NUM_SEQS", "x"),
        ("ENGINE_PREFIX_CACHING", "1"),
        ("ENGINE_REASONING_TOKENS", "-1"),
    ],
)
def test_settings_are_checked(model_folder: Path, name: str, value: str) -> None:
    with pytest.raises(SettingError, match=f"{name}='{value}': expected"):
        read_settings({"ENGINE_MODEL": str(model_folder), name: value})


def test_synthetic_model_is_made_in_the_cache_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    settings = read_settings({"ENGINE_MODEL": "synthetic:2m"})
    assert default_cache_dir() == tmp_path / ".cache" / "llm-serving-verdict" / "models"
    assert settings.model_path == ensure_model("2m") / "model.gguf"
    assert settings.model_path.is_relative_to(default_cache_dir())
    assert settings.model_path.is_file()


@pytest.mark.parametrize("text", ["synthetic:7b", "synthetic:"])
def test_unknown_size_of_a_synthetic_model_is_explained(text: str) -> None:
    size = text.removeprefix("synthetic:")
    with pytest.raises(SettingError, match=f"'{text}': model size '{size}' is not known; choose one of 2m, "):
        read_settings({"ENGINE_MODEL": text})


def test_synthetic_model_that_cannot_be_written_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".cache").write_text("not a folder")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    with pytest.raises(SettingError, match=r"'synthetic:2m': the model cannot be made in .*make room there"):
        read_settings({"ENGINE_MODEL": "synthetic:2m"})


def test_synthetic_model_in_service(sagemaker: Any, runtime: Any, model_folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / ".cache" / "llm-serving-verdict" / "models"
    shutil.copytree(model_folder, cache / model_folder.name)  # spares the time to make it
    create(sagemaker, "synthetic", "openvino-genai", {"ENGINE_MODEL": "synthetic:2m", "HOME": str(tmp_path)})
    assert status_after(sagemaker, "synthetic", "Creating")["EndpointStatus"] == "InService"
    assert ask(runtime, "synthetic", max_tokens=2)["model"] == model_folder.name
    delete(sagemaker, "synthetic")


# Answers


@pytest.fixture(scope="module")
def tokenizer(model_folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model_folder)


@pytest.mark.parametrize(
    "text", ["plain words", MESSAGES[1]["content"], " \r\n ½ Ⅷ __init__ => {'k': [1, 2]} e\u0301 '<user>'"]
)
def test_prompt_tokens_are_those_of_the_tokenizer(runtime: Any, endpoint: str, tokenizer: Any, text: str) -> None:
    messages = [MESSAGES[0], {"role": "user", "content": text}]
    expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert ask(runtime, endpoint, messages=messages, max_tokens=1)["usage"]["prompt_tokens"] == len(expected)


@pytest.mark.parametrize("control", [{"min_tokens": 40}, {"ignore_eos": True}])
def test_exactly_max_tokens(runtime: Any, endpoint: str, control: dict[str, Any]) -> None:
    body = {"max_tokens": 40, "temperature": 1.5, "seed": 3, **control}
    *_, last, usage = stream(runtime, endpoint, **body)
    assert last["choices"][0]["finish_reason"] == "length"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 40
    assert ask(runtime, endpoint, **body)["usage"]["completion_tokens"] == 40


def test_stream_has_the_shape_of_a_real_server(runtime: Any, endpoint: str) -> None:
    events = stream(runtime, endpoint, max_tokens=24, min_tokens=24, model="mine", seed=1)
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert len({event["id"] for event in events}) == 1
    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    assert {event["model"] for event in events} == {"mine"}
    with_text = [event for event in events[1:-2] if event["choices"][0]["delta"]["content"]]
    assert 8 < len(with_text) <= 24
    assert events[-2]["choices"][0]["delta"] == {}


def test_same_seed_same_text(runtime: Any, endpoint: str) -> None:
    def text(seed: int) -> str:
        return ask(runtime, endpoint, max_tokens=16, seed=seed)["choices"][0]["message"]["content"]

    assert text(1) == text(1) != text(2)


def test_streamed_text_is_the_text(runtime: Any, endpoint: str) -> None:
    body = {"max_tokens": 64, "min_tokens": 64, "seed": 5}
    assert (
        joined(stream(runtime, endpoint, **body)) == ask(runtime, endpoint, **body)["choices"][0]["message"]["content"]
    )


def test_stop_text_ends_the_answer(runtime: Any, endpoint: str) -> None:
    whole = joined(stream(runtime, endpoint, max_tokens=32, seed=9))
    stop = whole[len(whole) // 2 :][:3]
    events = stream(runtime, endpoint, max_tokens=32, seed=9, stop=[stop])
    assert joined(events) == whole[: whole.index(stop)]
    assert events[-2]["choices"][0]["finish_reason"] == "stop"


def test_completions_body(runtime: Any, endpoint: str) -> None:
    answer = runtime.invoke_endpoint(
        EndpointName=endpoint, Body=json.dumps({"prompt": [5, 6, 7], "max_tokens": 4, "ignore_eos": True})
    )
    body = json.load(answer["Body"])
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert body["object"] == "text_completion"
    assert isinstance(body["choices"][0]["text"], str)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_tokens": 4096}, "context of 4096 tokens"),
        ({"max_tokens": "many"}, "max_tokens is 'many', expected a whole number from 1"),
        ({"temperature": -1}, "temperature is -1, expected a number from 0.0 to 2.0"),
        ({"messages": []}, "messages is missing or empty"),
        ({"n": 2}, "n is 2"),
        ({"max_tokens": 2, "min_tokens": 3}, "min_tokens is 3"),
    ],
)
def test_bad_requests(runtime: Any, endpoint: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ClientError) as error:
        ask(runtime, endpoint, **change)
    assert error.value.response["OriginalStatusCode"] == 400
    assert message in json.loads(error.value.response["OriginalMessage"])["error"]["message"]


@pytest.mark.timing
def test_one_sequence_at_a_time(model_folder: Path) -> None:
    """With max_num_seqs=1 a short request waits for the long one before it, and a dropped one makes room."""
    with EngineProcess(model_folder, ENGINE_MAX_NUM_SEQS="1") as port:
        long = open_stream(port, max_tokens=3000, ignore_eos=True)
        assert long.getresponse().read(10)
        short = open_stream(port, max_tokens=1)
        waiting = short.getresponse()
        short.sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            waiting.read(1)
        short.close()
        long.sock.shutdown(2)  # the client goes away
        long.close()
        after = open_stream(port, max_tokens=1)
        after.sock.settimeout(1)
        assert after.getresponse().read(5) == b"data:"
        after.close()


class EngineProcess:
    """An engine outside of any SageMaker, to look at it alone."""

    def __init__(self, model_folder: Path, **environment: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = str(free.getsockname()[1])
        self._environment = {"ENGINE_MODEL": str(model_folder), "ENGINE_THREADS": "1", **environment}

    def __enter__(self) -> int:
        environment = {**os.environ, **self._environment, "SAGEMAKER_BIND_TO_PORT": self._port}
        command = [sys.executable, "-m", "local_sagemaker.engine"]
        self._process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        wait_for(self._ping, bool)
        return int(self._port)

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()  # the lifeline: no signal is needed
        try:
            self._process.wait(timeout=60)
        finally:
            self._process.kill()

    def _ping(self) -> bool:
        assert self._process.poll() is None
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/ping", timeout=10) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def open_stream(port: int, **body: Any) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    ask_stream(connection, **body)
    return connection


def ask_stream(connection: http.client.HTTPConnection, **body: Any) -> None:
    connection.request("POST", "/v1/chat/completions", json.dumps({"messages": MESSAGES, "stream": True, **body}))


class SlowPipeline:
    """A pipeline whose steps take 50 ms longer, in which the client's thread can act."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self.received: list[bytes] = []
        self.received_before_step: list[int] = []
        self.admitted_before_step: list[int] = []

    def step(self) -> None:
        time.sleep(0.05)
        self.received_before_step.append(len(self.received))
        self._pipeline.step()

    def add_request(self, *request: Any) -> Any:
        self.admitted_before_step.append(len(self.received_before_step))
        return self._pipeline.add_request(*request)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipeline, name)


def serve_slowly(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch, client: Callable[[int, SlowPipeline], None]
) -> SlowPipeline:
    """Runs the engine in this process while the client, which gets its port, runs in a thread."""
    load_pipeline = scheduler._load_pipeline
    pipelines: list[SlowPipeline] = []

    def load_slow_pipeline(settings: EngineSettings) -> SlowPipeline:
        pipelines.append(SlowPipeline(load_pipeline(settings)))
        return pipelines[0]

    async def serve() -> None:
        settings = read_settings({"ENGINE_MODEL": str(model_folder)})
        runner = web.AppRunner(make_application(scheduler.Engine(settings)))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        await asyncio.to_thread(client, runner.addresses[0][1], pipelines[0])
        await runner.cleanup()

    monkeypatch.setattr(scheduler, "_load_pipeline", load_slow_pipeline)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve())
    return pipelines[0]


@pytest.mark.timing
def test_each_token_is_sent_before_the_next_step(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def client(port: int, pipeline: SlowPipeline) -> None:
        connection = open_stream(port, max_tokens=8, min_tokens=8, temperature=0, messages=[MESSAGES[0]])
        pipeline.received.extend(line for line in connection.getresponse() if b'"content"' in line)
        connection.close()

    pipeline = serve_slowly(model_folder, monkeypatch, client)
    assert pipeline.received_before_step == [0, *range(2, 9)]  # the role comes with the first text


@pytest.mark.timing
def test_request_that_comes_in_during_a_step_joins_the_next(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def client(port: int, pipeline: SlowPipeline) -> None:
        second = open_stream(port, max_tokens=1)  # its connection is used again, as the data plane does
        second.getresponse().read()
        first = open_stream(port, max_tokens=12, ignore_eos=True)
        wait_for(lambda: len(pipeline.received_before_step), lambda steps: steps >= 4)
        before = len(pipeline.received_before_step)
        ask_stream(second, max_tokens=1)
        second.getresponse().read()
        first.getresponse().read()
        assert pipeline.admitted_before_step[2] - before <= 1
        first.close()
        second.close()

    serve_slowly(model_folder, monkeypatch, client)


def test_detokenizer_gives_the_text_of_the_whole(model_folder: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.decoders import ByteLevel

    whole = Tokenizer.from_file(str(model_folder / "tokenizer.json"))
    table = token_table(whole)
    chance = random.Random(0)
    ids = [chance.randrange(whole.get_vocab_size()) for _ in range(3000)] + whole.encode("naïve 日本語 🎉").ids
    detokenizer = StreamingDetokenizer(table)
    pieces = [detokenizer.add([token]) for token in ids] + [detokenizer.finish()]
    assert isinstance(whole.decoder, ByteLevel)
    assert "".join(pieces) == whole.decode(ids, skip_special_tokens=True)
    assert pieces.count("") > 10  # incomplete characters were held back


def token_table(tokenizer: Any) -> list[bytes]:
    """Bytes by token id, from the code points that stand for bytes in byte-level BPE."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    byte_of = {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}
    tokens = [tokenizer.id_to_token(token) for token in range(tokenizer.get_vocab_size())]
    return [b"" if position < 5 else bytes(byte_of[c] for c in token) for position, token in enumerate(tokens)]


def test_stop_texts_hold_back_a_beginning() -> None:
    stop_texts = StopTexts(("</s>", "END"))
    assert [stop_texts.add(text) for text in ("a<", "b</", "s>c")] == [("a", False), ("<b", False), ("", True)]
    stop_texts = StopTexts(("END",))
    assert stop_texts.add("the EN") == ("the ", False)
    assert stop_texts.finish() == "EN"


# The tiny model


def test_model_is_reproducible(model_folder: Path, tmp_path: Path) -> None:
    again = ensure_model("2m", tmp_path)
    assert again.name == model_folder.name
    names = sorted(path.name for path in again.iterdir())
    assert names == ["config.json", "model.gguf", "tokenizer.json", "tokenizer_config.json"]
    for name in names:
        assert (again / name).read_bytes() == (model_folder / name).read_bytes(), name
    made = (again / "model.gguf").stat().st_mtime_ns
    assert ensure_model("2m", tmp_path) == again
    assert (again / "model.gguf").stat().st_mtime_ns == made
    assert [path.name for path in tmp_path.iterdir()] == [again.name]


def test_unknown_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'7b' is not known; choose one of 2m, 16m, 30m, 110m$"):
        ensure_model("7b", tmp_path)
