"""`python -m helpers`: the commands of the Makefile, for machines without make."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.config.benchmark import PROJECT_ROOT
from helpers.errors import ConfigError, ServingVerdictError
from helpers.verdict import exit_status
from helpers.verdict.gates import ALLOWED, Judged, judge_gates, read_gates

if TYPE_CHECKING:
    from helpers.run.folder import RunFolder

DEFAULT_CONFIG = "configs/quickstart.yml"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status, which the last line of `report`, `import` and `plan --check` explains."""
    parsed, judged = _parser().parse_args(arguments), None
    try:
        status = parsed.command(parsed)
        if isinstance(status, Judged):
            status, judged = status.status, status
    except ServingVerdictError as error:
        for one in (error.__context__, error):
            if isinstance(one, ServingVerdictError):
                print(f"\n{type(one).__name__}: {one}", file=sys.stderr)
        status = exit_status.status_of_error(error)
    except (KeyboardInterrupt, SystemExit) as stopped:
        if isinstance(stopped, KeyboardInterrupt):
            print("\nInterrupted.", file=sys.stderr)
        status = exit_status.status_of_error(stopped)
    if status is not None:
        sys.stdout.flush()
        words = judged.in_words() if judged else exit_status.in_words(status, of_check=parsed.command is _plan)
        print(words, file=sys.stderr)
    return status or 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m helpers",
        description=__doc__,
        epilog=f"exit status:\n{exit_status.table_of_statuses()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    report = commands.add_parser("report", help="run the five notebooks on a config and write the report")
    report.add_argument("--config", default="", help=f"default: {DEFAULT_CONFIG}, or the continued run's config")
    report.add_argument("--run-dir", default="", help="continue this run (id, folder or s3://...) with what is missing")
    report.set_defaults(command=_report)

    importing = commands.add_parser("import", help="report on results that other tools measured (docs/import.md)")
    importing.add_argument("--config", required=True)
    for command in (report, importing):
        command.add_argument(
            "--fail-if",
            action="append",
            default=[],
            metavar="CONDITION",
            help=f"exit with {exit_status.GATE} if this holds or is unknown; may be repeated: {ALLOWED}",
        )
    importing.set_defaults(command=_import)

    plan = commands.add_parser("plan", help="what a run would make and cost; makes nothing")
    plan.add_argument("--config", default=str(PROJECT_ROOT / DEFAULT_CONFIG))
    plan.add_argument(
        "--check",
        action="store_true",
        help="also read all files, draw the prompts, and send one request to each server",
    )
    plan.set_defaults(command=_plan)

    submit = commands.add_parser("submit", help="run the series as a job of SageMaker (docs/running.md)")
    submit.add_argument("--config", required=True)
    submit.set_defaults(command=_submit)

    follow = commands.add_parser("follow", help="show what a submitted job prints until it ends, and fetch its report")
    follow.add_argument("run", help="s3:// URL of its run")
    follow.set_defaults(command=_follow)

    in_job = commands.add_parser("in-job")  # what a submitted job runs
    in_job.add_argument("--config", required=True)
    in_job.add_argument("--run-dir", required=True)
    in_job.add_argument("--secret", action="append", default=[])
    in_job.set_defaults(command=_in_job)

    status = commands.add_parser("status", help="how far a run is, and who runs it")
    status.add_argument("run", help="run id, run folder or its s3:// URL")
    status.set_defaults(command=_status)

    history = commands.add_parser(
        "history", help="write a page on all runs of a config: verdicts, prices, what changed"
    )
    history.add_argument("--config", default=str(PROJECT_ROOT / DEFAULT_CONFIG))
    history.set_defaults(command=_history)

    cleanup = commands.add_parser("cleanup", help="delete a run's remaining resources")
    cleanup.add_argument("run", help="run id, run folder or its s3:// URL")
    cleanup.set_defaults(command=_cleanup)

    orphans = commands.add_parser("cleanup-orphans", help="list what runs left on SageMaker, by tag, and delete it")
    orphans.add_argument("--region", default="", help="default: the region of your AWS settings")
    orphans.add_argument("--expired", action="store_true", help="only resources past the time in their tag expires-at")
    orphans.add_argument("--yes", action="store_true", help="delete without asking")
    orphans.set_defaults(command=_cleanup_orphans)

    schema = commands.add_parser("schema", help="write the JSON schemas of config files and of verdict.json")
    schema.add_argument("--output", type=Path, default=PROJECT_ROOT / "configs" / "schema.json")
    schema.add_argument("--verdict-output", type=Path, default=PROJECT_ROOT / "docs" / "verdict.schema.json")
    schema.set_defaults(command=_schema)
    return parser


def _report(arguments: argparse.Namespace) -> Judged:
    """Measure and report; results that were measured elsewhere need no measuring, so they are imported."""
    from helpers.config.file import load_config
    from helpers.run.folder import config_of_run, find_run
    from helpers.series.series import run_import, run_series

    config, run_dir = arguments.config or str(PROJECT_ROOT / DEFAULT_CONFIG), arguments.run_dir
    if run_dir and not arguments.config:
        begun = find_run(run_dir)
        config, run_dir = str(config_of_run(begun)), str(begun.path)
    imported = load_config(config).benchmark.imported
    return _judged(run_import if imported else run_series, config, run_dir, arguments.fail_if)


def _import(arguments: argparse.Namespace) -> Judged:
    from helpers.series.series import run_import

    return _judged(run_import, arguments.config, "", arguments.fail_if)


def _judged(make: Callable[..., RunFolder], config: str, run_dir: str, fail_if: list[str]) -> Judged:
    """Make a run, and judge its gates, which are read before it starts; the config's `notify` hears how it ended."""
    from helpers.config.file import load_config
    from helpers.series.noticing import noticing
    from helpers.verdict.analysis import read_verdict
    from helpers.verdict.compare import read_comparison

    loaded = load_config(config)
    with noticing(loaded) as ending:
        gates = read_gates(fail_if, loaded.benchmark)
        try:
            run = make(config, run_dir, began=ending.began)
        except BaseException:
            if gates:
                print("\n--fail-if was not judged, because the run did not end with a verdict.", file=sys.stderr)
            raise
        verdict = read_verdict(run)
        ending.judged = Judged(verdict, judge_gates(gates, verdict, read_comparison(run)))
        for gate in ending.judged.gates:
            print(f"Gate  {gate}")
    return ending.judged


def _plan(arguments: argparse.Namespace) -> int | None:
    from helpers.config.file import load_config
    from helpers.endpoints.check import check
    from helpers.report.plan_machines import load_machines_table, machines_table, quota_table
    from helpers.report.plan_report import plan_table
    from helpers.series.series import parameters_of_all

    config = load_config(arguments.config)
    parameters_of_all(config)
    if config.benchmark.imported:
        print("Nothing would be deployed: every option is imported. Next: make import")
        return None
    for make_table in (plan_table, load_machines_table, machines_table, quota_table):
        table = make_table(config.benchmark)
        if table is not None:
            print(table.plain())
    if not arguments.check:
        return None
    checked = check(config)
    for line in checked.lines:
        print(line)
    return exit_status.VERDICT if checked.is_well else exit_status.NOTHING


def _submit(arguments: argparse.Namespace) -> None:
    from helpers.series.job import submit

    submit(arguments.config)


def _follow(arguments: argparse.Namespace) -> int | Judged:
    from helpers.series.following import follow

    return follow(arguments.run)


def _in_job(arguments: argparse.Namespace) -> int:
    from helpers.series.job import in_job

    secrets = dict(named.split("=", 1) for named in arguments.secret)
    return in_job(secrets, lambda: main(["report", "--config", arguments.config, "--run-dir", arguments.run_dir]))


def _status(arguments: argparse.Namespace) -> None:
    from helpers.run.folder import find_run
    from helpers.series.status import run_status

    print(run_status(find_run(arguments.run)).plain())


def _history(arguments: argparse.Namespace) -> None:
    from helpers.series.history import write_history

    path, summary = write_history(arguments.config)
    print(f"{summary}\n\nHistory   {path}")


def _cleanup(arguments: argparse.Namespace) -> None:
    from helpers.endpoints.teardown import delete_remaining
    from helpers.run.folder import find_run

    deleted = delete_remaining(find_run(arguments.run))
    for record in deleted:
        print(f"deleted {record.endpoint_name}")
    if not deleted:
        print("Nothing was left to delete.")


def _cleanup_orphans(arguments: argparse.Namespace) -> None:
    """List first; delete only after a person confirms."""
    from helpers.endpoints.orphans import delete_orphans, find_orphans
    from helpers.report.endpoint_tables import orphans_table
    from helpers.run.sessions import session_of_profile

    session = session_of_profile(None, None, arguments.region or None)
    if session.region_name is None:
        raise ConfigError(
            "no AWS region. Expected one in your AWS settings. Next: make cleanup-orphans REGION=us-east-1"
        )
    orphans = [orphan for orphan in find_orphans(session) if orphan.has_expired or not arguments.expired]
    if not orphans:
        print(f"Nothing {'that has expired ' if arguments.expired else ''}is left in {session.region_name}.")
        return
    print(orphans_table(orphans).plain())
    if not (arguments.yes or _confirmed(f"Delete these {len(orphans)} in {session.region_name}? Type yes: ")):
        print("Nothing was deleted.")
        return
    delete_orphans(orphans, session)
    print(f"Deleted {len(orphans)}.")


def _confirmed(question: str) -> bool:
    """True if a person at a terminal says yes."""
    if not sys.stdin.isatty():
        print("Cannot ask without a terminal. Next: look at the list, then run this again with --yes (make: YES=1)")
        return False
    return input(question).strip().lower() == "yes"


def _schema(arguments: argparse.Namespace) -> None:
    from helpers.config.file import config_schema
    from helpers.verdict.verdict import verdict_schema

    for path, schema in ((arguments.output, config_schema()), (arguments.verdict_output, verdict_schema())):
        path.write_text(schema, encoding="utf-8")
        print(path)


if __name__ == "__main__":
    sys.exit(main())
