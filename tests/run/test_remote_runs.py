"""Run folders in S3: begun in one place, analysed, continued and cleaned up in another."""

from __future__ import annotations

import html
import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
import result_files as files
import yaml
from conftest import SECRET
from examples import config_data, endpoint

from helpers.config.benchmark import PROJECT_ROOT
from helpers.errors import RunFolderError
from helpers.report.how_measured import written_files
from helpers.run.folder import open_run
from helpers.run.ledger import Ledger, merge_ledgers
from helpers.run.remote import remote_of, store_run

pytestmark = pytest.mark.slow

pytest_plugins = ["moto_server"]

BUCKET = "benchmark-runs"
ROOT = f"s3://{BUCKET}/team/llm"


@dataclass(frozen=True)
class Bucket:
    """The bucket, seen past the code under test."""

    client: object

    def names(self, run_id: str) -> set[str]:
        items = self.client.list_objects_v2(Bucket=BUCKET, Prefix=f"team/llm/{run_id}/").get("Contents", [])
        return {item["Key"].removeprefix(f"team/llm/{run_id}/") for item in items}

    def read(self, run_id: str, name: str) -> bytes:
        return self.client.get_object(Bucket=BUCKET, Key=f"team/llm/{run_id}/{name}")["Body"].read()

    def write(self, run_id: str, name: str, text: str) -> None:
        self.client.put_object(Bucket=BUCKET, Key=f"team/llm/{run_id}/{name}", Body=text.encode())

    def states(self, run_id: str) -> dict[str, str]:
        endpoints = json.loads(self.read(run_id, "endpoints.json"))["endpoints"]
        return {record["option"]: record["state"] for record in endpoints}


def plain(markdown: str) -> str:
    """Markdown as the text that a reader sees."""
    return html.unescape(str(markdown)).replace("\\", "")


@pytest.fixture
def bucket(moto_server, monkeypatch) -> Bucket:
    monkeypatch.setenv("TEST_SECRET", SECRET)
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    return Bucket(client)


@dataclass(frozen=True)
class Machine:
    """A machine of its own, as far as run folders go: a copy of the project, with its own `runs`."""

    path: Path

    def call(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(self.path / "src")}
        return subprocess.run(
            [sys.executable, "-m", *map(str, arguments)],
            cwd=self.path / "notebooks",
            env=environment,
            capture_output=True,
            text=True,
            timeout=280,
        )

    def execute(self, notebook: str, **parameters: object) -> str:
        """Run one notebook as a user of papermill would; returns its outputs."""
        given = [word for name, value in parameters.items() for word in ("-p", name, value)]
        output = self.path / f"{notebook}.ipynb"
        done = self.call("papermill", "--log-level", "ERROR", f"{notebook}.ipynb", output, *given)
        assert done.returncode == 0, done.stderr[-3000:]
        return output.read_text()

    def run(self, run_id: str) -> Path:
        return self.path / "runs" / run_id


@pytest.fixture
def machine(tmp_path) -> Machine:
    path = tmp_path / "machine"
    path.mkdir()
    for folder in ("src", "notebooks", "data", "configs"):
        shutil.copytree(PROJECT_ROOT / folder, path / folder, ignore=shutil.ignore_patterns("*.pyc.*"))
    return Machine(path)


def config_in_s3(folder: Path, root: str = ROOT, **sections: object) -> str:
    path = folder / "config.yml"
    path.write_text(yaml.safe_dump(config_data(run_root=root, **sections)), encoding="utf-8")
    return str(path)


@pytest.fixture
def begun(bucket, tmp_path):
    """A run that has begun, with its copy in S3: (config path, run)."""
    config_path = config_in_s3(tmp_path)
    return config_path, open_run(config_path, str(tmp_path / "here" / "test-one"), new=True)[1]


def open_elsewhere(begun, tmp_path):
    """The same run, opened from another folder."""
    config_path, run = begun
    return open_run(config_path, str(tmp_path / "there" / run.run_id))[1]


def nowhere() -> str:
    """A URL at which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


class Answering(http.server.BaseHTTPRequestHandler):
    """An S3 of our own, where moto cannot do what a test wants."""

    def do_GET(self):
        self.answer(200, '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"/>')

    def do_HEAD(self):
        self.answer(200, "")

    def answer(self, status, text):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.send_header("ETag", '"x"')
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


@contextmanager
def serving(handler, monkeypatch):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_port}")
        yield
    server.shutdown()
    server.server_close()


# --- one run on two machines --------------------------------------------------------------------------------------


def test_a_run_is_analysed_and_reported_on_another_machine(run_copy, bucket, machine, tmp_path):
    """With the config alone: the newest run in S3 is taken, and what is made of it comes back."""
    config = yaml.safe_load(run_copy.config_path.read_text())
    config_path = tmp_path / "small.yml"
    config_path.write_text(yaml.safe_dump({**config, "run_root": ROOT}))
    for made_by_04_and_05 in ("metrics", "figures", "report.html", "report.md", "verdict.json"):
        path = run_copy.run.path / made_by_04_and_05
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    run_id = run_copy.run.run_id
    _, here = open_run(str(config_path), str(run_copy.run.path))
    assert f"Stored in `{ROOT}/{run_id}" in plain(written_files(here, "requests").markdown)
    measured = {f"requests/{path.name}" for path in here.requests.glob("*.parquet")}
    assert len(measured) == 8
    assert measured < bucket.names(run_id)
    assert "report.html" not in bucket.names(run_id)

    analysed = machine.execute("04_analyse_metrics", config_path=config_path, run_dir="", explore=False)
    assert f"Stored in `{ROOT}/{run_id}" in plain(analysed)
    reported = machine.execute("05_report", config_path=config_path, run_dir=f"{ROOT}/{run_id}")
    assert f"Stored in `{ROOT}/{run_id}" in plain(reported)
    assert {"metrics/load_points.csv", "figures/price_performance.svg", "report.html"} < bucket.names(run_id)
    assert SECRET.encode() not in b"".join(bucket.read(run_id, name) for name in bucket.names(run_id))

    open_run(str(config_path), str(run_copy.run.path))
    for name in ("report.html", "verdict.json", "metrics/load_points.csv"):
        assert (here.path / name).read_bytes() == (machine.run(run_id) / name).read_bytes()
    assert store_run(here.path) == f"Stored in {ROOT}/{run_id} (0 files uploaded)."


def test_the_series_stores_all_that_it_writes(bucket, machine, tmp_path):
    """Results of another tool, because they need no measuring; the same steps follow a measurement."""
    for streams in (2, 4):
        sent = files.closed_loop(streams, 60, latency=lambda i: 0.4 + 0.02 * (i * 7 % 11))
        files.write_json(tmp_path / f"a-{streams}.json", files.vllm(sent, max_concurrency=streams))
    load = {"kind": "closed_loop", "concurrency": [2, 4]}
    config_path = files.write_config(tmp_path, files.option("a", "vllm", "a-*.json"), run_root=ROOT, load=load)
    done = machine.call("helpers", "report", "--config", config_path)
    assert done.returncode == 0, done.stderr
    (run,) = (machine.path / "runs").glob("imported-*")
    assert f"Stored in {ROOT}/{run.name}" in done.stdout
    here = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    assert bucket.names(run.name) == {name for name in here if not name.startswith(".") and not name.endswith(".lock")}
    assert {"report.html", "notebooks/04_analyse_metrics.ipynb", "notebooks/05_report.ipynb"} < bucket.names(run.name)
    assert bucket.read(run.name, "notebooks/05_report.ipynb") == (run / "notebooks/05_report.ipynb").read_bytes()


def test_a_series_that_fails_leaves_its_evidence_in_s3(bucket, machine, tmp_path):
    """With a run_dir in S3, at which nothing has begun."""
    prompts = {"source": {"kind": "jsonl", "path": "missing.jsonl"}}
    config_path = config_in_s3(tmp_path, prompts=prompts)
    done = machine.call("helpers", "report", "--config", config_path, "--run-dir", f"{ROOT}/mine")
    assert done.returncode == 2, done.stdout
    assert "01_generate_data stopped: PromptError" in done.stderr
    stopped = machine.run("mine") / "notebooks" / "01_generate_data.ipynb"
    assert bucket.read("mine", "notebooks/01_generate_data.ipynb") == stopped.read_bytes()


def test_a_run_is_cleaned_up_from_another_machine(begun, bucket, machine):
    _, run = begun
    left = endpoint("left", target="sagemaker", state="in_service", local=True, create_called_at="2026-01-01T00:00:00Z")
    Ledger(run.ledger_file, run.run_id).put(left)
    (run.requests / "large.parquet").write_bytes(b"large")
    store_run(run.path)
    done = machine.call("helpers", "cleanup", f"{ROOT}/{run.run_id}/")
    assert done.stdout == "deleted left\n", done.stderr
    assert bucket.states(run.run_id) == {"left": "deleted"}
    assert not (machine.run(run.run_id) / "requests").exists(), "money comes before files"
    assert machine.call("helpers", "cleanup", f"{ROOT}/{run.run_id}").stdout == "Nothing was left to delete.\n"


def test_a_run_that_is_not_there_cannot_be_cleaned_up(bucket, machine):
    done = machine.call("helpers", "cleanup", f"{ROOT}/test-nothing")
    assert done.returncode == 2
    assert f"{ROOT}/test-nothing: no run.json there. Next: aws s3 ls {ROOT}/" in done.stderr
    assert not machine.run("test-nothing").exists()


def test_an_empty_run_dir_means_the_run_in_s3_that_started_last(bucket, machine, tmp_path):
    config_path = config_in_s3(tmp_path)
    _, run = open_run(config_path, str(tmp_path / "test-a"), new=True)
    about = run.about()
    for run_id, day, name in (("test-c", 2, "test"), ("test-b", 3, "test"), ("test-b2-x", 4, "test-b2")):
        then = {**about, "started_at": f"2030-01-{day:02}T00:00:00+00:00", "config_name": name, "run_id": run_id}
        bucket.write(run_id, "run.json", json.dumps(then))
        bucket.write(run_id, "config.yml", (run.path / "config.yml").read_text())
    bucket.write("test-not-begun", "config.yml", "")
    code = f"import sys; from helpers.run.folder import open_run; print(open_run({config_path!r})[1].path)"
    program = machine.path / "notebooks" / "newest.py"
    program.write_text(code)
    done = machine.call("newest")
    assert done.stdout.strip() == str(machine.run("test-b")), done.stderr


# --- who changed what ---------------------------------------------------------------------------------------------


def test_what_changed_there_is_fetched_and_what_changed_here_stays(begun, tmp_path):
    _, here = begun
    for name in ("one.txt", "two.txt", "three.txt"):
        (here.metrics / name).write_text("old")
    store_run(here.path)
    there = open_elsewhere(begun, tmp_path)
    assert (there.metrics / "one.txt").read_text() == "old"
    (there.metrics / "one.txt").write_text("new")
    (there.metrics / "two.txt").write_text("new")
    assert store_run(there.path).endswith("(2 files uploaded).")

    (here.metrics / "two.txt").write_text("mine")
    (here.metrics / "three.txt").unlink()
    open_run(begun[0], str(here.path))
    assert [(here.metrics / f"{name}.txt").read_text() for name in ("one", "two", "three")] == ["new", "mine", "old"]
    assert store_run(here.path).endswith("(1 file uploaded).")
    open_elsewhere(begun, tmp_path)
    assert (there.metrics / "two.txt").read_text() == "mine"


def test_a_run_that_goes_on_elsewhere_finds_the_config_there(begun):
    config_path, run = begun
    (run.path / "run.json").write_text(json.dumps({**run.about(), "config_dir": "/on/another/machine"}))
    open_run(config_path, str(run.path))
    assert run.about()["config_dir"] == str(Path(config_path).parent)


def test_a_file_that_is_touched_but_not_changed_is_not_uploaded_again(begun):
    _, run = begun
    os.utime(run.path / "config.yml", (1, 1))
    assert store_run(run.path).endswith("(0 files uploaded).")


def test_two_ledgers_that_both_changed_keep_the_endpoints_of_both(begun, tmp_path):
    _, here = begun
    mine = Ledger(here.ledger_file, here.run_id)
    at = "2026-01-01T00:0{}:00.000+00:00".format
    mine.put(endpoint("a", state="creating", create_called_at=at(1)))
    mine.put(endpoint("b", state="creating", create_called_at=at(1)))
    there = open_elsewhere(begun, tmp_path)
    theirs = Ledger(there.ledger_file, there.run_id)
    theirs.update("a", state="deleted", deleted_at=at(3))
    theirs.put(endpoint("c", state="creating", create_called_at=at(3)))

    content = json.loads(here.ledger_file.read_text())  # S3 cannot be reached: only the file here changes
    content["endpoints"][1] |= {"state": "in_service", "in_service_at": at(2)}
    content["endpoints"].append(endpoint("d", state="creating", create_called_at=at(2)).model_dump())
    here.ledger_file.write_text(json.dumps(content))
    open_run(begun[0], str(here.path))
    expected = {"a": "deleted", "b": "in_service", "d": "creating", "c": "creating"}
    assert {record.option: record.state for record in mine.records()} == expected
    store_run(here.path)
    open_elsewhere(begun, tmp_path)
    assert {record.option: record.state for record in theirs.records()} == expected


def test_of_two_records_of_an_endpoint_the_one_to_which_something_happened_last_counts():
    def ledger(**changes):
        record = endpoint("a", **{"create_called_at": "2026-01-01T00:01:00+00:00", "state": "creating", **changes})
        return json.dumps({"run_id": "r", "endpoints": [record.model_dump()]})

    def merged(one, other):
        return json.loads(merge_ledgers(one, other))["endpoints"][0]["state"]

    creating, failed = ledger(), ledger(state="failed", failure="no capacity")
    deleted = ledger(state="deleted", deleted_at="2026-01-01T00:02:00+00:00")
    again = ledger(create_called_at="2026-01-01T00:03:00+00:00")
    for one, other, state in (
        (creating, failed, "failed"),
        (creating, deleted, "deleted"),
        (deleted, again, "creating"),
    ):
        assert merged(one, other) == merged(other, one) == state


def test_no_endpoint_is_lost_where_two_machines_made_one_each():
    def ledger(name, state, called_at):
        record = endpoint("a", state=state, endpoint_name=name, create_called_at=called_at)
        return json.dumps({"run_id": "r", "endpoints": [record.model_dump()]})

    earlier = ledger("x-111", "in_service", "2026-01-01T00:01:00+00:00")
    later = ledger("x-222", "creating", "2026-01-01T00:02:00+00:00")
    for one, other in ((earlier, later), (later, earlier)):
        endpoints = json.loads(merge_ledgers(one, other))["endpoints"]
        assert {record["option"]: record["endpoint_name"] for record in endpoints} == {
            "a": "x-222",
            "a (x-111)": "x-111",
        }


def test_what_belongs_to_one_machine_stays_there(begun, bucket, tmp_path):
    _, run = begun
    (tmp_path / "outside.txt").write_text("not of this run")
    (run.path / "link.txt").symlink_to(tmp_path / "outside.txt")
    (run.path / "linked").symlink_to(tmp_path, target_is_directory=True)
    for name in ("local_sagemaker/address.json", "guarded/1", "requests/.a.spool/data.bin", "requests/a.parquet"):
        path = run.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    Ledger(run.ledger_file, run.run_id).put(endpoint())
    store_run(run.path)
    assert (run.path / "endpoints.lock").exists()
    assert bucket.names(run.run_id) == {"config.yml", "run.json", "endpoints.json", "requests/a.parquet"}


def test_a_name_in_s3_cannot_lead_out_of_the_run_folder(begun, bucket, tmp_path):
    for name in ("../escaped.txt", "metrics/../../escaped.txt", "/escaped.txt", "folder/", "local_sagemaker/x"):
        bucket.write(begun[1].run_id, name, "x")
    bucket.write(begun[1].run_id, "metrics/fine.txt", "x")
    there = open_elsewhere(begun, tmp_path)
    written = {
        path.relative_to(there.path.parent).as_posix() for path in there.path.parent.rglob("*") if path.is_file()
    }
    run_id = there.run_id
    assert {name for name in written if "/." not in name} == {
        f"{run_id}/config.yml",
        f"{run_id}/run.json",
        f"{run_id}/metrics/fine.txt",
    }
    assert not (tmp_path / "escaped.txt").exists()


def test_a_copied_run_folder_does_not_write_over_the_copy_of_the_first(begun, bucket):
    config_path, run = begun
    second = run.path.with_name("test-two")
    shutil.copytree(run.path, second)
    (second / "note.txt").write_text("of the second")
    assert remote_of(second) is None
    open_run(config_path, str(second))
    store_run(second)
    assert "note.txt" in bucket.names("test-two")
    assert "note.txt" not in bucket.names(run.run_id)


# --- S3 fails -----------------------------------------------------------------------------------------------------


def test_every_change_of_the_ledger_is_in_s3_when_it_is_made(begun, bucket):
    _, run = begun
    ledger = Ledger(run.ledger_file, run.run_id)
    ledger.put(endpoint("a", state="planned"))
    assert bucket.states(run.run_id) == {"a": "planned"}
    for state in ("creating", "in_service", "deleting", "deleted"):
        ledger.update("a", state=state)
        assert bucket.states(run.run_id) == {"a": state}


def test_changes_of_many_threads_end_with_the_last_ledger_in_s3(begun, bucket):
    _, run = begun

    def change(name):
        for state in ("planned", "creating", "deleted"):
            Ledger(run.ledger_file, run.run_id).put(endpoint(name, state=state))

    threads = [threading.Thread(target=change, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bucket.states(run.run_id) == dict.fromkeys("abcd", "deleted")
    assert bucket.read(run.run_id, "endpoints.json") == run.ledger_file.read_bytes()


def test_a_slow_upload_of_the_ledger_cannot_arrive_after_a_later_one(begun, monkeypatch):
    _, run = begun
    arrived, first_is_under_way, second_arrived = [], threading.Event(), threading.Event()

    class SlowFirst(Answering):
        def do_PUT(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            is_second = first_is_under_way.is_set()
            first_is_under_way.set()
            if not is_second:
                second_arrived.wait(3)  # without effect if uploads wait for each other
            arrived.append("deleted" if b'"state": "deleted"' in body else "creating")
            if is_second:
                second_arrived.set()
            self.answer(200, "")

    with serving(SlowFirst, monkeypatch):
        ledger = Ledger(run.ledger_file, run.run_id)
        first = threading.Thread(target=lambda: ledger.put(endpoint("a", state="creating")))
        first.start()
        assert first_is_under_way.wait(30)
        Ledger(run.ledger_file, run.run_id).put(endpoint("a", state="deleted"))
        first.join()
    assert arrived == ["creating", "deleted"]


def test_without_s3_in_the_middle_the_run_goes_on_and_is_stored_later(begun, bucket, monkeypatch, capsys):
    config_path, run = begun
    url = os.environ["AWS_ENDPOINT_URL_S3"]
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", nowhere())
    ledger = Ledger(run.ledger_file, run.run_id)
    ledger.put(endpoint("a", state="creating"))
    ledger.update("a", state="deleted")
    said = capsys.readouterr().err
    assert said.count("endpoints.json could not be uploaded") == 1
    assert "S3 cannot be reached" in said
    assert open_run(config_path, str(run.path))[1] == run
    assert f"going on with what is in {run.path}" in capsys.readouterr().err
    shown = plain(written_files(run, "endpoints.json").markdown)
    assert "not everything is in S3" in shown
    assert f"All of it is in {run.path}" in shown

    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
    assert "(1 file uploaded)" in written_files(run, "endpoints.json").markdown
    assert bucket.states(run.run_id) == {"a": "deleted"}


def test_a_broken_note_of_the_copy_stops_no_deletion(begun, capsys):
    _, run = begun
    (run.path / ".s3.json").write_text("{")
    Ledger(run.ledger_file, run.run_id).put(endpoint("a", state="deleted"))
    assert ".s3.json: cannot be read" in capsys.readouterr().err
    with pytest.raises(RunFolderError, match="Next: delete it and open the run again"):
        store_run(run.path)


def test_a_missing_bucket_is_refused_before_anything_starts(moto_server, machine, tmp_path):
    done = machine.call("helpers", "report", "--config", config_in_s3(tmp_path))
    assert done.returncode == 1
    assert f"there is no bucket {BUCKET!r}. Next: make it (aws s3 mb s3://{BUCKET})" in done.stderr
    assert "run_root" in done.stderr
    assert done.stdout == ""
    assert list((machine.path / "runs").iterdir()) == []


class Denying(Answering):
    def do_PUT(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(403, "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")


def test_a_prefix_that_cannot_be_written_is_refused_before_anything_starts(moto_server, tmp_path, monkeypatch):
    with serving(Denying, monkeypatch):
        for _ in range(2):
            with pytest.raises(
                RunFolderError, match=r"run_root .*access denied \(PutObject\).*s3:PutObject under this"
            ):
                open_run(config_in_s3(tmp_path), str(tmp_path / "test-x"), new=True)
    assert not (tmp_path / "test-x" / "run.json").exists()


def test_without_credentials_nothing_starts(bucket, tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(RunFolderError, match=r"run_root .*no AWS credentials.*Next: sign in"):
        open_run(config_in_s3(tmp_path), str(tmp_path / "test-x"), new=True)


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("s3://", r"run_root or run_dir: bad value 's3://'. Expected s3://bucket/prefix"),
        ("s3://a b/c", "bad value 's3://a b/c'"),
        ("s3://UPPER_case!/c", r"'UPPER_case!' is not the name of a bucket. Next: correct run_root"),
    ],
)
def test_a_bad_run_root_is_named(moto_server, tmp_path, root, message):
    with pytest.raises(RunFolderError, match=message):
        open_run(config_in_s3(tmp_path, root), str(tmp_path / "test-x"), new=True)


def test_a_run_dir_in_s3_must_name_a_run(bucket, tmp_path):
    for url in (f"s3://{BUCKET}", f"{ROOT}/.."):
        with pytest.raises(RunFolderError, match=r"Expected a run in S3: s3://bucket/prefix/<run id>"):
            open_run(config_in_s3(tmp_path), url)


# --- without S3 ---------------------------------------------------------------------------------------------------


def test_without_s3_boto3_is_not_imported(tmp_path):
    config = tmp_path / "config.yml"
    config.write_text(yaml.safe_dump(config_data(run_root="runs")))
    code = f"""
import sys
from helpers.run.ledger import EndpointRecord, Ledger
from helpers.report import written_files
from helpers.run.folder import find_run, open_run
_, run = open_run({str(config)!r}, new=True)
Ledger(run.ledger_file, run.run_id).put(EndpointRecord.model_validate({endpoint().model_dump()!r}))
written_files(find_run(str(run.path)), "run.json")
open_run({str(config)!r})
assert not (run.path / ".s3.json").exists()
print(*(name for name in ("boto3", "botocore", "s3transfer") if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr
