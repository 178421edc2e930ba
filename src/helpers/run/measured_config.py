"""What of a config decides what was measured, and when a run may go on with another one.

SLO, traffic and prices may change between measuring and judging. All else may change only where nothing was measured with it:
an option whose first request failed is corrected in the config, and the same run goes on.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from helpers.config.benchmark import BenchmarkConfig, slug
from helpers.config.secret_names import SECRET_NAME
from helpers.errors import RunFolderError
from helpers.run.holding import holding
from helpers.run.ledger import Ledger

if TYPE_CHECKING:
    from helpers.config.file import LoadedConfig
    from helpers.run.folder import RunFolder

SECTIONS = ("seed", "model", "prompts", "datasets", "generation", "options", "load")
BY_SECTION, BY_OPTION = "measured_digests", "option_digests"
NEVER_THERE = ("planned", "waiting", "refused", "external")
"""States of the ledger in which a run has made nothing that it would have to delete."""


def measured_digests(config: BenchmarkConfig) -> dict[str, dict[str, str]]:
    """What run.json keeps of a config: a digest of each section and of each option; prices do not count."""
    data = config.model_dump(mode="json")
    if not data["load"]["race"]["enabled"]:  # runs of before there was a race stay the same
        data["load"].pop("race")
    for option in data["options"]:
        option.pop("price", None)
        option.pop("other_prices", None)
        for name in ("headers", "omit_body_keys"):  # runs of before there were such keys stay the same
            if not option.get(name):
                option.pop(name, None)
        _forget_secrets(option)
    return {
        BY_SECTION: {name: _digest(data[name]) for name in SECTIONS},
        BY_OPTION: {option["name"]: _digest(option) for option in data["options"]},
    }


def is_corrected(config: BenchmarkConfig, run: RunFolder, about: dict) -> bool:
    """True where the config differs from the run's, but in nothing that was measured; forgets what was made of that so far."""
    sections, options = _changes(config, about)
    if not sections:
        return False
    measured = {file.name.partition("__")[0] for file in run.requests.glob("*.parquet")}
    if measured and (sections != ["options"] or BY_OPTION not in about or measured & options):
        return False
    ledger = Ledger(run.ledger_file, run.run_id)
    records = [record for record in ledger.records() if slug(record.option) in options or not measured]
    if any(record.state not in (*NEVER_THERE, "deleted") for record in records):
        return False
    with holding(run.path, "notebook 01"):
        ledger.forget([record.option for record in records if record.state in NEVER_THERE])
        for file in run.folder("single_requests").glob("*.parquet"):
            if not measured or file.name.partition("__")[0] in options:
                file.unlink()
        for file in () if measured else run.payloads.glob("*.parquet"):
            file.unlink()
    return True


def refuse_other_measurement(config: LoadedConfig, run: RunFolder, about: dict) -> None:
    """Raises RunFolderError where the run was begun with another model, workload or set of options."""
    changed, _ = _changes(config.benchmark, about)
    if changed:
        raise RunFolderError(
            f"{run.path}: was begun with other values of {', '.join(changed)} than {config.path} has now. "
            "Next: start a new run (empty run_dir), or restore these sections; compare with config.yml in the run folder. "
            "Where nothing of what you changed was measured, and no endpoint of it is left, make report "
            f"RUN={run.path} goes on with the new values"
        )


def _changes(config: BenchmarkConfig, about: dict) -> tuple[list[str], set[str]]:
    """The sections that differ, and the options, as they stand in file names; all, of a run that kept no digests of them."""
    now = measured_digests(config)
    sections = [name for name, digest in now[BY_SECTION].items() if about[BY_SECTION].get(name) != digest]
    before, after = about.get(BY_OPTION, {}), now[BY_OPTION]
    return sections, {slug(name) for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def _digest(data: object) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def _forget_secrets(section: dict) -> None:
    """Blank out what may change without changing what is measured: keys, tokens and passwords."""
    for name, value in section.items():
        if isinstance(value, dict):
            _forget_secrets(value)
        elif isinstance(value, str) and SECRET_NAME.search(name):
            section[name] = ""
