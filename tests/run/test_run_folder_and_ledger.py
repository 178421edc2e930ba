"""Run folders, the ledger of endpoints in them, and prices."""

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import psutil
import pyarrow as pa
import pytest
import yaml
from examples import config_data, endpoint, facts, make_config, option, request, token_price, write_run

from helpers.endpoints.deployments import start_deployments
from helpers.endpoints.pricing import price_of
from helpers.errors import AnalysisError, NoOptionLeft, NoSuchRun, RunFolderError
from helpers.price import Price
from helpers.run.folder import find_run, open_run, write_atomically
from helpers.run.ledger import Ledger, merge_ledgers
from helpers.run.prompt_files import read_prompts, write_prompts
from helpers.run.records import read_facts

SAGEMAKER = {
    "name": "paid",
    "target": "sagemaker",
    "api": "openai_chat",
    "instance_type": "ml.c5.large",
    "container": {"image": "1.dkr.ecr.us-east-1.amazonaws.com/engine:1"},
}


@pytest.fixture
def config_file(tmp_path):
    """Writes a config whose runs go to `runs` beside it; sections are merged into the small one."""

    def write(*args, **sections):
        path = tmp_path / "config.yml"
        path.write_text(yaml.safe_dump(config_data(*args, run_root="runs", **sections)), encoding="utf-8")
        return str(path)

    return write


def begin(config_path, run_dir, started_at):
    """A run that began at a time of our choice."""
    _, run = open_run(config_path, str(run_dir), new=True)
    file = run.path / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "started_at": started_at}))
    return run


# --- opening a run ------------------------------------------------------------------------------------------------


def test_a_new_run_has_a_folder_of_its_own_that_says_what_is_run(config_file, tmp_path):
    config, run = open_run(config_file(), new=True)
    assert run.path.parent == tmp_path / "runs"
    assert re.fullmatch(r"test-\d{8}-\d{6}", run.run_id)
    about = run.about()
    assert (about["run_id"], about["config_name"]) == (run.run_id, "test")
    assert about["machine"]["vcpus"] >= 1
    assert about["versions"]["pandas"]
    assert (run.path / "config.yml").read_text() == config.public_yaml()


def test_a_given_folder_is_used(config_file, tmp_path):
    _, run = open_run(config_file(), str(tmp_path / "mine"), new=True)
    assert run.path == tmp_path / "mine"
    assert open_run(config_file(), str(tmp_path / "mine"))[1] == run


def test_an_empty_folder_means_the_run_that_started_last(config_file, tmp_path):
    path = config_file()
    begin(path, tmp_path / "runs/test-a", "2026-01-02T00:00:00+00:00")
    newest = begin(path, tmp_path / "runs/test-b", "2026-01-03T00:00:00+00:00")
    begin(path, tmp_path / "runs/test-c", "2026-01-01T00:00:00+00:00")
    other = config_file(name="test-b2")
    begin(other, tmp_path / "runs/test-b2-x", "2026-02-01T00:00:00+00:00")
    assert open_run(config_file())[1] == newest


def test_without_a_run_the_next_step_is_reported(config_file, tmp_path):
    with pytest.raises(RunFolderError, match=r"holds no run of 'test'\. Next: run notebooks/01_generate_data"):
        open_run(config_file())
    with pytest.raises(RunFolderError, match=r"no run\.json there. Next: run notebooks/01_generate_data"):
        open_run(config_file(), str(tmp_path / "nothing"))


def test_a_run_of_before_a_key_was_added_is_the_same_run(config_file, tmp_path):
    """Its config.yml lacks keys that now have a default."""
    _, run = open_run(config_file(), str(tmp_path / "run"), new=True)
    older = yaml.safe_load((run.path / "config.yml").read_text())
    for section in (older["generation"], *older["options"]):
        for key in ("temperature", "headers", "omit_body_keys", "extra_body"):
            section.pop(key, None)
    (run.path / "config.yml").write_text(yaml.safe_dump(older))
    open_run(config_file(), str(run.path))


@pytest.mark.parametrize(
    ("changes", "section"),
    [
        ({"options": [option("a", served_model="other")]}, "options"),
        ({"options": [option("a"), option("b")]}, "options"),
        ({"datasets": [{"name": "short", "prompt_tokens": [1, 400]}]}, "datasets"),
        ({"generation": {"max_output_tokens": 25}}, "generation"),
        ({"load": {"concurrency": [1, 2]}}, "load"),
        ({"model": {"name": "n"}}, "model"),
        ({"seed": 43}, "seed"),
    ],
)
def test_a_run_that_was_measured_otherwise_is_refused(config_file, tmp_path, changes, section):
    open_run(config_file(), str(tmp_path / "run"), new=True)
    with pytest.raises(RunFolderError, match=f"was started with other values of {section} than .*start a new run"):
        open_run(config_file(**changes), str(tmp_path / "run"))


def run_with(config_file, tmp_path, measured=(), left=()):
    """A run of options a and b, with request records of some and endpoints (option, state) in the ledger."""
    path = config_file(options=[option("a"), option("b")])
    _, run = open_run(path, str(tmp_path / "run"), new=True)
    for name in measured:
        (run.requests / f"{name}__short__c1__r1.parquet").touch()
    (run.payloads / "short.parquet").touch()
    for name, state in left:
        Ledger(run.ledger_file, run.run_id).put(endpoint(name, state=state))
    return run


@pytest.mark.parametrize(
    "changes",
    [
        {"options": [option("a"), option("b", served_model="right")]},
        {"options": [option("a"), option("c")]},
        {"options": [option("a")]},
        {"options": [option("a"), option("b"), option("c")]},
    ],
)
def test_an_option_of_which_nothing_was_measured_may_be_corrected(config_file, tmp_path, changes):
    run = run_with(config_file, tmp_path, measured=["a"], left=[("a", "external"), ("b", "external")])
    config, _ = open_run(config_file(**changes), str(run.path), new=True)
    kept = [record.option for record in Ledger(run.ledger_file, run.run_id).records()]
    assert kept == (["a", "b"] if changes["options"][1:2] == [option("b")] else ["a"])
    assert (run.path / "config.yml").read_text() == config.public_yaml()
    assert (run.payloads / "short.parquet").is_file() and (run.requests / "a__short__c1__r1.parquet").is_file()
    open_run(config_file(**changes), str(run.path))  # the other notebooks go on with it


@pytest.mark.parametrize(("race", "measured", "left"), [(True, ["a"], 1), (False, ["a"], 0), (True, [], 0)])
def test_single_requests_by_which_a_race_has_decided_stay_when_their_option_is_corrected(
    config_file, tmp_path, race, measured, left
):
    load = {"race": race}
    _, run = open_run(config_file(options=[option("a"), option("b")], load=load), str(tmp_path / "run"), new=True)
    for name in measured:
        (run.requests / f"{name}__short__c1__r1.parquet").touch()
    (run.folder("single_requests") / "b__short.parquet").touch()
    corrected = config_file(options=[option("a"), option("b", served_model="right")], load=load)
    open_run(corrected, str(run.path), new=True)
    assert len(list((run.path / "single_requests").glob("*"))) == left


def test_anything_may_be_corrected_before_the_first_load_point(config_file, tmp_path):
    run = run_with(config_file, tmp_path, left=[("a", "refused"), ("b", "deleted")])
    changes = {"options": [option("a")], "datasets": [{"name": "other", "prompt_tokens": [1, 9]}], "seed": 3}
    open_run(config_file(**changes), str(run.path), new=True)
    assert not list(run.payloads.glob("*"))
    assert [record.option for record in Ledger(run.ledger_file, run.run_id).records()] == ["b"]


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        ({"options": [option("a", served_model="other"), option("b")]}, []),
        ({"options": [option("b")]}, []),
        ({"options": [option("a"), option("b")], "seed": 3}, []),
        ({"options": [option("a"), option("b", served_model="right")]}, [("b", "in_service")]),
        ({"options": [option("a"), option("b", served_model="right")]}, [("b", "failed")]),
    ],
)
def test_what_was_measured_and_what_may_still_cost_money_is_not_corrected(config_file, tmp_path, changes, left):
    run = run_with(config_file, tmp_path, measured=["a"], left=left)
    before = run.about()
    with pytest.raises(RunFolderError, match="was started with other values of"):
        open_run(config_file(**changes), str(run.path), new=True)
    assert run.about() == before


@pytest.mark.parametrize(
    "changes",
    [
        {"slo": {"percentile": 99, "latency_s": 7}},
        {"traffic": {"requests_per_minute": 1, "headroom": 0}},
        {"options": [option("a", price={"usd_per_hour": 9})]},
        {"options": [option("a", price={"usd_per_1m_input_tokens": 1, "usd_per_1m_output_tokens": 2})]},
        {"options": [option("a", other_prices=[{"name": "1-year savings plan", "usd_per_hour": 2}])]},
        {"budget_usd": 5},
        {"description": "the same, told otherwise"},
    ],
)
def test_what_is_only_judged_may_change(config_file, tmp_path, changes):
    open_run(config_file(), str(tmp_path / "run"), new=True)
    config, run = open_run(config_file(**changes), str(tmp_path / "run"))
    assert run.path == tmp_path / "run"
    assert config.benchmark == make_config(run_root="runs", **changes)


def test_a_file_that_an_earlier_step_writes_is_asked_for_by_the_step(config_file):
    _, run = open_run(config_file(), new=True)
    assert run.require("run.json", "01_generate_data").is_file()
    with pytest.raises(
        RunFolderError, match=r"load_points.csv: does not exist. Next: run notebooks/04_analyse_metrics"
    ):
        run.require("metrics/load_points.csv", "04_analyse_metrics")


def test_a_run_is_found_by_its_folder(config_file):
    _, run = open_run(config_file(), new=True)
    assert find_run(str(run.path)) == run
    with pytest.raises(NoSuchRun, match="'nowhere' is neither a run folder nor a run id"):
        find_run("nowhere")


def test_runs_that_begin_in_the_same_second_have_folders_of_their_own(config_file):
    runs = [open_run(config_file(), new=True)[1].path.name for _ in range(3)]
    assert len(set(runs)) == 3
    assert all(re.fullmatch(r"test-20\d{6}-\d{6}(-\d)?", name) for name in runs)


def test_a_new_value_of_a_secret_does_not_make_it_another_measurement(config_file, tmp_path, monkeypatch):
    monkeypatch.setenv("SERVER_KEY", "old")
    path = config_file(options=[option("a", api_key="${SERVER_KEY}")])
    open_run(path, str(tmp_path / "run"), new=True)
    monkeypatch.setenv("SERVER_KEY", "new")
    assert open_run(path, str(tmp_path / "run"))[0].benchmark.options[0].api_key == "new"


# --- writing files ------------------------------------------------------------------------------------------------


def of_records(folder: Path) -> tuple[Path, Callable[[], object]]:
    write_run(folder, [request(i, 0.5) for i in range(20)], [facts()])
    return next(folder.glob("*.parquet")), lambda: read_facts(folder)


def of_ledger(folder: Path) -> tuple[Path, Callable[[], object]]:
    ledger = Ledger(folder / "endpoints.json", "run")
    ledger.put(endpoint("a"))
    return ledger.path, ledger.records


def of_prompts(folder: Path) -> tuple[Path, Callable[[], object]]:
    write_prompts({"short": pa.table({"text": ["one", "two"]})}, folder)
    return folder / "short.parquet", lambda: read_prompts(folder, "short")


@pytest.mark.parametrize("made", [of_records, of_ledger, of_prompts])
@pytest.mark.parametrize("content", [lambda held: held[: len(held) // 2], lambda _: b"", lambda _: b"{}"])
def test_a_file_of_a_run_that_was_cut_or_edited_is_refused_with_its_path_and_the_next_step(tmp_path, made, content):
    file, read = made(tmp_path)
    assert len(read()) > 0
    file.write_bytes(content(file.read_bytes()))
    with pytest.raises(RunFolderError, match=rf"{re.escape(str(file))}: damaged: .*\. Expected .*\. Next: ") as caught:
        read()
    assert len(str(caught.value)) < 700 and "pydantic" not in str(caught.value)


def test_a_price_that_was_edited_in_the_ledger_is_named_with_its_place(tmp_path):
    file, read = of_ledger(tmp_path)
    content = json.loads(file.read_text())
    content["endpoints"][0]["instance_count"] = "many"
    file.write_text(json.dumps(content))
    with pytest.raises(RunFolderError, match=r"damaged: endpoints\.0\.instance_count: Input should be a valid integer"):
        read()


def test_a_load_point_that_was_copied_does_not_count_twice(tmp_path):
    file, read = of_records(tmp_path)
    shutil.copy(file, tmp_path / "a copy.parquet")
    with pytest.raises(AnalysisError, match=r"as another file of this folder does.*move one of the two"):
        read()


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "deep" / "file.json"
    for text in ("old", "new – with more than ASCII"):
        write_atomically(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.json"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "new" * 10_000 + "\ud800")
    assert path.read_text() == "old"


def test_a_reader_never_sees_half_a_file(tmp_path):
    path, texts = tmp_path / "file", {"a" * 200_000, "b" * 300_000}
    write_atomically(path, "a" * 200_000)
    writing = threading.Thread(target=lambda: [write_atomically(path, text) for _ in range(30) for text in texts])
    writing.start()
    seen = set()
    while writing.is_alive():
        seen.add(path.read_text())
    writing.join()
    assert seen <= texts


# --- the ledger ---------------------------------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "endpoints.json", "run-1")


def on_disk(ledger):
    """What another process would read: option -> state."""
    return {record.option: record.state for record in Ledger(ledger.path, "other").records()}


def test_each_change_is_on_disk_at_once(ledger):
    assert on_disk(ledger) == {}
    ledger.put(endpoint("a", state="planned"))
    ledger.put(endpoint("b", state="planned"))
    for state in ("creating", "in_service", "failed", "deleting", "deleted"):
        ledger.update("a", state=state)
        assert on_disk(ledger) == {"a": state, "b": "planned"}
        assert [r.option for r in ledger.remaining()] == ([] if state == "deleted" else ["a"])
    assert [r.option for r in ledger.records()] == ["a", "b"]
    assert json.loads(ledger.path.read_text())["run_id"] == "run-1"


def test_external_servers_and_plans_are_nothing_to_delete(ledger):
    ledger.put(endpoint("a", state="external"))
    ledger.put(endpoint("b", state="planned"))
    assert ledger.remaining() == []


@pytest.mark.parametrize(
    ("option", "changes", "error"),
    [
        ("none", {"state": "deleted"}, KeyError),
        ("a", {"state": "gone"}, ValueError),
        ("a", {"stat": "deleted"}, ValueError),
    ],
)
def test_a_wrong_change_is_refused_and_changes_nothing(ledger, option, changes, error):
    ledger.put(endpoint("a", state="creating"))
    with pytest.raises(error):
        ledger.update(option, **changes)
    assert on_disk(ledger) == {"a": "creating"}


def test_a_late_deletion_says_nothing_of_the_next_endpoint(ledger):
    ledger.put(endpoint("a", state="creating", endpoint_name="first"))
    ledger.update("a", state="deleted")
    ledger.put(endpoint("a", state="creating", endpoint_name="second"))
    assert ledger.update("a", of_endpoint="first", state="deleted").endpoint_name == "second"
    assert ledger.record("a").state == "creating"


def test_an_endpoint_that_may_exist_is_never_replaced(ledger):
    ledger.put(endpoint("a", state="in_service", endpoint_name="first"))
    assert ledger.put(endpoint("a", state="planned", endpoint_name="second")).endpoint_name == "first"
    assert [record.endpoint_name for record in ledger.remaining() if record.option == "a"] == ["first"]


def test_no_change_is_lost_between_threads(ledger):
    start = threading.Barrier(8)

    def write(i):
        start.wait()
        for k in range(10):
            ledger.put(endpoint(f"{i}-{k}", state="planned"))
            ledger.update(f"{i}-{k}", state="creating")

    threads = [threading.Thread(target=write, args=(i,)) for i in range(8)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert on_disk(ledger) == {f"{i}-{k}": "creating" for i in range(8) for k in range(10)}


WRITER = """
import sys
from helpers.run.ledger import EndpointRecord, Ledger
from pathlib import Path
ledger, who = Ledger(Path(sys.argv[1]), "run-1"), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for k in range(40):
    ledger.put(EndpointRecord(option=f"{who}-{k}", target="t", endpoint_name="e", instance_type="i", instance_count=1))
"""


def test_no_change_is_lost_between_processes(ledger):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(ledger.path), who],
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for who in "ab"
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=120)
        assert writer.returncode == 0
    assert set(on_disk(ledger)) == {f"{who}-{k}" for who in "ab" for k in range(40)}


@pytest.fixture
def sagemaker_api(monkeypatch, tmp_path):
    """An endpoint of the SageMaker API that refuses everything, and notes what the ledger held at each call."""
    seen, ledger_file = [], {}

    class Refuse(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            records = json.loads(ledger_file["path"].read_text())["endpoints"]
            seen.append((self.headers["X-Amz-Target"].split(".")[-1], {r["option"]: r["state"] for r in records}))
            body = b'{"__type": "ResourceLimitExceeded", "message": "no quota"}'
            self.send_response(400)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuse)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    yield seen, ledger_file
    server.shutdown()
    server.server_close()
    for process in psutil.process_iter(["cmdline"]):
        if "helpers.endpoints.watchdog" in (words := process.info["cmdline"] or []) and str(tmp_path) in words[-1]:
            process.kill()  # it would try for hours to delete what this server refused to make


def test_an_endpoint_is_in_the_ledger_before_the_first_call_that_creates_it(config_file, sagemaker_api):
    seen, ledger_file = sagemaker_api
    role = "arn:aws:iam::000000000000:role/r"
    config, run = open_run(config_file([SAGEMAKER, option("free")], aws={"execution_role": role}), new=True)
    ledger_file["path"] = run.ledger_file
    prompt = {"prompt_id": "p", "text": "Why?", "rendered": "Why?", "prompt_tokens": 2}
    pd.DataFrame([prompt]).to_parquet(run.payloads / "short.parquet")
    with pytest.raises(NoOptionLeft, match=r"(?s)'paid'.*no quota.*'free': no answer to its first request"):
        start_deployments(config.benchmark, run, lambda _: None)
    records = Ledger(run.ledger_file, run.run_id).records()
    assert seen[0] == ("CreateModel", {"paid": "creating", "free": "external"})
    paid = records[0]
    assert paid.may_exist, "its deletion was refused too"
    assert "no quota" in paid.failure
    assert paid.create_called_at
    assert paid.price.usd_per_instance_hour == 0.102


# --- what it costs ------------------------------------------------------------------------------------------------

ONE_O_CLOCK, THREE_THIRTY = "2026-01-01T01:00:00+00:00", "2026-01-01T03:30:00+00:00"


def lived(**changes):
    """An endpoint that lived 2.5 hours on two instances of 4 $/h."""
    known = {"state": "deleted", "create_called_at": ONE_O_CLOCK, "deleted_at": THREE_THIRTY, "instance_count": 2}
    return endpoint(changes.pop("name", "a"), **{"usd_per_instance_hour": 4.0, **known, **changes})


def test_cost_is_hours_times_price_times_instances():
    assert lived().billed_hours() == 2.5
    assert lived().cost_usd() == 20.0
    assert lived(in_service_at="2026-01-01T01:01:30+00:00").startup_s() == 90.0
    assert lived().startup_s() is None


def test_an_endpoint_that_still_lives_is_billed_until_now():
    alive = lived(state="in_service", deleted_at=None)
    assert alive.billed_hours(datetime(2026, 1, 1, 2, tzinfo=UTC)) == 1.0


def test_what_was_never_created_costs_nothing_and_an_unknown_price_is_unknown():
    assert lived(create_called_at=None, deleted_at=None).cost_usd() == 0.0
    assert lived(create_called_at=None, deleted_at=None).billed_hours() is None
    assert lived(usd_per_instance_hour=None).cost_usd() is None


def test_a_run_costs_what_its_priced_endpoints_on_other_machines_cost(ledger):
    ledger.put(lived())
    ledger.put(lived(name="b", usd_per_instance_hour=1.0, instance_count=1))
    ledger.put(lived(name="unknown", usd_per_instance_hour=None))
    ledger.put(lived(name="here", local=True))
    assert ledger.cost_usd() == 22.5


# --- prices -------------------------------------------------------------------------------------------------------


@pytest.fixture
def price_list(tmp_path):
    path = tmp_path / "prices.csv"
    path.write_text(
        "instance_type,region,usd_per_hour,as_of,source\n"
        "ml.c5.large,us-east-1,0.102,2024-01-31,a page\n"
        "ml.c5.large,eu-west-1,0.115,2024-02-01,another page\n"
    )
    return path


@pytest.mark.parametrize(
    ("changes", "region", "expected"),
    [
        ({}, "us-east-1", (0.102, "a page", "2024-01-31")),
        ({}, "eu-west-1", (0.115, "another page", "2024-02-01")),
        (
            {"price": {"usd_per_hour": 0.5, "source": "offer", "as_of": "2026-01-02"}},
            "us-east-1",
            (0.5, "offer", "2026-01-02"),
        ),
        ({"price": {"usd_per_hour": 0}}, "us-east-1", (0.0, "config", None)),
        ({"price": {"usd_per_vcpu_hour": 0.05, "vcpus": 4, "source": "s"}}, "us-east-1", (0.2, "4 vCPU of s", None)),
        (
            {"price": {"usd_per_vcpu_hour": 0.05, "vcpus": "all", "source": "s"}},
            "us-east-1",
            (0.8, "16 vCPU of s", None),
        ),
    ],
)
def test_a_price_comes_from_the_config_else_from_the_list(price_list, changes, region, expected):
    price = price_of(make_config([{**SAGEMAKER, **changes}]).options[0], region, 16, price_list)
    assert (pytest.approx(price.usd_per_instance_hour), price.source, price.as_of and str(price.as_of)) == expected


@pytest.mark.parametrize(("changes", "region"), [({}, "ap-south-1"), ({"instance_type": "ml.c5.huge"}, "us-east-1")])
def test_an_unknown_price_is_null(price_list, changes, region):
    assert price_of(make_config([{**SAGEMAKER, **changes}]).options[0], region, 16, price_list) is None


def test_a_price_per_token_has_no_price_per_hour(price_list):
    rates = {"usd_per_1m_input_tokens": 3, "usd_per_1m_output_tokens": 15, "source": "a page", "as_of": "2026-01-02"}
    price = price_of(make_config([option("a", price=rates)]).options[0], "us-east-1", 16, price_list)
    assert price == token_price(3.0, 15.0, source="a page", as_of="2026-01-02")


@pytest.mark.parametrize(
    ("price", "usd"),
    [
        (Price(usd_per_instance_hour=4.0, source="offer", as_of="2026-01-02"), 20.0),
        (token_price(3.0, 15.0, source="offer"), None),
        (None, None),
    ],
)
def test_a_price_is_kept_in_the_ledger_with_its_source(ledger, price, usd):
    """What is billed by the token has no cost by the hour that it lived."""
    ledger.put(lived(price=token_price(1.0, 9.0, source="an older page")))
    record = ledger.update("a", price=price)
    assert Ledger(ledger.path, "other").record("a") == record
    assert (record.price, record.cost_usd()) == (price, usd)


FLAT = {
    "target": "sagemaker",
    "state": "deleted",
    "instance_type": "ml.c5.large",
    "instance_count": 2,
    "usd_per_instance_hour": None,
    "usd_per_1m_input_tokens": None,
    "usd_per_1m_cached_input_tokens": None,
    "usd_per_1m_output_tokens": None,
    "price_source": None,
    "price_as_of": None,
}
"""Fields of a record in version 1 of the ledger."""


@pytest.mark.parametrize(
    ("flat", "price"),
    [
        (
            {"usd_per_instance_hour": 0.102, "price_source": "a page", "price_as_of": "2026-04-21"},
            Price(usd_per_instance_hour=0.102, source="a page", as_of="2026-04-21"),
        ),
        ({"usd_per_instance_hour": 0.0, "price_source": "config"}, Price(usd_per_instance_hour=0.0, source="config")),
        (
            {"usd_per_1m_input_tokens": 3.0, "usd_per_1m_output_tokens": 15.0, "price_source": "config"},
            token_price(3.0, 15.0, source="config"),
        ),
        ({}, None),
    ],
)
def test_a_ledger_of_version_1_is_read_with_its_price_and_written_as_version_2(ledger, flat, price):
    record = {"option": "a", "endpoint_name": "e"} | FLAT | flat
    old = json.dumps({"schema_version": 1, "run_id": "run-1", "endpoints": [record]})
    ledger.path.write_text(old)
    assert ledger.record("a").price == price
    ledger.put(ledger.record("a"))
    kept = json.loads(ledger.path.read_text())
    assert (kept["schema_version"], "price_source" in kept["endpoints"][0]) == (2, False)
    assert ledger.record("a").price == price
    assert json.loads(merge_ledgers(old, ledger.path.read_text())) == kept


def test_the_model_that_was_found_is_kept_in_the_ledger(ledger):
    ledger.put(endpoint("a"))
    assert ledger.record("a").model is None
    ledger.update("a", model="found")
    assert Ledger(ledger.path, "other").record("a").model == "found"
