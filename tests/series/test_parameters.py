"""Notebook parameters: only declared names, and values of the declared types even where they arrive as text."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from conftest import small_config

from helpers.config.file import load_config
from helpers.errors import ConfigError, ParameterError
from helpers.series.parameters import check_parameters, coerce, coerce_parameters
from helpers.series.series import parameters_of_all

CELL = """\
config_path: str = "config.yml"  # the config
sample_rows: int = 3  # rows shown
latency_budget_s: float = 20.0  # p95 must stay under this
show_all: bool = False
"""


@pytest.fixture
def notebook(tmp_path):
    """A notebook with the parameters cell above."""
    path = tmp_path / "04_analyse_metrics.ipynb"
    cell = nbformat.v4.new_code_cell(CELL, metadata={"tags": ["parameters"]})
    kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), path)
    return path


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("a text", str, "a text"),
        ("12", str, "12"),
        (12, str, "12"),
        ("007", str, "007"),
        ("1e5", str, "1e5"),
        (" x ", str, " x "),
        (None, str, ""),
        ("None", str, ""),
        ("12", int, 12),
        (" -3 ", int, -3),
        ("2.5", float, 2.5),
        ("3", float, 3.0),
        (3, float, 3.0),
        ("true", bool, True),
        ("False", bool, False),
        ("0", bool, False),
        ("yes", bool, True),
        (True, bool, True),
        (0, bool, False),
    ],
)
def test_a_value_is_brought_to_its_declared_type(text, kind, value):
    found = coerce("p", text, kind, "here")
    assert (found, type(found)) == (value, kind)


@pytest.mark.parametrize(
    ("bad", "kind"),
    [("2.5", int), (2.5, int), ("", int), ("ten", float), ("maybe", bool), ("2", bool), (None, int), (None, bool)],
)
def test_a_value_that_would_lose_or_invent_something_is_refused(bad, kind):
    with pytest.raises(
        ParameterError, match=f"^here: parameter 'p': bad value {bad!r}. Expected {kind.__name__}. Next: "
    ):
        coerce("p", bad, kind, "here")


def test_a_notebook_brings_all_its_parameters_to_their_types():
    namespace = {"other": "7", "__annotations__": {}}
    exec(CELL, namespace)
    namespace |= {"sample_rows": "5", "latency_budget_s": "1.5", "show_all": "true"}
    coerce_parameters(namespace)
    assert namespace["sample_rows"] == 5
    assert namespace["latency_budget_s"] == 1.5
    assert namespace["show_all"] is True
    assert namespace["config_path"] == "config.yml"
    assert namespace["other"] == "7"


def test_a_notebook_refuses_a_parameter_of_the_wrong_type():
    namespace = {}
    exec(CELL, namespace)
    namespace["sample_rows"] = "five"
    with pytest.raises(
        ParameterError, match=r"parameters cell: parameter 'sample_rows': bad value 'five'\. Expected int"
    ):
        coerce_parameters(namespace)


def test_declared_parameters_are_taken_before_a_notebook_starts(notebook):
    check_parameters(
        notebook, {"sample_rows": 5, "latency_budget_s": "1", "show_all": "no", "config_path": "x"}, "config"
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"sample_row": 5},
            r"04_analyse_metrics has no parameter 'sample_row'. Did you mean `sample_rows`\? Expected one of: ",
        ),
        ({"zzz": 5}, r"no parameter 'zzz'\. Expected one of: config_path, sample_rows, latency_budget_s, show_all"),
        (
            {"sample_rows": 5, "latency_budget_s": "20 s"},
            "parameter 'latency_budget_s': bad value '20 s'. Expected float",
        ),
        ({"show_all": 2}, "parameter 'show_all': bad value 2. Expected bool"),
    ],
)
def test_others_are_refused_before_a_notebook_starts(notebook, values, message):
    with pytest.raises(ParameterError, match=f"^config.yml: .*{message}.*Next: "):
        check_parameters(notebook, values, "config.yml")


VARIABLE = "A_SECRET_OF_PARAMETERS"


def test_a_variable_is_read_by_the_notebook_itself_and_never_shown(notebook, monkeypatch):
    monkeypatch.setenv(VARIABLE, "s3cr3t")
    namespace = {}
    exec(CELL, namespace)
    namespace["config_path"] = f"${{{VARIABLE}}}/x.yml"
    coerce_parameters(namespace)
    assert namespace["config_path"] == "s3cr3t/x.yml"
    with pytest.raises(
        ParameterError, match=r"bad value \(a value from the environment\)\. Expected int\. Next: "
    ) as error:
        check_parameters(notebook, {"sample_rows": f"${{{VARIABLE}}}"}, "config.yml")
    assert "s3cr3t" not in str(error.value)
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(ParameterError, match=f"{VARIABLE} is not set. Next: export {VARIABLE}="):
        check_parameters(notebook, {"sample_rows": f"${{{VARIABLE}}}"}, "config.yml")


def test_a_config_keeps_what_is_written_for_a_notebook(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "text")
    monkeypatch.setenv("TEST_SECRET", "x")
    written = {"progress": f"${{{VARIABLE}}}", "run_dir": "007"}
    config = load_config(small_config(tmp_path, parameters={"run_inference": written, "report": {"run_dir": None}}))
    assert parameters_of_all(config)["03_run_inference"] == written
    assert config.public_data()["parameters"]["run_inference"] == written
    path = small_config(tmp_path, parameters={"run_inference": {"progress": ["x"]}})
    with pytest.raises(
        ConfigError, match=r"progress: bad value .*\. Expected text, a number, true, false or nothing\. Next: "
    ) as error:
        load_config(path)
    assert len(str(error.value).splitlines()) == 1


def test_papermills_command_line_gives_text_as_it_was_written_and_saves_no_secret(tmp_path, monkeypatch):
    """The real command: papermill itself makes 7 of 007, 100000.0 of 1e5 and nothing of None."""
    cell = 'a: str = ""\nb: str = ""\nc: str = "x"\nd: str = ""\ne: int = 1'
    work = "from helpers.series.parameters import coerce_parameters\ncoerce_parameters(globals())\n(a, b, c, len(d), e)"
    cells = [nbformat.v4.new_code_cell(cell, metadata={"tags": ["parameters"]}), nbformat.v4.new_code_cell(work)]
    kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "in.ipynb")
    monkeypatch.setenv(VARIABLE, "s3cr3t")
    given = {"a": "007", "b": "1e5", "c": "None", "d": f"${{{VARIABLE}}}", "e": "7"}
    command = [str(Path(sys.executable).with_name("papermill")), "in.ipynb", "out.ipynb", "--no-progress-bar"]
    words = [word for name, value in given.items() for word in ("-p", name, value)]
    subprocess.run([*command, *words], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    saved = (tmp_path / "out.ipynb").read_text()
    outputs = nbformat.reads(saved, 4).cells[-1]["outputs"]
    assert outputs[-1]["data"]["text/plain"] == "('007', '1e5', '', 6, 7)"
    assert "s3cr3t" not in saved and f"${{{VARIABLE}}}" in saved
