"""Prompts: their lengths against an independent count, their sources, and what is said when they cannot be had."""

import gzip
import io
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto import mock_aws

from helpers import report
from helpers.config.benchmark import BenchmarkConfig
from helpers.config.workload import FileSource, PromptsConfig, PythonReferenceSource, ShareGPTSource
from helpers.errors import PromptError, RunFolderError
from helpers.prompts.cutting import cut_at_word
from helpers.prompts.making import make_prompts
from helpers.prompts.sources import read_records
from helpers.prompts.templates import load_template
from helpers.prompts.tokenizers import count_tokens, load_tokenizer, render_chat, token_ends
from helpers.run.prompt_files import (
    read_prompt_warnings,
    read_prompts,
    sample_prompts,
    summarise_prompts,
    write_prompts,
)

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[INST] {{ m['content'] }} [/INST]{% endfor %}"
    "{% if add_generation_prompt %}{{ ' Sure:' }}{% endif %}"
)
WORDS = [
    "the",
    "server",
    "answers",
    "every",
    "request",
    "with",
    "one",
    "token",
    "after",
    "another",
    "until",
    "the",
    "whole",
    "reply",
    "is",
    "done",
]


@pytest.fixture(scope="session")
def tokenizer_dir(tmp_path_factory):
    """A byte-level BPE with a chat template, which puts <s> before and </s> after bare text."""
    from pydoc_data.topics import topics

    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=1000, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator([topics["types"], topics["compound"]], trainer)
    bpe.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    folder = tmp_path_factory.mktemp("models") / "bpe"
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", model_max_length=128)
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model_cache_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("model_cache")


@pytest.fixture
def make_config(tokenizer_dir):
    """A config with the given bins (name -> bin); other keys by section."""

    def make(bins, count=20, source=None, template="question_about_passage", seed=1, **sections):
        prompts = {
            "source": source or {"kind": "python_reference"},
            "template": template,
            **sections.pop("prompts", {}),
        }
        data = {
            "name": "test",
            "seed": seed,
            "model": {
                "name": "m",
                "tokenizer": str(tokenizer_dir),
                "context_tokens": 4096,
                **sections.pop("model", {}),
            },
            "prompts": prompts,
            "datasets": [{"name": name, "prompt_tokens": bin_, "count": count} for name, bin_ in bins.items()],
            "generation": {"max_output_tokens": 24},
            "options": [{"name": "o", "target": "openai", "base_url": "http://localhost:1/v1", "served_model": "m"}],
            "load": {"kind": "closed_loop", "concurrency": [2], "min_requests": 1, "repeat_prompts": True},
            "slo": {"latency_s": 1},
            "traffic": {"requests_per_minute": 1},
        }
        return BenchmarkConfig.model_validate({**data, **sections})

    return make


@pytest.fixture
def make(make_config, model_cache_dir, tmp_path):
    """Makes prompts and returns dataset -> DataFrame; sources are relative to tmp_path."""

    def run(*args, **kwargs):
        prompts = make_prompts(make_config(*args, **kwargs), tmp_path, model_cache_dir)
        return {name: table.to_pandas() for name, table in prompts.tables.items()}

    return run


def independent_count(folder, rendered, special=False):
    """Tokens by the `tokenizers` library alone."""
    from tokenizers import Tokenizer

    bpe = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    return [len(bpe.encode(text, add_special_tokens=special).ids) for text in rendered]


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def passage(words, start=0):
    return " ".join(f"{WORDS[(start + i) % len(WORDS)]}{start if i == 0 else ''}" for i in range(words))


def longbench_rows(count, words=400):
    return [
        {
            "_id": f"id{i}",
            "input": f"Question {i}?",
            "context": passage(words, i),
            "answers": ["yes", "indeed"],
            "length": words,
            "all_classes": None,
        }
        for i in range(count)
    ]


# --- lengths ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_six_bins_of_the_python_reference_hold_200_prompts_each_with_beginnings_of_their_own(
    make_config, model_cache_dir, tmp_path
):
    bins = {
        f"en_{low}-{high}": (low, high)
        for low, high in [(1, 500), (500, 1000), (1000, 2000), (2000, 3000), (3000, 4000), (305, 3997)]
    }
    config = make_config(bins, count=200, model={"tokenizer": "synthetic:2m"})
    prompts = make_prompts(config, tmp_path, model_cache_dir)
    assert prompts.warnings == []
    folder = next(model_cache_dir.iterdir())
    beginnings = []
    for name, (low, high) in bins.items():
        frame = prompts.tables[name].to_pandas()
        counts = independent_count(folder, frame["rendered"])
        assert frame["prompt_tokens"].tolist() == counts
        assert len(frame) == frame["text"].nunique() == frame["prompt_id"].nunique() == 200
        assert low <= min(counts) and max(counts) < high
        assert frame["rendered"].str.startswith("<bos><user>").all()
        lowest = max(low, 60)  # below, the question alone fills the prompt
        quartiles = (np.percentile(counts, [25, 50, 75]) - lowest) / (high - lowest)
        assert quartiles == pytest.approx([0.25, 0.5, 0.75], abs=0.12), "lengths are uniform over the bin"
        beginnings += frame["text"].str[:60].tolist()
    assert len(set(beginnings)) >= 0.99 * len(beginnings)


def test_bins_include_from_and_exclude_to(make):
    found = make({"one": (300, 301), "two": (300, 302)}, count=10)
    assert set(found["one"]["prompt_tokens"]) == {300}
    assert set(found["two"]["prompt_tokens"]) == {300, 301}


def test_bare_text_is_counted_with_the_special_tokens_that_the_tokenizer_adds(make, tokenizer_dir):
    frame = make({"d": (200, 300)}, prompts={"chat_template": "none"})["d"]
    assert (frame["rendered"] == frame["text"]).all()
    bare = independent_count(tokenizer_dir, frame["rendered"])
    assert frame["prompt_tokens"].tolist() == [n + 2 for n in bare]
    assert frame["prompt_tokens"].tolist() == independent_count(tokenizer_dir, frame["rendered"], special=True)


def test_a_raw_text_api_gets_special_tokens_once(make, tokenizer_dir):
    frame = make({"d": (200, 300)})["d"]
    assert frame["rendered"][0] == f"[INST] {frame['text'][0]} [/INST] Sure:", "the server adds <s> itself"
    assert frame["prompt_tokens"].tolist() == [1 + n for n in independent_count(tokenizer_dir, frame["rendered"])]


def test_prompts_leave_room_for_the_output_and_the_warning_says_what_is_not_made(
    make_config, model_cache_dir, tmp_path
):
    config = make_config({"d": (200, 400)}, model={"context_tokens": 300})
    prompts = make_prompts(config, tmp_path, model_cache_dir)
    longest = max(prompts.tables["d"]["prompt_tokens"].to_pylist())
    assert 250 < longest <= 300 - 24
    assert len(prompts.warnings) == 1
    assert "no prompts of 277 to 399 tokens" in prompts.warnings[0] and "context_tokens 300" in prompts.warnings[0]
    exact = make_config({"d": (200, 277)}, model={"context_tokens": 300})
    assert make_prompts(exact, tmp_path, model_cache_dir).warnings == []


def test_passages_end_with_a_whole_word(make):
    records = read_records(PythonReferenceSource(kind="python_reference"), Path())
    passages = [record.columns["context"] for record in records]
    for text in make({"d": (150, 400)}, count=60)["d"]["text"]:
        cut = text.partition("\n\nFrom the passage above")[0]
        assert any(whole.startswith(cut) and whole[len(cut)].isspace() for whole in passages)


@pytest.mark.parametrize(
    ("text", "end", "expected"),
    [
        ("one two three", 6, "one"),
        ("one two three", 7, "one two"),
        ("one two three", 8, "one two"),
        ("one two three", 99, "one two three"),
        ("one", 2, ""),
        ("ab\ncd", 4, "ab"),
        ("語" * 200, 100, "語" * 100),
    ],
)
def test_cut_at_word(text, end, expected):
    assert cut_at_word(text, end) == expected


def test_text_without_spaces_and_text_of_long_tokens_fill_a_bin(make, tmp_path, tokenizer_dir):
    vocabulary = load_tokenizer(str(tokenizer_dir), Path()).get_vocab()
    long_words = [token[1:] for token in vocabulary if 8 <= len(token) <= 10 and re.fullmatch("Ġ[a-z]+", token)]
    assert len(long_words) > 5
    rows = [{"context": f"{i}" + "語言模型服務" * 200, "input": "?"} for i in range(10)]
    rows += [{"context": f"{i} " + " ".join(long_words * 200), "input": "?"} for i in range(10)]
    write_jsonl(tmp_path / "odd.jsonl", rows)
    frame = make({"d": (500, 510)}, source={"kind": "jsonl", "path": "odd.jsonl", "cut": "context"})["d"]
    assert len(frame) == 20 and frame["prompt_tokens"].between(500, 509).all()


def test_token_ends_lie_at_the_end_of_each_token(tokenizer_dir):
    tokenizer = load_tokenizer(str(tokenizer_dir), Path())
    (ends,) = token_ends(tokenizer, ["def function(argument): pass"])
    assert ends[-1] == 28 and ends == sorted(ends)
    assert len(ends) == count_tokens(tokenizer, ["def function(argument): pass"], add_special_tokens=False)[0]


# --- the seed -----------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes_and_another_one_other_prompts(make_config, model_cache_dir, tmp_path):
    def written(seed):
        config = make_config({"a": (100, 300), "b": (300, 500)}, seed=seed)
        paths = write_prompts(make_prompts(config, tmp_path, model_cache_dir).tables, tmp_path / f"{seed}")
        return [path.read_bytes() for path in paths], set(read_prompts(tmp_path / f"{seed}", "a")["prompt_id"])

    bytes_1, ids_1 = written(1)
    assert written(1) == (bytes_1, ids_1)
    bytes_2, ids_2 = written(2)
    assert bytes_2 != bytes_1 and len(ids_1 & ids_2) < 5


def test_a_dataset_added_at_the_end_changes_no_other(make):
    alone = make({"a": (100, 300)})["a"]
    assert alone.equals(make({"a": (100, 300), "b": (200, 500)})["a"])


# --- too few ------------------------------------------------------------------------------------------------------


def test_a_bin_that_cannot_be_filled_says_how_many_where_and_what_to_change(make, tmp_path):
    write_jsonl(tmp_path / "short.jsonl", longbench_rows(5, words=20))
    with pytest.raises(PromptError) as error:
        make({"long ones": (1000, 2000)}, source={"kind": "longbench", "path": "short.jsonl", "cut": "context"})
    message = str(error.value)
    for part in (
        "'long ones': 0 prompts of 1000 to 1999 tokens",
        "20 are asked",
        "2 needed",
        "short.jsonl",
        "5 records",
        "question_about_passage",
        "Next: change the dataset's prompt_tokens",
    ):
        assert part in message
    longest = int(re.search(r"prompts of \d+ to (\d+) tokens\.", message)[1])
    assert 20 < longest < 200


def test_a_bin_below_what_the_template_takes_cannot_be_filled(make):
    with pytest.raises(PromptError, match=r"0 prompts of 1 to 4 tokens .* which gave prompts of \d\d"):
        make({"d": (1, 5)})


def test_fewer_than_the_concurrency_is_an_error_and_fewer_than_asked_a_warning(make_config, model_cache_dir, tmp_path):
    write_jsonl(tmp_path / "five.jsonl", longbench_rows(5))
    source = {"kind": "jsonl", "path": "five.jsonl", "cut": "context"}
    config = make_config({"d": (100, 200)}, source=source)
    prompts = make_prompts(config, tmp_path, model_cache_dir)
    assert prompts.tables["d"].num_rows == 5
    assert len(prompts.warnings) == 1 and "5 prompts of 100 to 199 tokens found of the 20 asked" in prompts.warnings[0]
    again = {"min_requests": 1, "repeat_prompts": True}
    for load in (
        {"kind": "closed_loop", "concurrency": [1, 6]},
        {"kind": "search", "over": "concurrency", "highest": 6},
    ):
        with pytest.raises(PromptError, match=r"6 needed \(the highest concurrency of the load\)"):
            make_prompts(make_config({"d": (100, 200)}, source=source, load=load | again), tmp_path, model_cache_dir)


def test_an_open_loop_needs_no_more_than_one_prompt(make_config, model_cache_dir, tmp_path):
    write_jsonl(tmp_path / "one.jsonl", longbench_rows(1))
    source = {"kind": "jsonl", "path": "one.jsonl", "cut": "context"}
    for load in ({"kind": "open_loop", "rate": [50]}, {"kind": "search", "over": "rate", "highest": 50}):
        load |= {"min_requests": 1, "repeat_prompts": True}
        prompts = make_prompts(make_config({"d": (100, 200)}, source=source, load=load), tmp_path, model_cache_dir)
        assert prompts.tables["d"].num_rows == 1
        with pytest.raises(PromptError, match=r"are asked and 1 needed\. Searched"):
            make_prompts(make_config({"d": (3000, 3200)}, source=source, load=load), tmp_path, model_cache_dir)


def test_no_prompt_comes_twice(make, tmp_path):
    write_jsonl(tmp_path / "twice.jsonl", longbench_rows(4, words=50) * 3)
    for cut in (None, "context"):
        frame = make({"d": (40, 2000)}, source={"kind": "jsonl", "path": "twice.jsonl", "cut": cut})["d"]
        assert frame["text"].nunique() == len(frame)
        assert cut or len(frame) == 4


def test_datasets_share_no_beginning_while_the_source_has_others(make, tmp_path):
    write_jsonl(tmp_path / "b.jsonl", longbench_rows(40))
    found = make({"a": (100, 200), "b": (100, 200)}, source={"kind": "jsonl", "path": "b.jsonl", "cut": "context"})
    assert not set(found["a"]["record_id"]) & set(found["b"]["record_id"])


# --- sources ------------------------------------------------------------------------------------------------------


def test_longbench_answers_and_ids_are_kept(make, tmp_path):
    write_jsonl(tmp_path / "lb.jsonl", longbench_rows(25))
    frame = make({"d": (100, 200)}, source={"kind": "longbench", "path": "lb.jsonl", "cut": "context"})["d"]
    assert set(frame["answer"]) == {"yes\nindeed"}
    assert set(frame["record_id"]) <= {f"id{i}" for i in range(25)}
    assert frame["text"].str.contains(r"Question \d+\?").all()


def test_jsonl_with_columns_of_ones_own_keeps_natural_lengths(make, tmp_path, tokenizer_dir):
    rows = [{"ticket": passage(10 + i, i), "tone": 3, "reply": f"r{i}" if i % 2 else None} for i in range(100)]
    write_jsonl(tmp_path / "own.jsonl", rows)
    (tmp_path / "t.txt").write_text("Tone {tone}. {{json}} {ticket}\n")
    source = {"kind": "jsonl", "path": "own.jsonl", "answer": "reply"}
    frame = make({"d": (100, 150)}, source=source, template="t.txt")["d"]
    texts = {f"Tone 3. {{json}} {row['ticket']}" for row in rows}
    assert set(frame["text"]) <= texts
    rendered = [f"<s>[INST] {text} [/INST] Sure:" for text in texts]
    inside = sum(100 <= n < 150 for n in independent_count(tokenizer_dir, rendered))
    assert len(frame) == min(20, inside) > 5
    assert frame["answer"].isna().any() and frame["answer"].notna().any()


def test_max_records_is_honoured_and_lines_after_it_are_not_read(tmp_path):
    path = write_jsonl(tmp_path / "m.jsonl", longbench_rows(3))
    path.write_text(path.read_text() + "not json\n")
    source = FileSource(kind="jsonl", path="m.jsonl", max_records=3)
    assert [record.record_id for record in read_records(source, tmp_path)] == ["id0", "id1", "id2"]


def test_a_bad_line_is_named(tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"a": "1"}\n\n{"a": \n')
    with pytest.raises(PromptError, match=r"bad\.jsonl:3: not valid JSON"):
        list(read_records(FileSource(kind="jsonl", path="bad.jsonl"), tmp_path))
    (tmp_path / "list.jsonl").write_text('{"a": "1"}\n[1]\n')
    with pytest.raises(PromptError, match=r"list\.jsonl:2: \[1\], expected a JSON object"):
        list(read_records(FileSource(kind="jsonl", path="list.jsonl"), tmp_path))


def test_packed_files_and_half_surrogates_are_read(tmp_path):
    plain = write_jsonl(tmp_path / "p.jsonl", [{"_id": "x", "text": "half \ud83d pair"}]).read_bytes()
    (tmp_path / "p.jsonl.gz").write_bytes(gzip.compress(plain))
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.writestr("data/p.jsonl", plain)
    for path in ("p.jsonl", "p.jsonl.gz", "data.zip/data/p.jsonl"):
        (record,) = read_records(FileSource(kind="jsonl", path=path), tmp_path)
        assert (record.record_id, record.columns["text"]) == ("x", "half ? pair")
    (tmp_path / "broken.jsonl.gz").write_bytes(gzip.compress(plain)[:20])
    for path, words in [
        ("broken.jsonl.gz", "cannot be unpacked"),
        ("data.zip/no.jsonl", "no such member"),
        ("none.jsonl", "No such file"),
    ]:
        with pytest.raises(PromptError, match=words):
            list(read_records(FileSource(kind="jsonl", path=path), tmp_path))


def test_s3_objects_are_read(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    with mock_aws():
        s3 = boto3.client("s3", region_name="us-east-1")
        s3.create_bucket(Bucket="prompts")
        s3.put_object(Bucket="prompts", Key="a/b.jsonl.gz", Body=gzip.compress(b'{"text": "one"}\n{"text": "two"}\n'))
        source = FileSource(kind="jsonl", path="s3://prompts/a/b.jsonl.gz")
        records = list(read_records(source, tmp_path))
        assert [(r.record_id, r.columns["text"]) for r in records] == [("b.jsonl.gz:1", "one"), ("b.jsonl.gz:2", "two")]
        with pytest.raises(PromptError, match=r"s3://prompts/none\.jsonl: cannot be read: .*404"):
            list(read_records(FileSource(kind="jsonl", path="s3://prompts/none.jsonl"), tmp_path))


SHAREGPT = [
    {
        "id": "a",
        "conversations": [
            {"from": "system", "value": "s"},
            {"from": "human", "value": "Hi, \n{you}"},
            {"from": "gpt", "value": "Hello"},
            {"from": "human", "value": "again"},
        ],
    },
    {"id": "b", "conversations": [{"from": "gpt", "value": "only me"}]},
    {"id": "c", "conversations": [{"from": "user", "value": "no reply"}]},
]


@pytest.mark.parametrize(
    "dump", [json.dumps, lambda rows: json.dumps(rows, indent=2), lambda rows: "\n".join(map(json.dumps, rows))]
)
@pytest.mark.parametrize("chunk", [7, 1 << 20])
def test_sharegpt_gives_the_first_human_turn_and_the_reply(tmp_path, monkeypatch, dump, chunk):
    monkeypatch.setattr("helpers.prompts.source_files.JSON_CHUNK_CHARACTERS", chunk)
    (tmp_path / "s.json").write_text(dump(SHAREGPT))
    records = list(read_records(ShareGPTSource(kind="sharegpt", path="s.json"), tmp_path))
    expected = [("a", {"text": "Hi, \n{you}"}, "Hello"), ("b", {"text": ""}, None), ("c", {"text": "no reply"}, None)]
    assert [(r.record_id, r.columns, r.answer) for r in records] == expected


def test_faults_in_a_sharegpt_list_are_named_with_their_line(tmp_path):
    source = ShareGPTSource(kind="sharegpt", path="s.json")
    good = json.dumps(SHAREGPT[0])
    for content, words in [
        (f"[\n{good},\n{{'id': 1}}, {' ' * 40}]", "s.json:3: not valid JSON"),
        (f"[\n{good},\n", "ends inside the list"),
        (
            f'[\n{good},\n{{"foo": []}}]',
            r"s.json:3: no conversation; the keys are foo\. Expected turns.*Next: write",
        ),
        (f"[\n{good}]\n{good}", "s.json:3: not valid JSON: more follows after the end of the list"),
    ]:
        (tmp_path / "s.json").write_text(content)
        with pytest.raises(PromptError, match=words):
            list(read_records(source, tmp_path))


TURNS = [
    {"role": "system", "content": "s"},
    {"role": "user", "content": "Why?"},
    {"role": "assistant", "content": "So."},
]
PARTS = [
    {"role": "user", "content": [{"type": "text", "text": "Why?"}, {"type": "image_url", "image_url": {"url": "x"}}]}
]
SHAPES = {
    "text": ({"text": "Why?"}, None),
    "vLLM custom": ({"prompt": "Why?"}, None),
    "Alpaca": ({"instruction": "Why?", "input": "", "output": "So."}, None),
    "GSM8K": ({"question": "Why?", "answer": "So."}, None),
    "OpenOrca": ({"id": "x", "system_prompt": "s", "question": "Why?", "response": "So."}, None),
    "TGI": ({"inputs": "Why?", "parameters": {"max_new_tokens": 3}}, None),
    "genai-perf": ({"text_input": "Why?"}, None),
    "ShareGPT": ({"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]}, "So."),
    "ShareGPT with role and content": ({"conversations": TURNS}, "So."),
    "ShareGPT of 2023": ({"items": [{"from": "human", "value": "Why?"}]}, None),
    "a speaker that is no text": (
        {"conversations": [{"from": ["x"], "value": "no"}, {"from": "human", "value": "Why?"}]},
        None,
    ),
    "LMSYS-Chat, WildChat": ({"conversation_id": "1", "conversation": TURNS}, "So."),
    "OpenAI messages": ({"messages": TURNS}, "So."),
    "messages in parts": ({"messages": PARTS}, None),
    "UltraChat 200k": ({"prompt": "Why?", "prompt_id": "1", "messages": TURNS}, "So."),
    "UltraChat": ({"id": "0", "data": ["Why?", "So."]}, "So."),
    "MT-Bench": ({"question_id": 81, "category": "c", "turns": ["Why?", "And?"]}, None),
    "preferences": ({"prompt": TURNS[:2], "chosen": TURNS[2:]}, None),
    "OpenAI batch": ({"custom_id": "1", "method": "POST", "body": {"model": "m", "messages": TURNS}}, "So."),
    "Bedrock batch": ({"recordId": "1", "modelInput": {"messages": PARTS}}, None),
    "Gemini": ({"contents": [{"role": "user", "parts": [{"text": "Why?"}]}]}, None),
    "datasets-server": ({"row_idx": 0, "row": {"question": "Why?"}}, None),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_asked_is_found_whatever_the_keys_of_a_dataset(tmp_path, shape):
    value, reply = SHAPES[shape]
    write_jsonl(tmp_path / "d.jsonl", [value])
    (record,) = read_records(FileSource(kind="file", path="d.jsonl"), tmp_path)
    assert (record.columns["text"], record.answer) == ("Why?", reply)
    assert bool(record.text_from) == (shape != "text")


def test_what_a_question_is_about_follows_it(tmp_path):
    rows = [
        {"instruction": "Sum up.", "context": "A passage.", "response": "r"},
        {"instruction": "Add.", "input": "1, 2"},
    ]
    write_jsonl(tmp_path / "d.jsonl", rows)
    first, second = read_records(FileSource(kind="file", path="d.jsonl"), tmp_path)
    assert (first.columns["text"], first.text_from) == ("Sum up.\n\nA passage.", ("instruction", "context"))
    assert (second.columns["text"], second.columns["input"]) == ("Add.\n\n1, 2", "1, 2")


ROWS = [{"prompt": "Why, and\nhow?", "n": "1"}, {"prompt": 'Ö "x"', "n": "2"}]


def as_csv(delimiter, encoding="utf-8"):
    lines = [delimiter.join(["prompt", "n"])]
    lines += [delimiter.join('"' + row[key].replace('"', '""') + '"' for key in row) for row in ROWS]
    return "\r\n".join(lines).encode(encoding)


def as_parquet():
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), sink)
    return sink.getvalue()


FILES = {
    "lines.jsonl": "\n".join(map(json.dumps, ROWS)).encode(),
    "byte-order-mark.jsonl": "\r\n".join(map(json.dumps, ROWS)).encode("utf-8-sig"),
    "utf-16.jsonl": "\n".join(map(json.dumps, ROWS)).encode("utf-16"),
    "list.json": json.dumps(ROWS).encode(),
    "pretty-list.JSON": json.dumps(ROWS, indent=2).encode("utf-8-sig"),
    "pretty-objects.jsonl": "\n".join(json.dumps(row, indent=2) for row in ROWS).encode(),
    "in-data.json": json.dumps({"version": 1, "data": ROWS}, indent=1).encode(),
    "in-rows.json": json.dumps(
        {"features": [], "rows": [{"row_idx": i, "row": row} for i, row in enumerate(ROWS)]}
    ).encode(),
    "of-texts.json": json.dumps([row["prompt"] for row in ROWS]).encode(),
    "commas.csv": as_csv(","),
    "excel.CSV": as_csv(";", "utf-8-sig"),
    "tabs.tsv": as_csv("\t"),
    "tabs-by-excel.csv": as_csv("\t", "utf-16"),
    "packed.csv.gz": gzip.compress(as_csv(",")),
    "table.parquet": as_parquet(),
    "no-ending": as_parquet(),
}


@pytest.mark.parametrize("name", FILES)
def test_the_formats_that_people_have_are_read(tmp_path, name):
    (tmp_path / name).write_bytes(FILES[name])
    records = list(read_records(FileSource(kind="file", path=name), tmp_path))
    assert [record.columns["text"] for record in records] == [row["prompt"] for row in ROWS]


def test_a_text_file_has_a_prompt_on_each_line(tmp_path):
    (tmp_path / "p.txt").write_bytes("One?\r\nTwö?\n".encode("utf-8-sig"))
    assert [r.columns["text"] for r in read_records(FileSource(kind="file", path="p.txt"), tmp_path)] == [
        "One?",
        "Twö?",
    ]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("l.csv", "prompt\nWéll\n".encode("latin-1"), r"l\.csv: not UTF-8 text: .*b'\\xe9'.*Next: save it as UTF-8"),
        ("q.csv", b'prompt,n\n"open,1\n', r"q\.csv:2: not valid CSV: .*Next: correct the quotes"),
        (
            "f.csv",
            b"prompt,n\na,1\nWell, b,1\n",
            r"f\.csv:3: 3 fields, expected the 2 of the header\. Next: put fields",
        ),
        ("x.xlsx", b"PK\x03\x04\xff\xfe", r"x\.xlsx: not UTF-8 text.*Expected JSON lines.*Next:"),
        ("p.parquet", b"PAR1 and nothing", r"p\.parquet: not a Parquet file that can be read: .*Next: fetch"),
        ("n.jsonl", b'{"text": ' + b"[" * 100_000, r"n\.jsonl:1: not valid JSON: .*Next: correct"),
        ("d.jsonl", b'{"n": ' + b"1" * 5000 + b"}", r"d\.jsonl:1: not valid JSON: .*Next: correct"),
    ],
)
def test_files_that_cannot_be_read_are_named_with_place_and_next_step(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PromptError, match=words):
        list(read_records(FileSource(kind="file", path=name), tmp_path))


def test_what_is_skipped_is_counted_and_said_where_prompts_are_shown(make_config, model_cache_dir, tmp_path):
    rows = [{"prompt": ""}, {"prompt": None}, {"prompt": " \n"}, *({"prompt": passage(9, i)} for i in range(3))]
    write_jsonl(tmp_path / "d.jsonl", [*rows, rows[-1], {"prompt": passage(300)}])
    source = {"kind": "file", "path": "d.jsonl"}
    prompts = make_prompts(make_config({"d": (10, 60)}, 3, source, template="user_turn"), tmp_path, model_cache_dir)
    said = [
        "Left out of the 8 records of file d.jsonl: 3 without words to send (the first: d.jsonl:1), 1 repeated, 1 shorter or "
        "longer than every dataset asks.",
        "The records have no column `text`: it was made from `prompt`.",
    ]
    assert prompts.notes == said and prompts.tables["d"].num_rows == 3
    write_prompts(prompts.tables, tmp_path / "payloads")
    assert all(note in report.prompts_table(tmp_path / "payloads").plain() for note in said)
    write_jsonl(tmp_path / "d.jsonl", rows[:3])
    with pytest.raises(
        PromptError, match=r"3 records .*: 3 without words .*Next: give a source whose records hold words"
    ):
        make_prompts(make_config({"d": (10, 60)}, 3, source, template="user_turn"), tmp_path, model_cache_dir)


def test_the_template_follows_the_source_unless_it_is_named(make_config):
    for source, template in [
        ({"kind": "sharegpt", "path": "x"}, "user_turn"),
        ({"kind": "file", "path": "x"}, "user_turn"),
        ({"kind": "file", "path": "x", "cut": "context"}, "question_about_passage"),
        ({"kind": "longbench", "path": "x"}, "question_about_passage"),
        ({"kind": "python_reference"}, "question_about_passage"),
    ]:
        assert PromptsConfig.model_validate({"source": source}).template == template


def test_fewer_prompts_than_a_verdict_takes_are_refused_with_the_numbers_of_all_datasets(
    make_config, model_cache_dir, tmp_path
):
    write_jsonl(tmp_path / "d.jsonl", [{"text": passage(9 + i % 4, i)} for i in range(40)])
    load = {"kind": "closed_loop", "concurrency": [2], "min_requests": 10, "warmup_requests": 1}
    sections = {"slo": {"latency_s": 1, "error_rate": 0.1}, "load": load}
    bins, source = {"a": (5, 100), "b": (500, 900)}, {"kind": "file", "path": "d.jsonl"}
    with pytest.raises(PromptError) as error:
        make_prompts(make_config(bins, 100, source, "user_turn", **sections), tmp_path, model_cache_dir)
    first, second = str(error.value).split("\n")
    assert "'a': 40 prompts of 5 to 99 tokens found; 100 are asked and 65 needed: a load point sends that many" in first
    assert "set load.repeat_prompts: true, or ask less of `slo`" in first
    assert "'b': 0 prompts of 500 to 899 tokens found" in second and "2 needed (the highest concurrency" in second
    load["repeat_prompts"] = True
    made = make_prompts(make_config({"a": (5, 100)}, 100, source, "user_turn", **sections), tmp_path, model_cache_dir)
    assert made.tables["a"].num_rows == 40


def test_sharegpt_prompts_have_natural_lengths(make, tmp_path):
    rows = [{"id": str(i), "conversations": [{"from": "human", "value": passage(5 + i, i)}]} for i in range(60)]
    (tmp_path / "s.json").write_text(json.dumps(rows))
    frame = make({"d": (80, 120)}, source={"kind": "sharegpt", "path": "s.json"}, template="user_turn")["d"]
    assert set(frame["text"]) <= {row["conversations"][0]["value"] for row in rows}
    assert frame["prompt_tokens"].between(80, 119).all() and len(frame) > 5


def test_python_reference_is_prose_that_carries_on(tmp_path):
    records = list(read_records(PythonReferenceSource(kind="python_reference"), tmp_path, passage_characters=9000))
    assert len(records) >= 1200
    contexts = [record.columns["context"] for record in records]
    assert len({text[:100] for text in contexts}) > 0.99 * len(contexts)
    assert min(map(len, contexts)) >= 9000 and max(map(len, contexts)) < 20_000
    assert not any("::=" in text or ">>>" in text or "\n***" in text for text in contexts)
    assert len({record.columns["input"] for record in records[:5]}) == 5
    assert all(record.answer is None for record in records)
    assert records == list(read_records(PythonReferenceSource(kind="python_reference"), tmp_path, 9000))


# --- templates and tokenizers -------------------------------------------------------------------------------------


def test_braces_in_a_passage_are_safe(make, tmp_path):
    rows = [{"context": f"x{i} = {{'a': {{}}}} {{input}} {{0}} " + passage(300, i), "input": "{q}"} for i in range(20)]
    write_jsonl(tmp_path / "braces.jsonl", rows)
    frame = make({"d": (100, 200)}, source={"kind": "jsonl", "path": "braces.jsonl", "cut": "context"})["d"]
    assert frame["text"].str.contains("= {'a': {}} {input} {0} the", regex=False).any()
    assert frame["text"].str.endswith(": {q}").all()


def test_a_column_that_the_source_lacks_is_named_with_those_it_has(make, tmp_path):
    write_jsonl(tmp_path / "own.jsonl", [{"ticket": "a", "tone": "b"}])
    with pytest.raises(PromptError) as error:
        make({"d": (10, 20)}, source={"kind": "jsonl", "path": "own.jsonl"})
    for part in ("question_about_passage.txt", "{context}", "own.jsonl:1", "ticket, tone"):
        assert part in str(error.value)
    with pytest.raises(PromptError, match="'ticket' is not in the template"):
        make({"d": (10, 20)}, source={"kind": "jsonl", "path": "own.jsonl", "cut": "ticket"})
    with pytest.raises(PromptError, match=r"own.jsonl:1: no column 'reply'"):
        make({"d": (10, 20)}, source={"kind": "jsonl", "path": "own.jsonl", "answer": "reply"})


def test_faults_of_templates_are_named(tmp_path):
    (tmp_path / "open.txt").write_text("{context")
    (tmp_path / "odd.txt").write_text("{context:>10}")
    for name, words in [
        ("open.txt", "not a prompt template"),
        ("odd.txt", "column name and nothing else"),
        ("nowhere", "llama2_chat_question, question_about_passage, user_turn"),
    ]:
        with pytest.raises(PromptError, match=words):
            load_template(name, tmp_path)


@pytest.mark.parametrize("name", ["question_about_passage", "user_turn", "llama2_chat_question"])
def test_templates_that_come_with_the_project_have_their_columns(name, tmp_path):
    columns = load_template(name, tmp_path).columns
    assert columns == (["text"] if name == "user_turn" else ["context", "input"])


def test_faults_of_tokenizers_are_named(tmp_path, tokenizer_dir, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for name, words in [
        ("./none", "no such folder"),
        ("synthetic:7t", "choose one of"),
        ("nobody/no-such-model", "nor in the local cache"),
    ]:
        with pytest.raises(PromptError, match=words):
            load_tokenizer(name, tmp_path)
    tokenizer = load_tokenizer("bpe", tmp_path, base_dir=tokenizer_dir.parent)
    assert render_chat(tokenizer, "hi", "model") == "<s>[INST] hi [/INST] Sure:"
    tokenizer.chat_template = None
    with pytest.raises(PromptError, match="no chat template"):
        render_chat(tokenizer, "hi", "model")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{% for m in messages %}", "Unexpected end of template"),
        ("{{ messages[0].content.no.such }}", "has no attribute"),
        ({"tool_use": "a", "rag": "b"}, "multiple chat templates"),
    ],
)
def test_a_chat_template_that_does_not_render_is_named(tmp_path, tokenizer_dir, template, words):
    tokenizer = load_tokenizer("bpe", tmp_path, base_dir=tokenizer_dir.parent)
    tokenizer.chat_template = template
    with pytest.raises(PromptError, match=f"cannot render one user message: .*{words}.*Next: "):
        render_chat(tokenizer, "hi", "model")


def test_code_of_a_tokenizer_is_refused_and_never_asked_for_nor_run(tmp_path, tokenizer_dir):
    folder, ran = tmp_path / "coded", tmp_path / "ran"
    shutil.copytree(tokenizer_dir, folder)
    (folder / "evil.py").write_text(f"open({str(ran)!r}, 'w')\nclass EvilTokenizer: pass\n")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"tokenizer_class": "EvilTokenizer", "auto_map": {"AutoTokenizer": ["evil.EvilTokenizer", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    load = "from helpers.prompts.tokenizers import load_tokenizer; from pathlib import Path; "
    load += f"load_tokenizer({str(folder)!r}, Path({str(tmp_path)!r}))"
    done = subprocess.run([sys.executable, "-c", load], input="y\n", capture_output=True, text=True, timeout=120)
    assert "PromptError" in done.stderr and "which is never run" in done.stderr, done.stderr
    assert "y/N" not in done.stdout + done.stderr
    assert not ran.exists()


def test_options_with_their_own_tokenizer_get_their_own_counts(make, make_config, model_cache_dir, tokenizer_dir):
    server = {"target": "openai", "base_url": "http://localhost:1/v1", "served_model": "m"}
    chat = {"name": "chat", "tokenizer": "synthetic:2m", **server}
    frame = make({"d": (200, 300)}, options=[chat, {"name": "same", **server}])["d"]
    folder = next(model_cache_dir.iterdir())
    in_its_template = [f"<bos><user>{text}<eos><assistant>" for text in frame["text"]]
    assert frame["tokens:synthetic:2m"].tolist() == independent_count(folder, in_its_template)
    raw = make({"d": (200, 300)}, options=[chat | {"api": "openai_completions"}])["d"]
    assert raw["tokens:synthetic:2m"].tolist() == independent_count(folder, raw["rendered"])
    assert raw["prompt_tokens"].tolist() == frame["prompt_tokens"].tolist()


# --- files --------------------------------------------------------------------------------------------------------


def test_files_say_how_they_were_made(make_config, model_cache_dir, tmp_path, tokenizer_dir):
    config = make_config({"z first": (100, 200), "a": (200, 300)}, count=10, model={"context_tokens": 310})
    write_prompts(make_prompts(config, tmp_path, model_cache_dir).tables, tmp_path / "payloads")
    assert sorted(path.name for path in (tmp_path / "payloads").iterdir()) == ["a.parquet", "z-first.parquet"]
    about = json.loads(pq.read_schema(tmp_path / "payloads" / "a.parquet").metadata[b"serving_verdict"])
    assert (about["schema_version"], about["bin"], about["asked"], about["found"], about["seed"]) == (
        1,
        [200, 300],
        10,
        10,
        1,
    )
    assert about["tokenizer"] == str(tokenizer_dir) and about["source"]["kind"] == "python_reference"
    assert about["special_tokens"]["added_by"] == "chat template" and len(about["template"]["sha256"]) == 64
    assert read_prompt_warnings(tmp_path / "payloads") == about["warnings"] != []
    summary = summarise_prompts(tmp_path / "payloads")
    assert summary["dataset"].tolist() == ["z first", "a"]
    assert summary["made"].tolist() == [10, 10] and not summary["has_answers"].any()
    frame = read_prompts(tmp_path / "payloads", "a")
    assert summary["max_prompt_tokens"][1] == frame["prompt_tokens"].max()
    sample = sample_prompts(tmp_path / "payloads", rows=5, seed=3)
    assert sample["dataset"].tolist() == ["z first"] * 3 + ["a"] * 2
    assert sample["beginning"].str.len().max() == 160
    assert set(sample["beginning"][3:]) <= set(frame["text"].str[:160])
    with pytest.raises(RunFolderError, match="01_generate_data"):
        read_prompts(tmp_path / "payloads", "b")
