"""Notebooks 04 and 05 on a run, cell by cell in this process: what a reader is shown, without a kernel."""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass

from helpers.config.benchmark import PROJECT_ROOT
from helpers.config.file import LoadedConfig
from helpers.importers.importing import read_results, write_results
from helpers.run.folder import RunFolder, open_run
from helpers.verdict.analysis import read_verdict
from helpers.verdict.verdict import OptionVerdict, Verdict

NOTEBOOKS = ("04_analyse_metrics", "05_report")


@dataclass(frozen=True)
class Rendered:
    """What a reader is shown of a run."""

    run: RunFolder
    verdict: Verdict
    text: str
    """Of all cells, as plain text."""

    @property
    def option(self) -> OptionVerdict:
        """The first option's verdict."""
        return self.verdict.options[0]

    def warnings(self, kind: str) -> str:
        """Messages and rows of the warnings of a kind; empty where there is none."""
        found = [warning for warning in self.verdict.warnings if warning.kind == kind]
        return "\n".join(line for warning in found for line in (warning.message, *warning.rows))

    def figure(self, name: str) -> str:
        """A figure's SVG."""
        return (self.run.figures / f"{name}.svg").read_text(encoding="utf-8")


def import_and_render(config: LoadedConfig) -> Rendered:
    """Import the results of a config and show all that its report shows."""
    results = read_results(config)
    _, run = open_run(str(config.path), new=True)
    write_results(results, config.benchmark, run)
    return render(config, run)


def render(config: LoadedConfig, run: RunFolder) -> Rendered:
    """Run both notebooks on a run folder that holds measurements."""
    shown = [text for name in NOTEBOOKS for text in _cells_of(name, str(config.path), str(run.path))]
    return Rendered(run, read_verdict(run), "\n".join(shown))


def _cells_of(name: str, config_path: str, run_dir: str) -> list[str]:
    notebook = json.loads((PROJECT_ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
    sources = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    state: dict = {"__name__": "__main__"}
    shown = []
    for i, source in enumerate(sources):
        value = _run_cell(source, state)
        if i == 0:
            state |= {"config_path": config_path, "run_dir": run_dir}
            state |= {key: False for key in ("explore", "publish") if key in state}
        forms = [getattr(value, form)() for form in ("_repr_html_", "_repr_markdown_") if hasattr(value, form)]
        shown += forms[-1:]
    return shown


def _run_cell(source: str, state: dict) -> object:
    """The value of a cell's last line, as a notebook shows it."""
    body = ast.parse(source).body
    last = body.pop() if isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), "cell", "exec"), state)
    return None if last is None else eval(compile(ast.Expression(last.value), "cell", "eval"), state)
