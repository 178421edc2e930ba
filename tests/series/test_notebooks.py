"""Hygiene of the committed notebooks: they read like a short article and hold no logic."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import papermill
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
LONGEST_CELL_LINES = 15


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return json.loads(request.param.read_text(encoding="utf-8"))


def source(cell: dict) -> str:
    return "".join(cell["source"])


def code_cells(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_there_are_five_in_order():
    assert [path.stem[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05"]


def test_committed_without_outputs(notebook):
    assert [cell for cell in code_cells(notebook) if cell["outputs"] or cell["execution_count"]] == []
    assert "papermill" not in json.dumps(notebook["metadata"])


def test_one_title_that_asks_and_a_guide_in_the_first_cell(notebook):
    titles = [
        line
        for cell in notebook["cells"]
        if cell["cell_type"] == "markdown"
        for line in source(cell).splitlines()
        if line.startswith("# ")
    ]
    assert len(titles) == 1
    assert titles[0].endswith("?")
    first = source(notebook["cells"][0])
    assert first.startswith(titles[0])
    for word in ("**Reads**", "**Writes**", "**Takes**"):
        assert word in first


def test_links_between_notebooks_lead_somewhere(notebook):
    links = re.findall(r"\]\(([^)]+\.ipynb)\)", source(notebook["cells"][0]))
    assert links
    assert all((NOTEBOOKS[0].parent / link).is_file() for link in links)


def test_parameters_are_typed_literals_with_help(notebook):
    (cell,) = [cell for cell in code_cells(notebook) if "parameters" in cell["metadata"].get("tags", [])]
    assert cell is code_cells(notebook)[0]
    for line in source(cell).splitlines():
        statement = ast.parse(line).body[0]
        assert isinstance(statement, ast.AnnAssign), line
        assert isinstance(statement.value, ast.Constant), line
        assert "  # " in line, f"no help: {line}"


def test_cells_are_short_and_define_nothing(notebook):
    for cell in code_cells(notebook):
        tree = ast.parse(source(cell))
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda)]
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.For | ast.While | ast.If | ast.Try)]
        assert len(source(cell).splitlines()) <= LONGEST_CELL_LINES
        assert "sys.path" not in source(cell)
        assert "pip install" not in source(cell)


def test_ends_with_checks_and_what_was_written(notebook):
    text = "\n".join(source(cell) for cell in notebook["cells"])
    assert text.index("## Is it right?") < text.index("## What was written?")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_papermill_knows_name_type_default_and_help_of_every_parameter(path):
    for name, parameter in papermill.inspect_notebook(str(path)).items():
        assert parameter["inferred_type_name"] in ("str", "int", "float", "bool"), name
        assert parameter["help"], name
