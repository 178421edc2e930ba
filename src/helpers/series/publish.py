"""The report is the report notebook, executed without the step that publishes it.

The series runner executes it so and writes the page. In Jupyter, and by papermill alone, the notebook executes itself once more:
so the page is the same whoever ran it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from helpers.config.benchmark import PROJECT_ROOT
from helpers.report.display import Markdown, Prose, code
from helpers.report.how_measured import TABLES_FOLDER
from helpers.run.folder import RunFolder
from helpers.series.page import write_page
from helpers.series.tables import write_tables

KERNEL_ARGUMENTS = ["--log-level=CRITICAL"]
"""A kernel warns at every start that its loopback sockets are not encrypted, and logs its normal exit as an error."""
REPORT_NOTEBOOK = PROJECT_ROOT / "notebooks" / "05_report.ipynb"


def execute(notebook: Path, output: Path, parameters: Mapping[str, object], stdout_file: object = None) -> None:
    """Execute a notebook where it is; the copy with its outputs is `output`. Raises what papermill and nbclient do."""
    import papermill

    papermill.execute_notebook(
        str(notebook),
        str(output),
        parameters=parameters,
        cwd=str(notebook.parent),
        extra_arguments=KERNEL_ARGUMENTS,
        progress_bar=False,
        stdout_file=stdout_file,
    )


def publish_report(run: RunFolder, config_path: str, publish: bool) -> Prose:
    """Write report.html, report.md and the tables as files; `publish` is false in the execution that is being published."""
    if not publish:
        return Prose("")
    executed = run.folder("notebooks") / ".report_source.ipynb"
    given = {"config_path": str(Path(config_path).resolve()), "run_dir": str(run.path), "publish": False}
    execute(REPORT_NOTEBOOK, executed, given)
    write_report(executed, run)
    executed.unlink()
    return Prose(Markdown("Report: {}").format(code(run.path / "report.html")))


def write_report(executed: Path, run: RunFolder) -> None:
    """Write report.html, report.md and the tables as files, from the executed report notebook."""
    write_page(executed, run.path / "report.html", run.path / "report.md")
    write_tables(executed, run.folder(TABLES_FOLDER))
