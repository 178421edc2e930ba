"""Traces with lengths and texts: each format from lines written here, the texts that are made, and what is said of the rest."""

import base64
import json
import subprocess
import sys

import pytest
from examples import make_config

from helpers.config.load import TraceReplay
from helpers.endpoints.preflight import check_files
from helpers.errors import ConfigError
from helpers.prompts.making import make_prompts
from helpers.prompts.tokenizers import load_tokenizer
from helpers.prompts.trace_requests import read_trace_requests
from helpers.prompts.traces import read_trace
from helpers.run.prompt_files import read_prompts, write_prompts
from helpers.series.verify import verify_prompts
from local_sagemaker.tiny_model import default_cache_dir

ASKED_WHERE_UNKNOWN = 24  # generation.max_output_tokens of `examples`


def lines(*records):
    return "".join(json.dumps(record) + "\n" for record in records)


def captured(at, request, response=None, encoding="JSON"):
    """A line of SageMaker Data Capture."""

    def part(body):
        data = json.dumps(body)
        return {
            "data": base64.b64encode(data.encode()).decode() if encoding == "BASE64" else data,
            "encoding": encoding,
        }

    capture = {"endpointInput": part(request)} | ({} if response is None else {"endpointOutput": part(response)})
    return {"captureData": capture, "eventMetadata": {"inferenceTime": at}, "eventVersion": "0"}


CHAT = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who wrote Emma?"}]}
FORMATS = {
    "azure_2023.csv": (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9305900,96,109\n",
        "Azure LLM inference trace",
        [(0, 374, 44, None), (4.25, 96, 109, None)],
    ),
    "azure_2024.csv": (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.5+00:00,40,9\n2024-05-10 00:00:01+00:00,41,8\n",
        "Azure LLM inference trace",
        [(0, 40, 9, None), (0.5, 41, 8, None)],
    ),
    "burst.csv": (
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,Conversation log\n"
        "45,GPT-4,87,0,87,API log\n118,GPT-4,61,6,67,API log\n",
        "BurstGPT",
        [(0, 472, 18, None), (113, 61, 6, None)],
    ),
    "mooncake.jsonl": (
        lines(*({"timestamp": t, "input_length": 600, "output_length": 5, "hash_ids": [0, 7 + t]} for t in (0, 3000))),
        "Mooncake",
        [(0, 600, 5, None), (3, 600, 5, None)],
    ),
    "bailian.jsonl": (
        lines(
            *(
                {"chat_id": 1, "parent_chat_id": -1, "timestamp": t, "input_length": 40, "output_length": 5}
                | {"type": "text", "turn": 1, "hash_ids": [1, 2, 3]}
                for t in (61.5, 62.75)
            )
        ),
        "Qwen Bailian",
        [(0, 40, 5, None), (1.25, 40, 5, None)],
    ),
    "aiperf.jsonl": (
        lines(
            {"timestamp": 1000, "text_input": "Who wrote Emma?", "output_length": 4},
            {"timestamp": 1500, "input_length": 50, "output_length": 6},
        ),
        "AIPerf",
        [(0, None, 4, "Who wrote Emma?"), (0.5, 50, 6, None)],
    ),
    "vllm.json": (
        json.dumps(
            {
                "start_times": [9.5, 10.0, 9.75],
                "input_lens": [30, 31, 32],
                "output_lens": [4, 5, 6],
                "errors": ["", "", ""],
            }
        ),
        "a result of vllm bench serve",
        [(0, 30, 4, None), (0.25, 32, 6, None), (0.5, 31, 5, None)],
    ),
    "capture.jsonl": (
        lines(
            captured("2026-01-02T03:04:05Z", CHAT, {"usage": {"completion_tokens": 3}}),
            captured("2026-01-02T03:04:05Z", {"prompt": "Say ten."}, {"choices": [{"text": "ten"}]}, "BASE64"),
            captured(
                "2026-01-02T03:04:07Z", {"inputs": "One?"}, [{"generated_text": "", "details": {"generated_tokens": 7}}]
            ),
            captured("2026-01-02T03:04:09Z", {"inputs": "Two?", "parameters": {}}),
        ),
        "SageMaker Data Capture",
        [
            (0, None, 3, "Be brief.\n\nWho wrote Emma?"),
            (0, None, "tokens of 'ten'", "Say ten."),
            (2, None, 7, "One?"),
            (4, None, ASKED_WHERE_UNKNOWN, "Two?"),
        ],
    ),
    "own.csv": (
        "at_s,input_tokens,output_tokens,text\n0.5,50,,\n0.25,,7,What now?\n",
        "own columns",
        [(0, None, 7, "What now?"), (0.25, 50, ASKED_WHERE_UNKNOWN, None)],
    ),
}


def config_of(path, bin_=(1, 100_000), context=100_000, source=None, **load):
    return make_config(
        model={"name": "m", "tokenizer": "synthetic:2m", "context_tokens": context},
        datasets=[{"name": "trace", "prompt_tokens": list(bin_)}],
        prompts={"source": source or {"kind": "python_reference"}},
        load={"kind": "trace", "path": path, **({"timestamp": "at_s"} if path == "own.csv" else {}), **load},
    )


@pytest.fixture(scope="module")
def tokens_of():
    tokenizer = load_tokenizer("synthetic:2m", default_cache_dir()).backend_tokenizer
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def made(config, base_dir):
    return make_prompts(config, base_dir)


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_gives_times_lengths_and_texts(tmp_path, tokens_of, name):
    content, known_as, expected = FORMATS[name]
    (tmp_path / name).write_text(content)
    config = config_of(name)
    (said,) = check_files(config, tmp_path)
    assert f"format: {known_as};" in said
    prompts = made(config, tmp_path)
    rows = prompts.tables["trace"].to_pylist()
    assert len(rows) == len(expected)
    for row, (at_s, tokens, output, text) in zip(rows, expected, strict=True):
        assert row["arrival_ns"] == pytest.approx(at_s * 1e9, abs=1000)
        if text is None:
            assert abs(row["prompt_tokens"] - tokens) <= 1
        else:
            assert row["text"] == text
        assert row["prompt_tokens"] == len(tokens_of(row["rendered"])), "counted independently"
        assert row["asked_output_tokens"] == (len(tokens_of("ten")) if isinstance(output, str) else output)
    notes = " ".join(prompts.notes)
    made_texts = [text is None for *_, text in expected]
    assert ("It holds no texts of prompts: they are made" in notes) == all(made_texts)
    assert ("Where it holds no text of a prompt, it is made" in notes) == (any(made_texts) and not all(made_texts))
    assert ("texts of prompts are its own" in notes) == (not any(made_texts))
    assert ("generation.max_output_tokens are requested" in notes) == (name in ("capture.jsonl", "own.csv"))
    assert ("several messages are sent as one" in notes) == (name == "capture.jsonl")
    assert ("whole seconds" in notes) == (name in ("capture.jsonl", "burst.csv")), (
        "two requests, or fractions, show nothing"
    )
    run = tmp_path / "run"
    write_prompts(prompts.tables, run / "payloads")
    assert "fit the context" in str(verify_prompts(config, type("Run", (), {"payloads": run / "payloads"})))


def test_made_texts_have_the_lengths_and_the_shared_beginnings_of_the_trace(tmp_path, tokens_of):
    """Two requests have as many leading blocks of text in common as leading ids, and no more."""
    ids = [[1, 2, 3], [1, 2, 4], [1, 5, 6, 7], [8], [1, 2, 3], [1, 2], [9, 10]]
    lengths = [1500, 1200, 1900, 100, 1500, 1024, 1900]
    records = [
        {"timestamp": 100 * i, "input_length": length, "output_length": 5, "hash_ids": one}
        for i, (one, length) in enumerate(zip(ids, lengths, strict=True))
    ]
    (tmp_path / "t.jsonl").write_text(lines(*records))
    rows = made(config_of("t.jsonl", unit="ms"), tmp_path).tables["trace"].to_pylist()
    assert [row["prompt_tokens"] for row in rows] == pytest.approx(lengths, abs=1)
    encoded = [tokens_of(row["rendered"]) for row in rows]
    for i, one in enumerate(encoded):
        for j, other in enumerate(encoded[:i]):
            shared = common(ids[i], ids[j])
            found = common(one, other)
            if ids[i] == ids[j]:
                assert rows[i]["text"] == rows[j]["text"]
            elif shared:
                assert 512 * shared - 2 <= found <= 512 * shared + 2, (i, j)
            else:
                assert found < 12, "the chat template, and a word that both happen to begin with"


def common(one, other):
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def test_a_short_source_still_gives_texts_that_begin_differently(tmp_path, tokens_of):
    """Four words for nine requests: once all have begun a text, a number goes before them."""
    (tmp_path / "words.txt").write_text("alpha beta gamma delta\n")
    (tmp_path / "t.csv").write_text(
        "timestamp_s,input_tokens,output_tokens\n" + "".join(f"{i},60,4\n" for i in range(9))
    )
    config = config_of("t.csv", source={"kind": "file", "path": "words.txt"})
    rows = made(config, tmp_path).tables["trace"].to_pylist()
    assert [row["prompt_tokens"] for row in rows] == pytest.approx([60] * 9, abs=1)
    assert len({row["text"][:8] for row in rows}) == 9


def test_what_is_left_out_is_counted_and_said(tmp_path):
    rows = ["1,100,0", "2,100,5", "3,99999,9", "4,1,5", "5,700,5", "6,800,300"]
    (tmp_path / "t.csv").write_text("timestamp_s,input_tokens,output_tokens\n" + "\n".join(rows) + "\n")
    prompts = made(config_of("t.csv", bin_=(2, 600), context=1000), tmp_path)
    assert prompts.tables["trace"].num_rows == 1
    left_out, too_few = prompts.warnings
    for part in (
        "Of the 6 requests of the trace 5 are not replayed",
        "1 without output",
        "2 longer than model.context_tokens 1000",
        "1 of no more tokens than the chat template alone",
        "1 outside the dataset's prompt_tokens [2, 600)",
        "Next: ",
    ):
        assert part in left_out
    assert "The trace gives 1 request, and the SLO can be shown only by" in too_few


def test_a_part_of_a_trace_is_replayed(tmp_path):
    (tmp_path / "t.csv").write_text(
        "timestamp_s,input_tokens,output_tokens\n" + "".join(f"{100 + i // 2},{50 + i},4\n" for i in range(20))
    )
    for load, expected in (
        ({"window": [2, 4]}, [54, 55, 56, 57]),
        ({"window": [2, 9], "max_requests": 3}, [54, 55, 56]),
        ({"max_requests": 2}, [50, 51]),
        ({"max_duration_s": 2, "speed": [0.5, 2.0]}, [50, 51, 52, 53, 54, 55, 56, 57, 58, 59]),
    ):
        config = config_of("t.csv", **load)
        requests = read_trace_requests(config.load, tmp_path, read_trace(config.load, tmp_path))
        assert [request.input_tokens for request in requests] == expected
        assert requests[0].seconds == 0
    assert "4 requests of the 20 in the file in 1 s" in check_files(config_of("t.csv", window=[2, 4]), tmp_path)[0]
    with pytest.raises(ConfigError, match=r"load\.window.*\[99, 100\].*Expected a part of \[0, 9\].*Next: "):
        check_files(config_of("t.csv", window=[99, 100]), tmp_path)
    with pytest.raises(Exception, match=r"\[4, 2\] is empty: expected \[from, to\)"):
        config_of("t.csv", window=[4, 2])


def test_times_alone_are_replayed_where_the_config_says_so_or_there_is_no_more(tmp_path):
    (tmp_path / "azure.csv").write_text(FORMATS["azure_2023.csv"][0])
    (tmp_path / "times.csv").write_text("timestamp_s\n1\n2\n")
    config = config_of("azure.csv", lengths="prompts", repeat_prompts=True)
    assert "its lengths are not replayed (load.lengths)" in check_files(config, tmp_path)[0]
    table = made(config_of("times.csv", bin_=(200, 400), repeat_prompts=True), tmp_path).tables["trace"]
    assert "arrival_ns" not in table.column_names
    with pytest.raises(
        ConfigError, match=r"load\.lengths: bad value 'trace'.*timestamp_s.*input_tokens.*Next: write `lengths: "
    ):
        check_files(config_of("times.csv", lengths="trace"), tmp_path)


HEAD = "timestamp_s,input_tokens,output_tokens\n"
FAULTS = {
    "a negative length": ("t.csv", HEAD + "1,5,5\n2,-3,5\n", r"record 2 \(t.csv:3\).*bad value '-3' in 'input_tokens'"),
    "half a token": ("t.csv", HEAD + "1,5,5\n2,5,2.5\n", r"record 2.*bad value '2.5' in 'output_tokens'"),
    "no number": ("t.csv", HEAD + "1,5,5\n2,many,5\n", r"record 2.*bad value 'many' in 'input_tokens'"),
    "no length": ("t.csv", HEAD + "1,5,5\n2,,5\n", "record 2.*neither the length nor the text of its prompt"),
    "more blocks than tokens": (
        "t.jsonl",
        lines(*({"timestamp": t, "input_length": 40, "output_length": 1, "hash_ids": [1, 2, 3]} for t in (0, 1))),
        "record 1.*3 blocks of 512 tokens for a prompt of 40.*Expected 1 or fewer.*Next: set load.block_tokens",
    ),
    "ids that are none": (
        "t.jsonl",
        lines(*({"timestamp": t, "input_length": 40, "output_length": 1, "hash_ids": {}} for t in (0, 1))),
        "record 1.*bad value.*'hash_ids'.*Expected a list",
    ),
    "what is no base64": (
        "t.jsonl",
        lines(
            captured("2026-01-02T03:04:05Z", CHAT),
            {
                "captureData": {"endpointInput": {"data": "%%%", "encoding": "BASE64"}},
                "eventMetadata": {"inferenceTime": "2026-01-02T03:04:06Z"},
            },
        ),
        r"record 2 \(t.jsonl:2\): endpointInput: bad value '%%%'.*Expected UTF-8 text in BASE64",
    ),
    "a body without a prompt": (
        "t.jsonl",
        lines(*(captured(f"2026-01-02T03:04:0{i}Z", {"instances": [1]}) for i in (1, 2))),
        "record 1.*endpointInput: bad value.*instances.*Expected a request with one prompt",
    ),
    "output alone": (
        "t.jsonl",
        lines(*({"captureData": {"endpointOutput": {}}, "eventMetadata": {"inferenceTime": "x"}} for _ in (1, 2))),
        r"t.jsonl:1: bad value.*Expected captureData.endpointInput and eventMetadata.inferenceTime.*CaptureOptions",
    ),
    "lists of unequal length": (
        "t.json",
        json.dumps({"start_times": [1.0, 2.0], "input_lens": [3], "output_lens": [3, 3]}),
        "bad value .* in 'input_lens'.*Expected a list with one item per request",
    ),
    "nothing that can be sent": (
        "t.csv",
        HEAD + "1,5,0\n2,5,0\n",
        "none of its 2 requests can be replayed.*2 without output",
    ),
    "more than memory holds": (
        "t.csv",
        HEAD + "1,99900,5\n" * 1002,
        "1,002 requests have 100,099,800 tokens.*Next: replay a part",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_a_trace_is_named(tmp_path, fault):
    name, content, words = FAULTS[fault]
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=f"load.path '{name}'.*{words}") as error:
        made(config_of(name), tmp_path)
    for part in ("Expected ", "Next: "):
        assert part in str(error.value)


def test_keys_that_do_not_go_with_lengths_are_refused(tmp_path):
    (tmp_path / "t.csv").write_text(HEAD + "1,50,5\n2,50,5\n")
    two = [{"name": name, "prompt_tokens": [1, 90]} for name in ("a", "b")]
    config = config_of("t.csv").model_copy(update={"datasets": make_config(datasets=two).datasets})
    with pytest.raises(ConfigError, match=r"datasets: 2 datasets.*'t.csv'.*Expected one.*Next: .*`lengths: prompts`"):
        made(config, tmp_path)
    with pytest.raises(ConfigError, match=r"load\.prefix_cache_salt: bad value true.*Expected false.*Next: "):
        made(config_of("t.csv", prefix_cache_salt=True), tmp_path)


def test_memory_does_not_grow_with_a_trace_of_which_a_part_is_replayed(tmp_path):
    """240,000 records, of which 100 are kept: times take 8 bytes each, a few times over."""
    lines_of = {"small.csv": 1_000, "large.csv": 240_000}
    for name, count in lines_of.items():
        with (tmp_path / name).open("w") as file:
            file.write(
                "timestamp_s,input_tokens,output_tokens\n"
                + "".join(f"{i / 10},{100 + i % 9},5\n" for i in range(count))
            )
    script = (
        "import resource\n"
        "from pathlib import Path\n"
        "from helpers.config.load import TraceReplay\n"
        "from helpers.prompts.trace_requests import read_trace_requests\nfrom helpers.prompts.traces import read_trace\n"
        f"for name in {list(lines_of)}:\n"
        "    load = TraceReplay(kind='trace', path=name, window=(20, 30))\n"
        f"    found = read_trace_requests(load, Path({str(tmp_path)!r}), read_trace(load, Path({str(tmp_path)!r})))\n"
        "    print(len(found), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    small, small_kib, large, large_kib = map(int, said)
    assert small == large == 100
    assert large_kib - small_kib < 20_000, "its records as objects would take over 100 MB"


def test_prompts_of_a_trace_are_read_back_in_its_order(tmp_path):
    (tmp_path / "t.csv").write_text(HEAD + "3,53,5\n1,51,6\n2,52,7\n")
    load = TraceReplay(kind="trace", path="t.csv")
    assert read_trace(load, tmp_path).brings_prompts
    write_prompts(made(config_of("t.csv"), tmp_path).tables, tmp_path / "payloads")
    prompts = read_prompts(tmp_path / "payloads", "trace")
    assert prompts["arrival_ns"].tolist() == [0, 10**9, 2 * 10**9]
    assert prompts["asked_output_tokens"].tolist() == [6, 7, 5]
