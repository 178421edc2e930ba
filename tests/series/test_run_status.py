"""A run as others see it: how far it is and who runs it; errors and Stop in a real kernel; going on with a run."""

from __future__ import annotations

import json
import os
import signal
import threading
import time

import nbformat
import papermill
import pytest
from examples import endpoint
from jupyter_client.manager import start_new_kernel

from helpers.__main__ import main
from helpers.endpoints.watchdog import guarded
from helpers.run.folder import RunFolder
from helpers.run.ledger import Ledger
from helpers.series.series import NOTEBOOK_DIR
from helpers.series.status import read_progress, run_status

WAIT_S = 120


def caption(run) -> str:
    return run_status(run).caption


def test_a_finished_run_says_so(run_copy, capsys):
    assert main(["status", str(run_copy.run.path)]) == 0
    said = capsys.readouterr().out
    assert f"finished, the report is {run_copy.run.path / 'report.html'}" in said
    assert "| no batching | deleted | done | 4 | 4 |" in said
    assert "Spent so far: $0.00." in said


def test_a_running_run_says_who_runs_it_and_the_time_left(run_copy):
    progress = json.loads((run_copy.run.path / "progress.json").read_text())
    progress["options"]["batch of 4"] |= {"state": "loading", "detail": "short, concurrency 1", "done": 1}
    (run_copy.run.path / "progress.json").write_text(json.dumps(progress | {"seconds_left": 200.0, "is_bound": False}))
    with guarded(run_copy.run, "03_run_inference"):
        said, shown = caption(run_copy.run), run_status(run_copy.run).plain()
    assert f"03_run_inference is running (process {os.getpid()} on this machine, since" in said
    assert "about 3 min left in all" in said
    assert "| batch of 4 | deleted | loading short, concurrency 1 | 1 | 4 |" in shown


def test_what_nobody_goes_on_with_is_not_called_under_way(run_copy):
    file = run_copy.run.path / "progress.json"
    progress = json.loads(file.read_text())
    progress["options"]["batch of 4"] |= {"state": "stopping", "detail": ""}
    file.write_text(json.dumps(progress))
    assert "| was stopping |" in run_status(run_copy.run).plain()
    with guarded(run_copy.run, "03_run_inference"):
        assert "| stopping |" in run_status(run_copy.run).plain()


def test_why_an_option_failed_is_said_once(tmp_path):
    run = RunFolder(tmp_path)
    Ledger(run.ledger_file, "r").put(endpoint("a", failure="option 'a': no quota"))
    failed = {"state": "failed", "detail": "option 'a': no quota", "done": 0, "total": 2}
    progress = {"options": {"a": failed}, "seconds_left": None, "is_bound": True, "at": "2026-11-30T00:00:00Z"}
    (tmp_path / "progress.json").write_text(json.dumps(progress))
    shown = run_status(run).plain()
    assert shown.count("no quota") == 1 and "| failed | 0 | 2 |" in shown


def test_a_run_that_was_cut_off_says_what_to_do(run_copy):
    (run_copy.run.path / "report.html").unlink()
    (run_copy.run.path / "guarded" / "1.json").write_text('{"pid": 999999999, "started": 1.0}')
    Ledger(run_copy.run.ledger_file, "").update("batch of 4", state="in_service", deleted_at=None)
    said = caption(run_copy.run)
    assert "no process of this machine runs it" in said
    assert f"may still cost money. Next: make cleanup RUN={run_copy.run.path}." in said
    assert f"Next: make report RUN={run_copy.run.path} continues it." in said


def test_a_run_is_continued_by_its_name_alone(run_copy, capsys, monkeypatch):
    """`make report RUN=...`: the config is the one that the run was begun with, and only what is missing is measured."""
    missing, *others = sorted(run_copy.run.requests.glob("*.parquet"))
    kept = {path: path.read_bytes() for path in others}
    missing.unlink()
    (run_copy.run.path / "report.html").unlink()
    assert main(["report", "--run-dir", str(run_copy.run.path)]) == 0
    said = capsys.readouterr()
    assert [line.strip()[:6] for line in said.out.splitlines() if " n = " in line] == ["8 of 8"]
    assert "IPKernelApp" not in said.err
    assert (run_copy.run.path / "report.html").is_file()
    assert {path: path.read_bytes() for path in others} == kept
    assert missing.is_file()


def test_no_notebook_of_a_normal_run_has_a_red_box(finished_run):
    red = []
    for path in sorted((finished_run.run.path / "notebooks").glob("*.ipynb")):
        for cell in nbformat.read(path, 4).cells:
            red += [(path.stem, out) for out in cell.get("outputs", []) if out.get("name") == "stderr"]
            red += [(path.stem, out) for out in cell.get("outputs", []) if out.output_type == "error"]
    assert red == []


# --- in a kernel --------------------------------------------------------------------------------------------------


def test_an_error_of_the_users_is_its_message_and_the_traceback_goes_to_the_log(run_copy, tmp_path):
    executed = tmp_path / "out.ipynb"
    parameters = {"config_path": str(run_copy.config_path), "run_dir": str(run_copy.run.path), "progress": "fancy"}
    with pytest.raises(papermill.PapermillExecutionError):
        papermill.execute_notebook(
            NOTEBOOK_DIR / "03_run_inference.ipynb", executed, parameters, cwd=NOTEBOOK_DIR, progress_bar=False
        )
    outputs = [out for cell in nbformat.read(executed, 4).cells for out in cell.get("outputs", [])]
    error = next(out for out in outputs if out.output_type == "error" and out.ename == "ParameterError")
    log = run_copy.run.logs / "errors.log"
    assert error.traceback == [
        "ParameterError: progress: bad value 'fancy'. Expected one of: widget, text",
        f"(Where in the program: {log})",
    ]
    assert "in __init__" in log.read_text()


@pytest.fixture
def kernel(run_copy):
    manager, client = start_new_kernel(cwd=str(NOTEBOOK_DIR))
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def test_stop_in_03_is_no_fault_and_says_what_is_kept(kernel, run_copy):
    manager, client = kernel
    for path in run_copy.run.requests.glob("batch-of-4__*.parquet"):
        path.unlink()
    cells = nbformat.read(NOTEBOOK_DIR / "03_run_inference.ipynb", 4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    set_up = f"config_path, run_dir, progress = {str(run_copy.config_path)!r}, {str(run_copy.run.path)!r}, 'text'"
    client.execute_interactive(set_up, timeout=WAIT_S)
    client.execute_interactive(code[1].replace("coerce_parameters(globals())", ""), timeout=WAIT_S)
    (run_copy.run.path / "progress.json").unlink()
    load = next(source for source in code if "load_all(" in source)
    outputs = []
    began = time.monotonic()

    def heard(message: dict) -> None:
        outputs.append(message)

    def stop_when_loading() -> None:
        while time.monotonic() - began < WAIT_S:
            found = read_progress(run_copy.run)
            if found and any(option.state in ("starting", "loading") for option in found.options.values()):
                break
            time.sleep(0.1)
        time.sleep(0.3)
        os.kill(manager.provisioner.pid, signal.SIGINT)

    threading.Thread(target=stop_when_loading, daemon=True).start()
    reply = client.execute_interactive(load, timeout=WAIT_S, output_hook=heard)
    assert reply["content"]["status"] == "error", [m["content"].get("text", m["msg_type"]) for m in outputs]
    assert reply["content"]["ename"] == "Stopped"
    assert [message for message in outputs if message["msg_type"] == "error"] == []
    said = "".join(
        m["content"]["text"] for m in outputs if m["msg_type"] == "stream" and m["content"]["name"] == "stdout"
    )
    assert "load points are kept; endpoints are being deleted." in said
    assert f"Stopped. Load points that were finished are kept in {run_copy.run.path}." in said
    assert f"Next: run this notebook again with this run_dir, or make report RUN={run_copy.run.path}" in said
    assert "Traceback" not in said
    states = [record.state for record in Ledger(run_copy.run.ledger_file, "").records()]
    assert states == ["deleted", "deleted"]
    found = {name: option.state for name, option in read_progress(run_copy.run).options.items()}
    assert found == {"batch of 4": "stopped", "no batching": "done"}
