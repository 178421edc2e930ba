"""Every number in the computed sentences of real reports is worked out again from the files of the run."""

from __future__ import annotations

import functools
import json
import re

import nbformat
import pandas as pd
import pytest
from conftest import SECRET
from imported_runs import BINS, REFERENCE, import_reference, import_twins, run_in
from sentence_numbers import NUMBER, Known, unaccounted

from helpers.config.file import load_config
from helpers.metrics.control import FOLDER, read_moves
from helpers.run.folder import RunFolder
from helpers.verdict.analysis import read_measurements

pytest_plugins = ["quality_fixtures"]
APART = ("warning_list", "definitions", "not-in-report")
"""Of cells whose words come from elsewhere: warnings, definitions."""
VERSIONS = ("* Machine that the notebooks ran on", "* Python ")
NEEDS_REFERENCE = pytest.mark.skipif(
    not REFERENCE.is_dir(), reason=f"the reference measurements are not in {REFERENCE}"
)
IMPORTS = {
    "none feasible": functools.partial(import_twins, limit_s=0.01, status=3),
    "tied": functools.partial(import_twins, limit_s=2, status=0),
    "open": functools.partial(import_twins, limit_s=0.59, status=4),
    "reference-long": lambda folder: import_reference(folder, ["en_3000-4000"], {"error_rate": 0.06}),
    "reference-all-bins": lambda folder: import_reference(folder, list(BINS), {"error_rate": 0.03}, status=4),
}


def run_of(name: str, request, made_once) -> RunFolder:
    if name == "quality":
        return request.getfixturevalue("quality_run")
    if name in IMPORTS:
        return run_in(made_once(name, IMPORTS[name]))
    return request.getfixturevalue("finished_run").run


def known_of(run: RunFolder) -> Known:
    config = load_config(run.path / "config.yml").benchmark
    measured = read_measurements(config, run)
    data = config.model_dump(mode="json")
    calibration = json.loads(run.instrument_file.read_text()) if run.instrument_file.is_file() else {}
    return Known(
        verdict=json.loads((run.path / "verdict.json").read_text()),
        points=pd.read_csv(run.metrics / "load_points.csv").copy(),  # in one piece
        changes=json.loads((run.metrics / "changes.json").read_text()),
        config={"slo": data["slo"], "traffic": data["traffic"], "datasets": [d.name for d in config.datasets]},
        facts=measured.facts,
        samples=measured.samples,
        endpoints=measured.endpoints,
        calibration=calibration,
        moves=read_moves(run.requests, run.path / FOLDER, config),
        **answers_of(run, config),
    )


def answers_of(run: RunFolder, config) -> dict[str, dict]:
    """What is known of scored answers, each of which is to be a sum."""
    if config.quality is None:
        return {}
    texts = pd.read_parquet(run.payloads / "sums.parquet").set_index("prompt_id")["text"]
    sums = texts.map(lambda text: sum(int(number) for number in re.findall(r"\d+", text)))
    right = {}
    for option in config.options:
        answers = pd.read_parquet(run.path / "quality" / f"{option.name}.parquet").set_index("prompt_id")["answer"]
        right[option.name] = (answers.str.extract(r"(\d+)\s*$")[0].astype(int) == sums[answers.index]).to_dict()
    most, by = config.generation.max_output_tokens, config.quality.gate.not_worse_than.by
    return {"right": right, "scored": {"samples": config.quality.samples, "max_output_tokens": most, "by": by}}


def sentences_of(run: RunFolder) -> list[str]:
    """The computed lines of the report, as Markdown: no captions, no pictures, no tables but that of the recommendations."""
    notebook = nbformat.read(run.path / "notebooks" / "05_report.ipynb", as_version=4)
    found = []
    for cell in notebook.cells:
        if cell.cell_type != "code" or any(name in cell.source + str(cell.metadata.get("tags")) for name in APART):
            continue
        for output in cell.outputs:
            lines = output.get("data", {}).get("text/markdown", "").splitlines()
            is_table = [line.startswith("|") and "recommendations(" not in cell.source for line in lines]
            is_apart = [line == "" or re.match(r"\*[^* ]|!\[", line) or line.startswith(VERSIONS) for line in lines]
            found += [line for line, *skip in zip(lines, is_table, is_apart, strict=True) if not any(skip)]
    published = (run.path / "report.md").read_text(encoding="utf-8")
    assert [line for line in found if line.rstrip() not in published] == []
    return [line.replace("\\$", "$").replace("\\", "") for line in found]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "finished",
        "quality",
        "none feasible",
        "tied",
        "open",
        *(pytest.param(n, marks=NEEDS_REFERENCE) for n in IMPORTS if "reference" in n),
    ],
)
def test_every_number_in_a_sentence_follows_from_the_files_of_the_run(name, request, made_once, monkeypatch):
    monkeypatch.setenv("TEST_SECRET", SECRET)
    run = run_of(name, request, made_once)
    known, lines = known_of(run), sentences_of(run)
    assert len(lines) >= 10
    assert {line: left for line in lines if (left := unaccounted(line, known))} == {}
    wrong = [group for line in lines for group in with_one_wrong(line)]
    assert [group for group in wrong if all(is_believed(line, known) for line in group)] == []


def with_one_wrong(line: str) -> list[list[str]]:
    """The sentence with another last digit of a number, for each of its numbers that is in no name: three wrong digits of each,
    because one of them may by chance be what another load point, or a rounded value, has.
    """
    names = [match.span() for match in re.finditer(r"“[^”]+”|`[^`]+`|\]\([^)]*\)", line)]
    numbers = [match.end() - 1 for match in re.finditer(NUMBER, line)]
    apart = [at for at in numbers if not any(start <= at < end for start, end in names)]
    return [[f"{line[:at]}{(int(line[at]) + more) % 10}{line[at + 1 :]}" for more in (1, 3, 7)] for at in apart]


def is_believed(line: str, known: Known) -> bool:
    try:
        return not unaccounted(line, known)
    except (AssertionError, StopIteration, IndexError, KeyError, ValueError):
        return False
