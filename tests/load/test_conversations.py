"""Sessions of conversations: real load processes against a server that logs what came when."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from attempt_specs import measure, moody_stub, server_log, spec_of
from examples import make_config
from stub_server import said_after

from helpers.config.load import ClosedLoop, OpenLoop
from helpers.config.load_level import LoadLevel
from helpers.config.workload import Bin, Conversations
from helpers.endpoints.attempt_spec import attempt_spec, single_request_specs
from helpers.load.address import Address
from helpers.load.load_processes import LoadProcesses
from helpers.load.messages import AttemptSpec, SessionSpec
from helpers.load.schedule import draw_arrivals
from helpers.load.sessions import think_times_ns
from helpers.run.folder import RunFolder
from helpers.run.prompt_files import METADATA_KEY
from helpers.run.records import Attempt

pytestmark = pytest.mark.slow

TURNS = 4
LATE_NS = 500e6
THINK_S = 0.1


@pytest.fixture(scope="module")
def stub():
    with moody_stub() as url:
        yield url


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    with LoadProcesses(tmp_path_factory.mktemp("load") / "load.log", processes=2) as processes:
        yield processes


def words_of(session: int, turn: int) -> str:
    """Every fifth session fails at its second turn; every seventh becomes too long for the context there."""
    special = {2: " FAIL" if session % 5 == 3 else " LONG" if session % 7 == 6 else ""}
    return f'Session {session}, turn {turn}: “why” "é\\n"?{special.get(turn, "")}'


def write_conversations(path, sessions: int) -> None:
    said = [
        {
            "system": "Be brief." if session % 2 else "",
            "turns": [[words_of(session, turn), f"Recorded {session}.{turn} ü"] for turn in range(1, TURNS + 1)],
        }
        for session in range(sessions)
    ]
    tokens = [[20 * turn for turn in range(1, TURNS + 1)]] * sessions
    columns = {
        "prompt_id": [f"p{session}" for session in range(sessions)],
        "text": [each["turns"][0][0] for each in said],
        "rendered": [each["turns"][0][0] for each in said],
        "prompt_tokens": [20 * TURNS] * sessions,
        "conversation": [json.dumps(each, ensure_ascii=False) for each in said],
        "turns:prompt_tokens": tokens,
    }
    pq.write_table(pa.table(columns), path)


def sessions_spec(folder, url, history="answered", think_time_s=THINK_S, sessions=120, **load):
    spec = spec_of(folder, url, "converse", prompts=sessions, **load)
    write_conversations(spec.prompts_file, sessions)
    conversations = Conversations(think_time_s=think_time_s, history=history)
    bins = [Bin(name="early", prompt_tokens=(1, 31)), Bin(name="late", prompt_tokens=(31, 60))]
    spec.sessions = SessionSpec(conversations=conversations, context_tokens=1000, mean_turns=3.2, bins=bins)
    return spec


def closed(users: int, **settings) -> dict:
    load = ClosedLoop(
        **{"concurrency": [users], "min_requests": 60, "warmup_requests": 1, "max_duration_s": 20, **settings}
    )
    return {"load": load, "level": LoadLevel("users", users)}


def opened(rate: float, **settings) -> dict:
    load = OpenLoop(kind="open_loop", rate=[rate], min_requests=2000, **settings)
    return {"load": load, "level": LoadLevel("sessions", rate)}


def conversation_of(row) -> int:
    return int(row.prompt_id.split("-")[0][1:])


def check_sessions(requests, log, spec) -> None:
    """Turns in order, one at a time, each as long after the last answer as was drawn; a session that failed has ended."""
    late = []
    for name, mine in requests.sort_values("sent_ns").groupby("session_id"):
        rows = list(mine.itertuples())
        assert [row.turn for row in rows] == list(range(1, len(rows) + 1))
        assert all(row.status == "ok" for row in rows[:-1])
        assert len({conversation_of(row) for row in rows}) == 1
        think_ns = think_times_ns(spec, int(name.rpartition("-")[2]), TURNS)
        for before, after, think in zip(rows, rows[1:], think_ns, strict=False):
            ended_ns = log[before.request_id]["writes_ns"][-1]
            assert log[after.request_id]["received_ns"] >= ended_ns + think, "not before the user has thought"
            late.append(after.sent_ns - before.done_ns - think)
    assert len(late) > 20
    assert 0 <= np.median(late) < LATE_NS
    assert min(late) >= 0


def history_of(row, log, history: str) -> list[dict]:
    """What the messages of a request should be."""
    session = conversation_of(row)
    messages = [{"role": "system", "content": "Be brief."}] if session % 2 else []
    for turn in range(1, row.turn):
        messages.append({"role": "user", "content": words_of(session, turn)})
        answered = "".join(said_after(len(messages)))
        content = answered if history == "answered" else f"Recorded {session}.{turn} ü"
        messages.append({"role": "assistant", "content": content})
    return [*messages, {"role": "user", "content": words_of(session, row.turn)}]


def test_users_send_their_turns_in_order_after_thinking_with_the_history_that_was_answered(stub, processes, tmp_path):
    spec = sessions_spec(tmp_path, stub, **closed(4))
    requests, facts = measure(processes, spec)
    log = server_log(stub)
    check_sessions(requests, log, spec)
    for row in requests.itertuples():
        body = log[row.request_id]["body"]
        assert body["messages"] == history_of(row, log, "answered")
        assert log[row.request_id]["raw"] == json.dumps(body, ensure_ascii=False), (
            "byte for byte as single turns are sent"
        )
    planned = 20 * requests["turn"]
    counted = requests["prompt_tokens"].fillna(planned)
    assert (requests["part"] == np.where(counted < 31, "early", "late")).all() and requests["part"].nunique() == 2
    assert requests["prompt_tokens"].isna().any() and (counted != planned).any(), "failures are in a bin by the plan"
    assert requests["scheduled_ns"].isna().all()
    ended = requests.sort_values("turn").groupby("session_id").last()
    failed = ended[ended["status"] != "ok"]
    assert len(failed) and all("FAIL" in words_of(conversation_of(row), row.turn) for row in failed.itertuples())
    assert facts.context_ends
    too_long = [row for row in ended.itertuples() if "LONG" in words_of(conversation_of(row), row.turn)]
    assert len(too_long) - 4 <= facts.context_ends <= len(too_long), "but those that the end of the load cut off"
    assert facts.load.label == "4 users" and facts.window_s
    assert facts.turnaround_ms["p50"] < 1000 * THINK_S, "to think is no fault of the client"


def test_sessions_arrive_by_the_schedule_with_the_history_that_was_recorded(stub, processes, tmp_path):
    think = {"mean": 0.03}
    spec = sessions_spec(
        tmp_path, stub, "recorded", think, **opened(25, arrivals="poisson", max_duration_s=3, repeat_prompts=True)
    )
    spec = AttemptSpec.model_validate_json(spec.model_dump_json())
    requests, facts = measure(processes, spec)
    log = server_log(stub)
    check_sessions(requests, log, spec)
    assert all(log[r.request_id]["body"]["messages"] == history_of(r, log, "recorded") for r in requests.itertuples())
    first = requests[requests["turn"] == 1].sort_values("scheduled_ns")
    assert first["scheduled_ns"].notna().all() and requests.loc[requests["turn"] > 1, "scheduled_ns"].isna().all()
    gaps = np.diff(first["scheduled_ns"].to_numpy("int64"))
    assert facts.scheduled.requests <= len(first)
    words = [spec.seed, *spec.dataset.encode(), spec.repetition, *spec.level.slug.encode()]
    seed = int(np.random.SeedSequence(words).generate_state(1, "uint64")[0])
    drawn = np.diff(draw_arrivals(spec.load, spec.level, seed, tmp_path))
    assert (gaps == drawn[: len(gaps)]).all()
    assert np.median(first["sent_ns"] - first["scheduled_ns"]) < LATE_NS
    assert facts.load.label == "25 sessions/s"


def test_without_think_time_the_clients_own_time_is_in_no_latency(stub, processes, tmp_path):
    requests, facts = measure(
        processes, sessions_spec(tmp_path, stub, think_time_s=0, **closed(1, prefix_cache_salt=True))
    )
    log = server_log(stub)
    assert (requests["t0_ns"] == requests["sent_ns"]).all()
    assert facts.turnaround_ms is not None and facts.turnaround_ms["p50"] > 0
    first = {
        r.session_id: log[r.request_id]["body"]["messages"][0]["content"] for r in requests.itertuples() if r.turn == 1
    }
    assert len(set(first.values())) == len(first)
    for row in requests.itertuples():
        assert log[row.request_id]["body"]["messages"][0]["content"] == first[row.session_id], "one salt for a session"
        assert first[row.session_id].endswith(history_of(row, log, "answered")[0]["content"])


def test_exponential_think_times_have_their_mean_and_differ_from_session_to_session(tmp_path):
    (tmp_path / "requests").mkdir()
    spec = sessions_spec(tmp_path, "http://127.0.0.1:9/v1", think_time_s={"mean": 2.0}, **closed(2))
    drawn = np.array([think_times_ns(spec, session, 10) for session in range(500)]) / 1e9
    assert abs(drawn.mean() - 2) < 0.1 and abs(drawn.std() - 2) < 0.15
    assert len(np.unique(drawn)) == drawn.size
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1]) < 0.15
    assert think_times_ns(spec, 3, 10)[:4] == think_times_ns(spec, 3, 4), "the same however many turns there are"


def test_single_requests_are_turns_without_thinking_and_attempts_know_how_long_sessions_are(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"config_dir": str(tmp_path)}))
    prompts = {"source": {"kind": "jsonl", "path": "c.jsonl"}, "conversations": {"think_time_s": {"mean": 5}}}
    bins = [{"name": "early", "prompt_tokens": [1, 31]}, {"name": "late", "prompt_tokens": [31, 500]}]
    config = make_config(datasets=[{"bins": bins}], prompts=prompts, load={"concurrency": [3]})
    run, (option,) = RunFolder(tmp_path), config.options
    run.folder("payloads")
    write_conversations(run.payloads / "short.parquet", 4)
    table = pq.read_table(run.payloads / "short.parquet")
    metadata = {METADATA_KEY: json.dumps({"turns_mean": 4.0})}
    pq.write_table(table.replace_schema_metadata(metadata), run.payloads / "short.parquet")
    address = Address(url="http://127.0.0.1:9/v1", api="openai_chat", framing="plain", request_id_header="X")
    (single,) = single_request_specs(option, address, config, run)
    spec = attempt_spec(option, Attempt("a", "short", config.load.levels()[0], 1), address, config, run)
    assert single.sessions.conversations.mean_think_s == 0 and spec.sessions.conversations.mean_think_s == 5
    assert [each.model_dump(mode="json") for each in spec.sessions.bins] == bins
    assert spec.sessions.mean_turns == 4 and spec.sessions.context_tokens == 4096
    assert AttemptSpec.model_validate_json(spec.model_dump_json()).sessions == spec.sessions
    assert spec.attempt.id == "a__short__u3__r1"
