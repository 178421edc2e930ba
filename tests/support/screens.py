"""Pictures of the report page, of four verdicts and on three screens: docs/screens/*.png, as a reader first sees them.

    .venv/bin/python tests/support/screens.py RUN

`RUN` is the folder of a finished run of the quickstart, which is copied, not changed. The tie is of two options with equal
results, the page without a feasible option is the same run under a limit that nothing meets, and six options on five
datasets are imported from the raw data of the report of 2024, where these are at hand. What limits each option is a section
of the same run.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path

import papermill
import result_files as files
import yaml
from headless import chromium
from PIL import Image
from reference_page import CONFIG as REFERENCE_CONFIG
from reference_page import REFERENCE

from helpers.config.benchmark import PROJECT_ROOT
from helpers.series.series import READING_NOTEBOOKS, run_import

SCREENS = PROJECT_ROOT / "docs" / "screens"
WIDE = {"viewport": {"width": 1500, "height": 1500}}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2}
COLOURS = 256
"""Of a picture, in a third of the bytes; the method keeps colours that few pixels have, as those of marks are."""


LIMITS = "What limits each option?"
BETWEEN_HEADINGS = """(title) => {
    const headings = [...document.querySelectorAll("h2")], at = headings.findIndex((one) => one.textContent.includes(title));
    if (at < 0) return null;
    const [y, end] = headings.slice(at, at + 2).map((one) => one.getBoundingClientRect().top + scrollY - 20);
    return {x: 0, y, width: innerWidth, height: (end ?? document.body.scrollHeight) - y};
}"""


def report_again(run: Path, folder: Path, **slo: float) -> Path:
    """The page of a copy of a run, with other limits if any are given."""
    copy = folder / run.name
    shutil.copytree(run, copy)
    config = yaml.safe_load((copy / "config.yml").read_text(encoding="utf-8"))
    config["slo"] |= slo
    path = folder / "config.yml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    for name in READING_NOTEBOOKS:
        notebook = PROJECT_ROOT / "notebooks" / f"{name}.ipynb"
        papermill.execute_notebook(
            notebook,
            copy / "notebooks" / notebook.name,
            parameters={"config_path": str(path), "run_dir": str(copy)},
            cwd=notebook.parent,
            progress_bar=False,
        )
    return copy / "report.html"


def tie(folder: Path) -> Path:
    """The page of two options with equal results at three loads."""
    loads = (2, 4, 8)
    names = [f"results-{load}.json" for load in loads]
    for load, name in zip(loads, names, strict=True):
        sent = files.closed_loop(load, 60, lambda i, load=load: (0.3 + 0.05 * load) * (1 + 0.05 * (i * 7 % 11)))
        files.write_json(folder / name, files.vllm(sent, max_concurrency=load))
    options = [files.option(name, "vllm", names) for name in ("ml.g5.12xlarge, vLLM", "ml.g5.12xlarge, SGLang")]
    load = {"kind": "closed_loop", "concurrency": list(loads)}
    return run_import(str(files.write_config(folder, *options, load=load))).path / "report.html"


def write_picture(browser, page: Path, name: str, context: dict, section: str | None = None) -> None:
    """The first screen of a page, or a section of it with this title; nothing where it has none."""
    opened = browser.new_page(**context)
    opened.goto(page.as_uri())
    clip = None if section is None else opened.evaluate(BETWEEN_HEADINGS, section)
    if section is None or clip is not None:
        shot = Image.open(io.BytesIO(opened.screenshot(clip=clip, full_page=clip is not None))).convert("RGB")
        shot.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            SCREENS / f"{name}.png", optimize=True
        )
    opened.close()


def main(run: Path) -> None:
    """Write all pictures that there are data for."""
    SCREENS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as root, chromium() as browser:
        folders = {name: Path(root) / name for name in ("quickstart", "tie", "none_feasible")}
        for folder in folders.values():
            folder.mkdir()
        pages = {
            "quickstart": report_again(run, folders["quickstart"]),
            "tie": tie(folders["tie"]),
            "none_feasible": report_again(run, folders["none_feasible"], latency_s=0.001),
        }
        if REFERENCE.is_dir():
            pages["six_by_five"] = run_import(str(REFERENCE_CONFIG)).path / "report.html"
        for name, page in pages.items():
            write_picture(browser, page, name, WIDE)
        write_picture(browser, pages["quickstart"], "limits", WIDE, LIMITS)
        write_picture(browser, pages["quickstart"], "quickstart_phone", PHONE)
        write_picture(browser, pages["quickstart"], "quickstart_dark", {**WIDE, "color_scheme": "dark"})


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
