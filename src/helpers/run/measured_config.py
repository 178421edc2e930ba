"""What of a config decides what was measured, and when a run may continue with another one.

SLO, traffic, prices, the scorer and gate of `quality`, and a judge that has judged nothing may change between measuring and
judging, but not the shares in which a mix was sent. All else may change only where nothing was measured with it: an option whose
first request failed is corrected in the config, and the same run continues.
The run's own config.yml is what a config is compared with. Both are read by this version, so that a key which is newer than
the run has its default in both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.file import LoadedConfig, load_config
from helpers.config.secret_names import SECRET_NAME
from helpers.config.strict import slug
from helpers.errors import RunFolderError
from helpers.run.holding import holding
from helpers.run.ledger import Ledger

if TYPE_CHECKING:
    from helpers.run.folder import RunFolder

SECTIONS = [
    "seed",
    "model",
    "prompts",
    "datasets",
    "generation",
    "options",
    "load",
    "traffic.mix",
    "quality",
    "endpoints.replicates",
]
NEVER_THERE = ("planned", "waiting", "refused", "external")
"""States of the ledger in which a run has made nothing that it would have to delete."""


def is_corrected(config: LoadedConfig, run: RunFolder) -> bool:
    """True where the config differs from the run's, but in nothing that was measured; forgets what was made of that so far."""
    sections, options = _changes(config, run)
    if not sections:
        return False
    measured = {file.name.partition("__")[0] for file in run.requests.glob("*.parquet")}
    if measured and (sections != ["options"] or measured & options):
        return False
    ledger = Ledger(run.ledger_file, run.run_id)
    records = [record for record in ledger.records() if slug(record.option) in options or not measured]
    if any(record.state not in (*NEVER_THERE, "deleted") for record in records):
        return False
    with holding(run.path, "notebook 01"):
        ledger.forget([record.option for record in records if record.state in NEVER_THERE])
        has_decided = measured and config.benchmark.load.race.enabled  # by a limit that single requests have set
        for file in () if has_decided else run.folder("single_requests").glob("*.parquet"):
            if not measured or file.name.partition("__")[0] in options:
                file.unlink()
        for file in () if measured else run.payloads.glob("*.parquet"):
            file.unlink()
    return True


def refuse_other_measurement(config: LoadedConfig, run: RunFolder) -> None:
    """Raises RunFolderError where the run was started with another model, workload or set of options."""
    changed, _ = _changes(config, run)
    if changed:
        raise RunFolderError(
            f"{run.path}: was started with other values of {', '.join(changed)} than {config.path} has now. "
            "Next: start a new run (empty run_dir), or restore these sections; compare with config.yml in the run folder. "
            "Where nothing of what you changed was measured, and no endpoint of it is left, make report "
            f"RUN={run.path} continues with the new values"
        )


def _changes(config: LoadedConfig, run: RunFolder) -> tuple[list[str], set[str]]:
    """The sections that differ from those of the run, and the slugs of the options that do."""
    has_judged = any((run.path / "quality").glob("*.judged.*"))
    both = config.benchmark, load_config(run.path / "config.yml").benchmark
    now, then = (_measured(each, has_judged) for each in both)
    options, before = ({option["name"]: option for option in each["options"]} for each in (now, then))
    differing = {slug(name) for name in options.keys() | before.keys() if options.get(name) != before.get(name)}
    return [name for name in SECTIONS if now[name] != then[name]], differing


def _measured(config: BenchmarkConfig, has_judged: bool) -> dict:
    """What decides the measurements: without prices and where options come from, and with blanks for secrets."""
    data = config.model_dump(mode="json")
    data["traffic.mix"] = None if config.load.mix is None else config.shares_of_parts()  # what was sent together
    if data["quality"]:
        if data["quality"]["judge"] is not None:
            data["quality"]["judge"]["model"].pop("price", None)
        for name in ("scorer", "gate", *(() if has_judged else ("judge",))):
            del data["quality"][name]
    _forget_secrets(data["quality"] or {})
    for option in data["options"]:
        option.pop("price", None)
        option.pop("other_prices", None)
        option.pop("from_matrix", None)
        _forget_secrets(option)
    return data | {"endpoints.replicates": config.endpoints.replicates}


def _forget_secrets(section: dict) -> None:
    """Blank out what may change without changing what is measured: keys, tokens and passwords."""
    for name, value in section.items():
        if isinstance(value, dict):
            _forget_secrets(value)
        elif isinstance(value, str) and SECRET_NAME.search(name):
            section[name] = ""
