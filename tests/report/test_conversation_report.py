"""The tables of conversations, from records whose latencies are planted."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from examples import facts, make_config, request, write_run
from sentence_numbers import Known, unaccounted

from helpers.metrics.parts import read_parts
from helpers.report.conversation_report import bins_reading, conversation_tables
from helpers.report.pacing_report import pacing_table
from helpers.run.folder import RunFolder

CONVERSATIONS = {"source": {"kind": "jsonl", "path": "c.jsonl"}, "conversations": {"think_time_s": 1}}
TURNS = 3


def config_of(conversations: bool = True):
    prompts = {"prompts": CONVERSATIONS} if conversations else {}
    return make_config(load={"concurrency": [2, 4]}, slo={"percentile": 90}, **prompts)


@pytest.fixture
def run(tmp_path):
    """At 2 users turn t of session s takes 0.1 t + 0.001 s to its first token; session 3 fails, 5 is too long, 7 is cut off."""
    rows = []
    for level in (2.0, 4.0):
        for session in range(20):
            for turn in range(1, TURNS + 1):
                if turn > {5: 1, 7: 2}.get(session, 3):
                    continue
                ttft = (0.1 * turn + 0.001 * session) * level / 2
                fails = session == 3 and turn == 2
                row = request(10 * session + turn, None if fails else ttft + 0.5, ttft)
                rows.append(
                    row
                    | {
                        "level": level,
                        "session_id": f"s-{session}",
                        "turn": turn,
                        "prompt_tokens": 100 * turn + session,
                    }
                    | {"prompt_id": f"short-{session:02}-turn{turn}"}
                )
                if fails:
                    break
    windows = [facts(level=level, load_kind="users", context_ends=1) for level in (2.0, 4.0)]
    write_run(tmp_path / "requests", rows, windows)
    (tmp_path / "payloads").mkdir()
    ids, turns = [f"short-{s:02}" for s in range(20)], [[100, 200, 300]] * 20
    pq.write_table(pa.table({"prompt_id": ids, "turns:prompt_tokens": turns}), tmp_path / "payloads" / "short.parquet")
    return RunFolder(tmp_path), pd.DataFrame(rows), windows


def test_latency_by_turn_and_by_context_is_that_of_the_lowest_load(run):
    folder, _, _ = run
    _, by_turn, by_context, _ = conversation_tables(folder, config_of())
    assert by_turn.rows["turn"].tolist() == ["1", "2", "3"]
    assert set(by_turn.rows["load"]) == {"2 users"}
    assert by_turn.rows["n"].tolist() == [20, 19, 17]
    assert by_turn.rows.loc[0, "ttft_s_p50"] == pytest.approx(0.1 + 0.0095)
    assert by_turn.rows.loc[1, "ttft_s_high"] > by_turn.rows.loc[1, "ttft_s_p50"], "a failure counts as infinitely slow"
    assert by_context.rows["n"].sum() == 56 and len(by_context.rows) == 4
    assert by_context.rows["context"].iloc[0].startswith("100 to ")
    assert by_context.rows["context"].iloc[-1].endswith(" to 319")


def test_sessions_are_counted_by_how_they_ended_and_the_sentences_hold(run):
    folder, rows, windows = run
    _, by_turn, _, sessions = conversation_tables(folder, config_of())
    one = {"begun": 20, "completed": 17, "failed": 1, "too_long": 1, "unfinished": 1}
    assert [{name: row[name] for name in one} for row in sessions.rows.to_dict("records")] == [one, one]
    ends = [name for name, count in one.items() if name != "begun" for _ in range(2 * count)]
    answered = rows[(rows["level"] == 2) & (rows["status"] == "ok")]
    answered = answered.assign(ttft_s=(answered["first_token_ns"] - answered["sent_ns"]) / 1e9)
    all_at_two = rows[rows["level"] == 2].merge(answered[["session_id", "turn", "ttft_s"]], how="left")
    all_at_two["load"] = "2 users"
    all_at_two["ttft_s"] = all_at_two["ttft_s"].fillna(float("inf"))
    verdict = {
        "model": "m",
        "nearest_reason": "",
        "warnings": [],
        "options": [
            {"option": "a", "to_settle": None}
            | dict.fromkeys(("instance_type", "reason", "may_be_cheaper_because"), "")
        ],
    }
    config = {"datasets": ["short"], "slo": {}, "traffic": {}}
    known = Known(verdict, pd.DataFrame(), {}, config, facts=windows, of_turns=all_at_two, sessions=ends)
    for sentence in (by_turn.reading, sessions.reading, pacing_table(windows, points()).summary):
        assert sentence and not unaccounted(sentence, known), sentence
    assert "think time" in pacing_table(windows, points()).summary


BINS = [{"name": "early", "prompt_tokens": [1, 200]}, {"name": "late", "prompt_tokens": [200, 500]}]


def known_of(parts: pd.DataFrame) -> Known:
    verdict = {"model": "m", "nearest_reason": "", "warnings": [], "options": []}
    return Known(verdict, pd.DataFrame(), {}, {"datasets": ["short"], "slo": {"percentile": 90}}, of_parts=parts)


def test_bins_of_the_config_take_the_place_of_quarters_and_their_sentence_holds(tmp_path):
    """Two turns of each of 40 sessions are early and one is late, which is slower and fails once; at 4 users nearly always."""
    rows = []
    for level, sessions in ((2.0, 40), (4.0, 40)):
        for i in range(3 * sessions):
            late = i % 3 == 2
            took = None if late and (i < 3 or (level == 4 and i >= 15)) else (0.4 if late else 0.1) * level / 2
            row = request(
                i * 0.1, took, took and took / 2, level=level, part="late" if late else "early", turn=1 + i % 3
            )
            rows.append(row | {"session_id": f"s-{i // 3}", "prompt_id": f"short-{i // 3:02}-turn{1 + i % 3}"})
    windows = [facts(level=level, load_kind="users", close_s=12.0) for level in (2.0, 4.0)]
    write_run(tmp_path / "requests", rows, windows)
    (tmp_path / "payloads").mkdir()
    prompts = pa.table(
        {"prompt_id": [f"short-{s:02}" for s in range(40)], "turns:prompt_tokens": [[100, 150, 300]] * 40}
    )
    pq.write_table(prompts, tmp_path / "payloads" / "short.parquet")
    config = make_config(
        datasets=[{"bins": BINS}], load={"concurrency": [2, 4]}, slo={"percentile": 90}, prompts=CONVERSATIONS
    )
    _, _, bins, _ = conversation_tables(RunFolder(tmp_path), config)
    assert bins.rows["part"].tolist() == ["early", "late"] * 2 and bins.rows["n"].tolist() == [80, 40] * 2
    assert bins.rows["tokens"].tolist() == ["1 to 199", "200 to 499"] * 2
    assert bins.rows["latency_s_p90"].tolist() == pytest.approx([0.1, 0.4, 0.2, float("inf")])
    assert bins.rows["share"].tolist() == pytest.approx([200 / 3, 100 / 3] * 2)
    parts = read_parts(tmp_path / "requests", windows, config)
    for shown, word in ((parts, "infinite in late (n = 40)"), (parts[parts["level"] == 2], "400 ms in late (n = 40)")):
        sentence = bins_reading(shown, config)
        assert word in sentence and not unaccounted(sentence, known_of(shown)), sentence
        with pytest.raises(AssertionError):
            unaccounted(sentence.replace("n = 80", "n = 81"), known_of(shown))


def points() -> pd.DataFrame:
    rows = [{"option": "a", "dataset": "short", "load": f"{n} users", "achieved_concurrency": 0.5} for n in (2, 4)]
    return pd.DataFrame(rows)


def test_without_conversations_there_is_nothing(run):
    folder, _, _ = run
    assert conversation_tables(folder, config_of(conversations=False)) == []
