"""How it was measured: machine and versions, how to compute it again, what the words mean, and which files there are."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig
from helpers.config.file import LoadedConfig
from helpers.endpoints.quality_pass import lacks_answers
from helpers.errors import RunFolderError
from helpers.load.plan import missing_attempts
from helpers.report.comparing import quoted
from helpers.report.display import NO_FORMULAS, Html, Markdown, Prose, code
from helpers.run.folder import LOCAL_ROOT, RunFolder
from helpers.run.ledger import Ledger
from helpers.run.remote import store_run

TABLES_FOLDER = "tables"
"""Where the tables of the report are in the run folder, as files."""


def machine_and_versions(run: RunFolder) -> Prose:
    """Where the notebooks ran, and with what."""
    about = run.about()
    machine = about["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return Prose(
        Markdown("* Machine that the notebooks ran on: {}, {}, {} GiB, {}\n* Python {}, {}").format(
            machine["cpu"],
            text.plural(machine["vcpus"], "vCPU"),
            text.number(machine["memory_gib"], 1),
            machine["system"],
            machine["python"],
            versions,
        )
    )


def how_to_recompute(run: RunFolder, config: BenchmarkConfig) -> Prose:
    """The command that computes this verdict again, and what it does beside that."""
    command = code(f"make report RUN={run.run_id if run.path.parent == LOCAL_ROOT else run.path}")
    if config.imported:
        return Prose(Markdown("To compute this verdict again from the imported result files: {}.").format(command))
    ledger = Ledger(run.ledger_file, run.run_id)
    missing = [
        o.name for o in config.options if missing_attempts(o, config, run) or lacks_answers(o, config, run, ledger)
    ]
    if missing:
        said = Markdown(
            "{} first measures what is missing of {}, and then computes this verdict again from all request records."
        )
        return Prose(said.format(command, Markdown(", ").join(map(quoted, missing))))
    said = Markdown(
        "To compute this verdict again from the request records: {}. It needs no server, and sends no request."
    )
    return Prose(said.format(command))


def table_files() -> Prose:
    """Where the tables of the report are as files."""
    said = "All tables, numbers unrounded: [{}](tables/tables.xlsx), and each as CSV in `{}`."
    return Prose(Markdown(said).format(f"{TABLES_FOLDER}/tables.xlsx", TABLES_FOLDER))


def resolved_config(config: LoadedConfig) -> Html:
    """The whole config, defaults filled in, secrets left as ${NAME}."""
    details = Markup('<details><summary>The whole configuration</summary><pre class="{}">{}</pre></details>')
    return Html(details.format(NO_FORMULAS, config.public_yaml()))


def definitions() -> Prose:
    """The formulas of the metrics."""
    terms = (
        "| term | definition |\n| --- | --- |\n"
        "| send | when a request was sent (closed loop, and the later turns of a session), or was to be sent by the schedule "
        "(open loop): a stalled client cannot hide a stall |\n"
        "| TTFT | time to first token: first visible text − send |\n"
        "| TTFA | time to first token of the answer: first visible text behind the thinking of a reasoning model − send; without "
        "thinking the same as TTFT |\n"
        "| latency | end-to-end: last token − send |\n"
        "| TPOT | time per output token: (last token − first token) ÷ (output tokens − 1) |\n"
        "| p95 | 95% of the requests were at most this slow; a failed request counts as infinitely slow |\n"
        "| requests/s | successes sent in the steady window ÷ its length |\n"
        "| closed loop | a number of workers (the concurrency), each sends when its last answer ended; users of conversations "
        "think first |\n"
        "| open loop | requests come by a schedule, however slow the answers |\n"
        "| in flight, mean | time that requests were in flight within the window ÷ its length (Little's law) |\n"
        "| steady window | the measured part of a load point, after the warm-up that was detected and before the drain |\n"
        "| steady | latency neither drifts nor varies too much over the window, where a failure counts as no longer than the "
        "longest answer; else a load point shows no SLO to be met |\n"
        "| schedule lag | sent − scheduled |\n"
        "| gap CV | standard deviation of the gaps between sends ÷ their mean: 0 evenly spaced, 1 Poisson |\n"
        "| dispersion | variance ÷ mean of the sends per short window: 1 Poisson, more in bursts |\n"
        "| hit rate | share of the prompt tokens that a prefix cache holds: asked for, sent, or found by the server |\n"
        "| client-limited | the load generator, not the server, shaped the load point: it feeds no verdict |\n"
        "| SLO | service level objective: the latency and error limits of the config |\n"
        "| goodput | requests that succeeded and met every latency limit ÷ length of the window |\n"
        "| effective n | requests divided by how much they are alike (Kish's design effect): neighbours wait in the same "
        "queue, so n of them say less than n independent ones |\n"
        "| 95% interval | throughput and price: Student's t over repetitions, else over requests and their autocorrelation; "
        "percentiles: order statistics at the effective n |\n"
        "| interval at every look | the same in a race: wider, so that it holds however often the race looked |\n"
        "| meets the SLO | the upper (Clopper–Pearson) bound on the share of requests beyond the limit, at the effective n, "
        "allows it; or the limit is so far away that mean and standard deviation show it (Cantelli's inequality) |\n"
        "| requests/s served | closed loop: requests/s. Open loop in a steady state: the offered rate × the share that "
        "succeeds |\n"
        "| tied | not shown to cost more than the cheapest: the distances from both prices to their bounds add as squares, so "
        "intervals may overlap a little though a difference is shown |\n"
    )
    return Prose(Markdown(terms))


def written_files(run: RunFolder, *names: str) -> Prose:
    """The files that a notebook wrote, with their sizes; where the run has a copy in S3, all that changed is brought there."""
    lines = []
    for name in names:
        path = run.path / name
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        size = sum(file.stat().st_size for file in files)
        what = text.plural(len(files), "file") if path.is_dir() else "file"
        lines.append(
            Markdown("* {}: {}, {} KiB").format(code(Path(run.run_id) / name), what, text.number(size / 1024, 1))
        )
    try:
        stored = store_run(run.path)
    except RunFolderError as error:  # what was measured is here: the run goes on
        stored = Markdown("**Warning**: {}").format(error)
    return Prose(Markdown("\n").join([*lines, *(["", stored] if stored else [])]))
