"""Runs the five notebooks in order through papermill, and always deletes what they deployed.

If a config imports other tools' results, there is nothing to deploy or to send: the results are read, and only the
analysis and report notebooks run. All parameters of all notebooks are checked before the first one starts. Executed
copies are kept in the run folder, including that of a failed notebook, as evidence.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from helpers.config.benchmark import PROJECT_ROOT
from helpers.config.file import LoadedConfig, load_config
from helpers.endpoints.teardown import delete_remaining
from helpers.endpoints.watchdog import end_processes, guarded
from helpers.errors import NoOptionLeft, NotebookFailed, ParameterError, RunFolderError
from helpers.run.folder import RunFolder, new_run, open_run, run_to_continue
from helpers.run.holding import holding
from helpers.run.ledger import Ledger
from helpers.run.remote import store_run
from helpers.series.parameters import Scalar, check_parameters, coerce
from helpers.series.publish import REPORT_NOTEBOOK, execute, write_report

NOTEBOOK_DIR = PROJECT_ROOT / "notebooks"
NOTEBOOKS = ("01_generate_data", "02_deploy_endpoints", "03_run_inference", "04_analyse_metrics", "05_report")
READING_NOTEBOOKS = NOTEBOOKS[3:]
"""Notebooks that only read what was measured."""
REPORTED_ALL_THE_SAME = ("BudgetExceeded", "NoOptionLeft")
"""Errors of notebooks 02 and 03 after which a report is still useful: on what was measured, or on why nothing was."""
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
RAISE_AGAIN_S = 10.0
BATCH_DEFAULTS = {"run_inference": {"progress": "text"}, "analyse_metrics": {"explore": False}}
Say = Callable[[str], None]


def run_series(
    config_path: str, run_dir: str = "", say: Say = print, began: Callable[[RunFolder], None] = lambda run: None
) -> RunFolder:
    """Run all notebooks on a config; returns the run folder. An existing `run_dir` continues that run.

    `began` is given the folder as soon as there is one.

    Raises ConfigError or ParameterError before anything starts, NotebookFailed when a notebook stops; endpoints are
    deleted in every case (TeardownError lists those that could not be). If the budget is reached or nothing could be measured,
    the available results are reported before NotebookFailed is raised.
    """
    config = load_config(config_path)
    parameters = parameters_of_all(config)
    run = run_to_continue(config, run_dir) if run_dir else new_run(config)
    began(run)
    say(f"Run {run.run_id}")
    with _resumable(run, say):
        with guarded(run, "make report"), _stoppable(), _storing(run, say), _teardown_after(config, run, say):
            stopped = _run_notebooks(config, parameters, run, say)
        if stopped is None or stopped.error_name != NoOptionLeft.__name__:  # whose message lists all of them
            _say_failures(run, say)
        if stopped is None or (run.path / "report.md").is_file():
            _say_where(run, say)
        if stopped:
            raise stopped
    return run


def _run_notebooks(
    config: LoadedConfig, parameters: dict[str, dict[str, Scalar]], run: RunFolder, say: Say
) -> NotebookFailed | None:
    """Run all notebooks; returns the error of one that stopped if the available results were reported nevertheless.

    If they cannot be, as nothing was measured before the budget was reached, that error is raised: it is why.
    """
    always = {"config_path": str(config.path), "run_dir": str(run.path)}
    stopped: NotebookFailed | None = None
    for name in NOTEBOOKS:
        if stopped is None or name in READING_NOTEBOOKS:
            try:
                _execute(name, {**parameters[name], **always}, run, say)
            except NotebookFailed as error:
                if error.error_name in REPORTED_ALL_THE_SAME:
                    stopped = error
                elif stopped is None:
                    raise
                else:
                    raise stopped from error
    return stopped


def run_import(
    config_path: str, run_dir: str = "", say: Say = print, began: Callable[[RunFolder], None] = lambda run: None
) -> RunFolder:
    """Read the results of other tools that a config names into a new run (or `run_dir`), analyse and report them.

    Raises ConfigError, ParameterError or ResultFileError before a run folder is made, NotebookFailed when a notebook stops.
    """
    from helpers.importers.importing import read_results, write_results

    config = load_config(config_path)
    parameters = parameters_of_all(config)
    results = read_results(config)
    _, run = open_run(str(config.path), run_dir, new=True)
    began(run)
    say(f"Run {run.run_id}")
    with holding(run.path, "make import"), _stoppable(), _storing(run, say):
        for line in write_results(results, config.benchmark, run):
            say(f"  {line}")
        for name in READING_NOTEBOOKS:
            _execute(name, {**parameters[name], "config_path": str(config.path), "run_dir": str(run.path)}, run, say)
    _say_where(run, say)
    return run


def _say_failures(run: RunFolder, say: Say) -> None:
    """Options that failed, each with its cause and next step."""
    for record in Ledger(run.ledger_file, run.run_id).records():
        if record.failure:
            say(f"\nFailed: {record.failure}")


def _say_where(run: RunFolder, say: Say) -> None:
    say(
        f"\nReport    {run.path / 'report.html'}\nMarkdown  {run.path / 'report.md'}\nVerdict   {run.path / 'verdict.json'}"
    )


def parameters_of_all(config: LoadedConfig) -> dict[str, dict[str, Scalar]]:
    """Notebook -> parameters that the config gives for it; refuses names that a notebook does not take."""
    given = config.benchmark.parameters
    identities = {identity(name): name for name in NOTEBOOKS}
    for unknown in set(given) - set(identities):
        raise ParameterError(
            f"{config.path}: parameters.{unknown}: no such notebook. Expected one of: {', '.join(identities)}. Next: "
            "correct or delete it"
        )
    parameters = {}
    for notebook_identity, name in identities.items():
        values = {**BATCH_DEFAULTS.get(notebook_identity, {}), **given.get(notebook_identity, {})}
        always = {"config_path": "", "run_dir": ""}
        check_parameters(
            NOTEBOOK_DIR / f"{name}.ipynb", {**always, **values}, f"{config.path}: parameters.{notebook_identity}"
        )
        parameters[name] = values
    return parameters


def identity(notebook: str) -> str:
    """A notebook's name without its number."""
    return notebook.split("_", 1)[1]


def _execute(name: str, parameters: dict[str, Scalar], run: RunFolder, say: Say) -> None:
    from nbclient.exceptions import CellExecutionError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    output = run.folder("notebooks") / f"{name}.ipynb"
    is_published = name == REPORT_NOTEBOOK.stem and coerce("publish", parameters.get("publish", True), bool, name)
    started = time.monotonic()
    try:
        given = {**parameters, "publish": False} if is_published else parameters
        execute(NOTEBOOK_DIR / f"{name}.ipynb", output, given, _Lines(say))
    except (PapermillExecutionError, CellExecutionError) as error:
        words = f"{name} stopped: {error.ename}: {error.evalue}\nSaved up to that cell: {output}"
        raise NotebookFailed(words, error.ename) from None
    except DeadKernelError as error:
        raise NotebookFailed(f"{name} stopped: its kernel died ({error})\nSaved up to that cell: {output}") from None
    if is_published:
        write_report(output, run)
    cost = Ledger(run.ledger_file, run.run_id).cost_usd()
    say(f"  {name:<20} {time.monotonic() - started:6.1f} s   ${cost:.2f} so far")
    _store_so_far(run, say)


@contextmanager
def _resumable(run: RunFolder, say: Say) -> Iterator[None]:
    """If the series is interrupted, say how to continue."""
    try:
        yield
    except BaseException:
        say(
            f"Finished load points are kept in {run.path}. Next: make report RUN={run.path} continues with what is missing"
        )
        raise


class _Lines:
    """A file that passes on complete lines: what a notebook prints while it runs."""

    def __init__(self, say: Say) -> None:
        self._say, self._rest = say, ""

    def write(self, words: str) -> None:
        *lines, self._rest = (self._rest + words).split("\n")
        for line in lines:
            self._say(f"  {line}")

    def flush(self) -> None:
        """Does nothing: a line is passed on when it is complete."""


@contextmanager
def _storing(run: RunFolder, say: Say) -> Iterator[None]:
    """Upload what was written to the run's copy in S3, also after an error, which is then the one raised."""
    try:
        yield
    except BaseException:
        _store_so_far(run, say)
        raise
    if stored := store_run(run.path):
        say(stored)


def _store_so_far(run: RunFolder, say: Say) -> None:
    try:
        store_run(run.path)
    except (RunFolderError, OSError) as error:
        say(f"  Warning: {error}")


@contextmanager
def _teardown_after(config: LoadedConfig, run: RunFolder, say: Say) -> Iterator[None]:
    """Delete everything in the ledger, also after an error or Ctrl-C, unless the config keeps endpoints."""
    finished = False
    try:
        yield
        finished = True
    finally:
        with _not_interrupted(say):
            if not finished:
                end_processes(run)
            _delete_or_keep(run, say, keep=finished and config.benchmark.endpoints.keep)


def _delete_or_keep(run: RunFolder, say: Say, keep: bool) -> None:
    remaining = Ledger(run.ledger_file, run.run_id).remaining()
    if keep:
        for record in remaining:
            say(f"Kept, and costing money: {record.endpoint_name}. Next: make cleanup RUN={run.path}")
        return
    if remaining:
        say(f"Deleting {', '.join(record.endpoint_name for record in remaining)} ...")
    delete_remaining(run)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP unwind the stack, so that teardown runs and notices are sent.

    A library may swallow an exception that is raised inside it (in a callback or a finaliser), so it is raised again
    every ten seconds until teardown starts, or the series ends.
    """
    wanted: list[int] = []

    def stop(signum: int, frame: FrameType | None) -> None:
        if signum != signal.SIGALRM:
            wanted.append(signum)
        signal.setitimer(signal.ITIMER_REAL, RAISE_AGAIN_S)
        raise KeyboardInterrupt if wanted[0] == signal.SIGINT else SystemExit(128 + wanted[0])

    with _handling((*STOP_SIGNALS, signal.SIGALRM), stop):
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


@contextmanager
def _not_interrupted(say: Say) -> Iterator[None]:
    """Ignore Ctrl-C, SIGTERM and SIGHUP: half-deleted resources still cost money."""

    def explain(signum: int, frame: FrameType | None) -> None:
        say("Still deleting endpoints")

    with _handling(STOP_SIGNALS, explain):
        signal.setitimer(signal.ITIMER_REAL, 0)
        yield


@contextmanager
def _handling(signals: Sequence[int], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
