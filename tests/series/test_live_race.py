"""The live view of a race: drawn from records and ledger, so it shows the same after a kill; and cheap."""

import time

import numpy as np
import pytest
from examples import endpoint, facts, make_config, request, write_run

from helpers.endpoints.load_events import LoadEvent
from helpers.load.attempt_progress import AttemptProgress
from helpers.run.folder import RunFolder
from helpers.run.ledger import Ledger
from helpers.series.displays import ProgressBars
from helpers.series.live_race import LiveRace

NAMES = ["fast", "slow", "late"]
LEFT = {"race_outcome": "more expensive", "race_because": "after 30 requests: at best it costs more than the leader"}


def raced(names, datasets=("short",), levels=(1, 2)):
    load = {"kind": "closed_loop", "concurrency": list(levels), "race": True, "repeat_prompts": True}
    return make_config(names, datasets, load=load, slo={"percentile": 90, "latency_s": 1, "error_rate": 0.1})


def write_blocks(run, names, datasets, levels, requests=200):
    """A block of every load point: requests of half a second."""
    rows, windows = [], []
    for i, (name, dataset, level) in enumerate((n, d, c) for n in names for d in datasets for c in levels):
        where = {"option": name, "dataset": dataset, "level": float(level), "repetition": 1}
        rows += [request(100 * i + at / 2, 0.5, **where) for at in range(requests)]
        windows.append(facts(100 * i, 100 * i + requests / 2, **where))
    write_run(run.requests, rows, windows)


@pytest.fixture
def run(tmp_path):
    run = RunFolder(tmp_path)
    write_blocks(run, NAMES[:2], ["short"], [1])
    ledger = Ledger(run.ledger_file, run.run_id)
    ledger.put(endpoint(NAMES[0], 1.0))
    ledger.put(endpoint("slow", 50.0, **LEFT))
    return run


def event(option, state="loading", detail="short, concurrency 1", progress=None):
    return LoadEvent(option, state, 1, 2, detail, progress)


def test_each_option_says_how_it_stands_and_words_are_text(run):
    view = LiveRace(raced(NAMES), run)
    view.show(event(NAMES[0]), 0.0)
    shown = view.widget.value
    assert "under load: short, concurrency 1, in the lead" in shown
    assert "left: more expensive after 30 requests: at best it costs more than the leader" in shown
    assert "not started yet" in shown
    view.show(event("late", "failed", "<i>no capacity"), 0.0)
    assert "failed: &lt;i&gt;no capacity" in view.widget.value and "<i>" not in view.widget.value
    assert "The race took 400 requests" in shown and " so far." in shown
    assert "an unknown time, because rates of “late” are unknown" in shown


def test_a_race_that_goes_on_after_a_kill_shows_what_it_showed(run):
    before, after = (LiveRace(raced(NAMES), run).widget.value for _ in range(2))
    assert before == after
    assert "left: more expensive" in after and "in service, waits for its turn, in the lead" in after


def test_it_is_drawn_again_where_something_changed_or_now_and_then(run):
    view, drawn = LiveRace(raced(NAMES), run), []
    under_way = AttemptProgress(phase="steady")
    for at_s, detail in ((0, "x"), (1, "x"), (2, "y"), (3, "y"), (12, "y")):
        view.widget.value = ""
        view.show(event(NAMES[0], detail=detail, progress=under_way), float(at_s))
        drawn.append(view.widget.value != "")
    assert drawn == [True, False, True, False, True]


def test_widgets_hold_it_only_in_a_race(run):
    with ProgressBars(raced(NAMES), run, "widget") as show:
        assert "<svg" in show.view.widget.children[1].value
    with ProgressBars(make_config(NAMES), run, "widget") as show:
        assert len(show.view.widget.children) == 1 + len(NAMES)


def test_text_says_how_an_option_left_and_at_the_end_what_the_race_took(run, capsys):
    with ProgressBars(raced(NAMES), run, "text") as show:
        show(event("slow", "done", ""))
    left, took = capsys.readouterr().out.splitlines()
    assert left.endswith("slow: more expensive after 30 requests: at best it costs more than the leader")
    assert took.startswith("The race took 400 requests")


def test_a_redraw_with_six_options_three_datasets_and_six_levels_takes_a_fraction_of_a_second(tmp_path):
    run, names = RunFolder(tmp_path), [f"option {i}" for i in range(6)]
    datasets, levels = ["short", "middle", "long"], [1, 2, 4, 8, 16, 32]
    write_blocks(run, names, datasets, levels)
    ledger = Ledger(run.ledger_file, run.run_id)
    for i, name in enumerate(names):
        ledger.put(endpoint(name, 1.0 + i))
    view, taken = LiveRace(raced(names, datasets, levels), run), []
    for i in range(7):
        started = time.process_time()
        view.show(event(names[0], detail=str(i)), float(i))
        taken.append(time.process_time() - started)
    print("redraw, s of CPU:", taken)
    assert np.median(taken) < 0.5
