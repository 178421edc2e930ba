"""Counts of tokens held against the texts that they are of, and options whose tokens were not counted alike."""

from __future__ import annotations

import re

import pandas as pd
import pyarrow.parquet as pq
import pytest
from answer_shapes import DONE, data, event
from attempt_specs import measure, spec_of
from command_line import config_of, openai, run_main
from examples import endpoint, load_point, make_config, option, request, summarise_load_points, write_run
from examples import facts as facts_of_point
from raw_server import raw_server

from helpers.config.benchmark import BenchmarkConfig
from helpers.load.load_processes import LoadProcesses
from helpers.metrics.summary import no_load_points
from helpers.report.bottom_line_text import bottom_line
from helpers.run.records import LIST_COLUMNS, SCHEMA, read_facts, read_requests
from helpers.verdict.checks import check_run
from helpers.verdict.counted import check_counts
from helpers.verdict.judging import judge

SIX = ["The ", "answer ", "is ", "forty-two, ", "as ", "always."]


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    with LoadProcesses(tmp_path_factory.mktemp("load") / "load.log") as processes:
        yield processes


def six_pieces(**usage: object) -> bytes:
    """An answer of six pieces of text, and of a usage where one is given."""
    total = [{"choices": [], "usage": usage}] if usage else []
    body = data(*(event({"content": text}) for text in SIX), event({}, "length"), *total) + DONE
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def test_fewer_tokens_than_pieces_of_text_are_reported_before_the_load(tmp_path):
    answer = six_pieces(prompt_tokens=80, completion_tokens=1)
    with raw_server(lambda connection, number: connection.sendall(answer)) as server:
        option = openai("a", server.url.removesuffix("/chat/completions"))
        generation = {"max_output_tokens": 1, "fixed_output_length": False}
        _, said = run_main("plan", "--check", "--config", config_of(tmp_path, option, generation=generation))
    assert "the server counts 1 output tokens for 6 pieces of text: prices per token by its count are wrong" in said


# --- from a server to the warning -----------------------------------------------------------------------------------


def counted_by(
    processes: LoadProcesses, folder, answer: bytes, **closed_loop: object
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The records of a load on a server that gives this answer, and the load points of a run of it."""
    with raw_server(lambda connection, number: connection.sendall(answer)) as server:
        requests, facts = measure(processes, spec_of(folder, server.url, **closed_loop))
    (folder / "requests" / "point.parquet").rename(folder / "requests" / f"{facts.load_point}.parquet")
    config = make_config(["stub"], ["stream"])
    points = summarise_load_points(folder / "requests", read_facts(folder / "requests"), [endpoint("stub")], config)
    return requests, points


def test_one_token_for_six_pieces_of_text_is_a_warning_with_both_prices(processes, tmp_path):
    requests, points = counted_by(processes, tmp_path, six_pieces(prompt_tokens=11, completion_tokens=1))
    (by_tokenizer,) = set(requests["output_tokens_by_tokenizer"].dropna())
    assert by_tokenizer >= 6 and set(requests["output_tokens"]) == {1}
    (warning,) = check_counts(points)
    price = points["usd_per_1m_output_tokens"].min()
    assert warning.kind == "token_counts" and "output tokens contradicts the text" in warning.message
    (row,) = warning.rows
    assert row.startswith(
        f"stub: 1.0 output tokens per request by the server's count, {by_tokenizer:.1f} by the tokenizer's"
    )
    first, second = (float(usd.replace(",", "")) for usd in re.findall(r"\$([\d,.]+) ", row))
    assert (first, second) == pytest.approx((price, price / by_tokenizer), rel=0.01)


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 11, "completion_tokens": 10},
        {"prompt_tokens": 100, "completion_tokens": 12},
        {"prompt_tokens": 11, "completion_tokens": 600, "completion_tokens_details": {"reasoning_tokens": 588}},
        {},
    ],
    ids=["as the text", "with a system prompt", "with reasoning that it hides and tells", "without usage"],
)
def test_a_server_that_counts_as_servers_do_is_believed(processes, tmp_path, usage):
    requests, points = counted_by(processes, tmp_path, six_pieces(**usage))
    assert not list(check_counts(points))
    assert requests["output_tokens_by_tokenizer"].notna().any() == (usage.get("completion_tokens") in (10, 12))
    assert set(requests["output_tokens_source"]) == {"server" if usage else "tokenizer"}
    (file,) = (tmp_path / "requests").glob("*.parquet")
    for chunks, tokens in zip(pq.read_table(file)["chunk_tokens"].to_pylist(), requests["output_tokens"], strict=True):
        assert chunks is None if tokens == 600 else (len(chunks) == 6 and abs(sum(chunks) - tokens) <= 4)


def test_some_answers_are_counted_again_not_all(processes, tmp_path):
    requests, points = counted_by(
        processes,
        tmp_path,
        six_pieces(prompt_tokens=11, completion_tokens=9),
        min_requests=200,
        prompts=2000,
        concurrency=[4],
    )
    again = requests["output_tokens_by_tokenizer"].notna()
    assert 10 <= again.sum() <= 33 * max(1, len(requests) // 500 + 1) < len(requests)
    assert points["output_tokens_sampled"].sum() == again.sum()


# --- what is a contradiction ----------------------------------------------------------------------------------------


def sampled(name: str = "output", server: float = 0, tokenizer: float = 0, answers: int = 32, **point: object) -> dict:
    """A load point with a sample of answers of such mean counts."""
    sums = {f"{name}_tokens_sampled": answers}
    sums |= {f"{name}_tokens_sampled_server": server * answers, f"{name}_tokens_sampled_tokenizer": tokenizer * answers}
    return load_point(**point, **sums)


@pytest.mark.parametrize(
    ("name", "server", "tokenizer", "contradicts"),
    [
        ("output", 1, 6, True),
        ("output", 64, 32, True),
        ("output", 64, 128, True),
        ("output", 0, 64, True),
        ("output", 64, 77, False),
        ("output", 2, 6, False),
        ("output", 10, 6, False),
        ("prompt", 250, 500, True),
        ("prompt", 25, 50, True),
        ("prompt", 1000, 500, True),
        ("prompt", 160, 20, False),
        ("prompt", 700, 500, False),
    ],
)
def test_a_contradiction_is_more_than_special_tokens_templates_and_cut_words(name, server, tokenizer, contradicts):
    points = pd.DataFrame([sampled(name, server, tokenizer), sampled(name, server, tokenizer, level=4)])
    found = list(check_counts(points))
    assert bool(found) == contradicts
    if contradicts:
        assert len(found[0].rows) == 1 and "(64 answers compared)" in found[0].rows[0] and "Next: " in found[0].message
        per = "output" if name == "output" else "input"
        assert f"per 1M {per} tokens by the server's count, $" in found[0].rows[0]


def test_a_run_of_an_earlier_release_opens_and_is_not_warned_of(tmp_path):
    folder = write_run(tmp_path, [request(i, 0.5) for i in range(9)], [facts_of_point()])
    (path,) = folder.glob("*.parquet")
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["output_tokens_by_tokenizer", "prompt_tokens_by_tokenizer", "resent"]), path)
    assert set(SCHEMA.names) - set(LIST_COLUMNS) == set(read_requests(folder).columns)
    points = summarise_load_points(folder, read_facts(folder), [endpoint()], make_config())
    assert not list(check_counts(points))
    old = points[[name for name in points if "_sampled" not in name and not name.endswith("_source")]]
    assert not list(check_counts(old)) and judge(old, [endpoint()], [], make_config(), "r").may_be_cheaper == ["a"]


# --- options that were not counted alike ----------------------------------------------------------------------------

OWN = "synthetic:30m"


def verdict_of(*points: dict, config: BenchmarkConfig | None = None):
    """Hours cost 3.6 $ each: at 10 requests/s 0.1 $ per 1,000 requests."""
    table = pd.DataFrame(points)
    names = list(dict.fromkeys(table["option"]))
    return judge(table, [endpoint(name) for name in names], [], config or make_config(names), "run-1")


def test_the_winner_is_not_flipped_by_a_tokenizer_of_another_model():
    """b is slower and gives as long answers, but its tokenizer makes twice as many tokens of them."""
    config = make_config(["a", option("b", tokenizer=OWN)])
    by = {"output_tokens_source": "tokenizer"}
    points = [
        load_point("a", rate=10, output_tokens_mean=24.0, **by),
        load_point("b", rate=7, output_tokens_mean=48.0, **by),
    ]
    verdict = verdict_of(*points, config=config)
    assert (verdict.recommended, verdict.cost_basis, verdict.comparable) == ("a", "usd_per_1k_requests", False)
    assert verdict.counted_apart == [
        f"a: output tokens with the tokenizer {config.model.tokenizer}, prompt tokens by the server",
        f"b: output tokens with the tokenizer {OWN}, prompt tokens by the server",
    ]
    assert verdict.may_be_cheaper == ["b"]
    assert verdict.option("b").may_be_cheaper_because == (
        "tokens were not counted alike, and by the available counts it costs $2.98 per 1M output tokens, a $4.17"
    )
    alike = verdict.model_copy(update={"counted_apart": ["a: by the server", "b: unknown", "c: by the server"]})
    assert "**Tokens were not counted alike** (a, c: by the server; b: unknown)" in str(
        bottom_line(alike, config).markdown
    )
    said = str(bottom_line(verdict, config).markdown)
    assert "**Tokens were not counted alike** (a: output tokens with the tokenizer" in said and "Next: " in said
    assert "**May be cheaper than the recommended option:** “b”: tokens were not counted alike" in said
    assert "compared per 1,000 requests" in said and "unequal work" not in said


@pytest.mark.parametrize(("longer", "named"), [(False, []), (True, ["b"])])
def test_a_server_without_usage_is_held_against_the_others_by_the_tokenizer_that_both_have(longer, named):
    """The text of both makes 28 tokens; a's server counts the 24 that it made."""
    text = {"server": 24, "tokenizer": 28, "option": "a", "rate": 10, "output_tokens_mean": 24.0}
    tokens = 44.0 if longer else 28.0
    b = load_point("b", rate=7, output_tokens_mean=tokens, output_tokens_source="tokenizer")
    verdict = verdict_of(sampled(**text), b)
    assert (verdict.recommended, verdict.cost_basis) == ("a", "usd_per_1k_requests")
    assert verdict.may_be_cheaper == named
    assert verdict.counted_apart[0] == "a: by the server"


def test_a_server_that_counts_half_does_not_lose_by_it():
    """Both answer 24 tokens; the faster counts 12."""
    points = [
        sampled(server=24, tokenizer=26, option="a", rate=7, output_tokens_mean=24.0),
        sampled(server=12, tokenizer=26, option="b", rate=10, output_tokens_mean=12.0),
    ]
    verdict = verdict_of(*points)
    assert (verdict.recommended, verdict.may_be_cheaper) == ("b", ["a"]), "by the available counts a costs less"
    assert verdict.counted_apart == ["a: by the server", "b: by the server, which contradicts the texts"]


def test_a_server_that_counts_double_is_not_believed_to_do_equal_work():
    """Both say 24 tokens; the text of the cheaper has half of them."""
    points = [
        sampled(server=24, tokenizer=26, option="a", rate=10, output_tokens_mean=24.0),
        sampled(server=24, tokenizer=13, option="b", rate=13, output_tokens_mean=24.0),
    ]
    verdict = verdict_of(*points)
    assert (verdict.recommended, verdict.comparable, verdict.may_be_cheaper) == ("b", False, ["a"])
    assert (
        "by the tokenizer's count it costs $3.85 per 1M output tokens, b $5.92"
        in verdict.option("a").may_be_cheaper_because
    )


def test_where_the_texts_of_all_contradict_alike_the_tokenizer_is_wrong_and_the_servers_are_comparable():
    points = [
        sampled(server=24, tokenizer=52, option="a", rate=10, output_tokens_mean=24.0),
        sampled(server=24, tokenizer=50, option="b", rate=13, output_tokens_mean=24.0),
    ]
    verdict = verdict_of(*points)
    assert (verdict.recommended, verdict.comparable, verdict.counted_apart) == ("b", True, [])


@pytest.mark.parametrize(
    "b",
    [
        load_point("b", output_tokens_mean=12.0),
        load_point("b", output_tokens_mean=25.0, output_tokens_source="tokenizer"),
    ],
    ids=["lengths differ by the same counts", "lengths are equal by other counts"],
)
def test_what_was_counted_alike_or_comes_out_alike_is_judged_as_ever(b):
    verdict = verdict_of(load_point("a"), b)
    assert verdict.counted_apart == []
    assert (verdict.cost_basis == "usd_per_1k_requests") == verdict.comparable == (b["output_tokens_mean"] == 25.0)


def test_where_nothing_was_measured_nobody_counted():
    config = make_config(["a", "b"])
    verdict = judge(no_load_points(config), [endpoint("a"), endpoint("b")], [], config, "run-1")
    assert verdict.counted_apart == [] and not list(check_counts(no_load_points(config)))


def test_models_that_differ_are_compared_by_token_whoever_counted():
    config = make_config(["a", option("b", model="another", tokenizer=OWN)])
    points = [load_point("a"), load_point("b", output_tokens_mean=48.0, output_tokens_source="tokenizer")]
    verdict = verdict_of(*points, config=config)
    assert (verdict.cost_basis, verdict.counted_apart) == ("usd_per_1m_output_tokens", [])


def test_the_checks_claim_no_unequal_work_where_it_may_be_the_counting(tmp_path):
    config = make_config(["a", option("b", tokenizer=OWN)])
    by = {"output_tokens_source": "tokenizer"}
    points = pd.DataFrame([load_point("a", **by), load_point("b", output_tokens_mean=48.0, **by)])
    found = check_run(points, [], [], [endpoint("a"), endpoint("b")], [], config, pd.Timestamp("2026-03-01").date())
    (lengths,) = (warning for warning in found if warning.kind == "output_length")
    said = "but tokens were not counted alike, so it is not known whether requests are unequal work. Next: set the same tokenizer"
    assert said in lengths.message
