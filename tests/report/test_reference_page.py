"""docs/reference_report.html: the report of January 2024 made again, and what it says of the differences, against the raw data.

The numbers are worked out here from all_metrics.csv and nothing else.
"""

from __future__ import annotations

import io
import json
import re
from collections import defaultdict
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import reference_page as page
import reference_rules as rules
import yaml
from bs4 import BeautifulSoup, Tag
from published_report import read_published

from helpers.__main__ import main
from helpers.config.benchmark import PROJECT_ROOT
from helpers.config.file import load_config
from helpers.number_text import number
from helpers.run.folder import RunFolder
from helpers.verdict.analysis import read_points

pytestmark = pytest.mark.skipif(
    not page.REFERENCE.is_dir(), reason=f"the reference measurements are not in {page.REFERENCE}"
)
G5, INF2_48, P4D = "g5.12xlarge, TGI 1.1.0", "inf2.48xlarge, DJL 0.24.0, SDK 2.14.1", "p4d.24xlarge, TGI 0.9.3"
LONG = "en_3000-4000"
Key = tuple[str, str, int]
"""Instance type, dataset, concurrency."""


# --- the raw data, without the project ----------------------------------------------------------------------------


def totals() -> dict[Key, dict[str, float]]:
    """Figures of every cell of all_metrics.csv, totals by totals."""
    prices = {
        row["instance_type"]: float(row["price_per_hour"])
        for row in rules.read_csv(page.REFERENCE / "instance_pricing_per_hour.csv")
    }
    cells = defaultdict(list)
    for row in rules.read_csv(page.REFERENCE / "all_metrics.csv"):
        dataset = row["payload_file"].removeprefix("payload_").removesuffix(".jsonl")
        cells[row["instance_type"], dataset, int(row["concurrency"])].append(row)
    return {key: _cell(rows, prices[key[0]]) for key, rows in cells.items()}


def _cell(rows: list[dict[str, str]], usd_per_hour: float) -> dict[str, float]:
    requests = sum(int(row["successes"]) for row in rows)
    prompt = sum(int(row["all_prompts_token_count"]) for row in rows)
    output = sum(int(row["all_completions_token_count"]) for row in rows)
    walls = [int(row["all_prompts_token_count"]) / float(row["prompt_token_throughput"]) for row in rows]
    latency = sum(float(row["latency_mean"]) * int(row["successes"]) for row in rows)
    output -= prompt if output > prompt and "p4d" in rows[0]["instance_type"] else 0
    usd = usd_per_hour / 3600 * sum(walls)
    return {
        "requests": requests,
        "per_minute": requests / sum(walls) * 60,
        "in_flight": latency / sum(walls),
        "latency": latency / requests,
        "prompt": prompt / requests,
        "output": output / requests,
        "per_1k": usd / requests * 1e3,
        "per_1m": usd / output * 1e6,
        "volleys": len(rows),
        "longest": max(walls),
        "prompt_per_s": prompt / sum(walls),
        "output_per_s": output / sum(walls),
    }


@pytest.fixture(scope="module")
def raw() -> dict[Key, dict[str, float]]:
    return totals()


# --- the page, through the front door -----------------------------------------------------------------------------


def make(folder: Path) -> None:
    config = yaml.safe_load(page.CONFIG.read_text(encoding="utf-8"))
    config["run_root"] = str(folder / "runs")
    config["option_defaults"]["path"] = str(page.REFERENCE / "all_metrics.csv")
    path = folder / "reference.yml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    with redirect_stdout(io.StringIO()):
        assert main(["import", "--config", str(path)]) == 0
    page.write_reference_page(run_in(folder), load_config(path).benchmark, folder / "reference_report.html")


def run_in(folder: Path) -> RunFolder:
    (run,) = (folder / "runs").iterdir()
    return RunFolder(run)


@pytest.fixture(scope="module")
def folder(made_once) -> Path:
    return made_once("reference-page", make)


@pytest.fixture(scope="module")
def verdict(folder) -> dict:
    return json.loads((run_in(folder).path / "verdict.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def fresh(folder) -> str:
    return (folder / "reference_report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def added(fresh) -> Tag:
    return section(fresh, page.SECTION)


def section(html: str, heading: str) -> Tag:
    """What stands under a heading of the second level."""
    (found,) = (part for part in re.split(r"(?=<h2)", html) if f">{heading.removeprefix('## ')}</h2>" in part)
    return BeautifulSoup(found, "html.parser")


def said(tag: Tag) -> str:
    return " ".join(tag.get_text(" ", strip=True).split())


def table(tag: Tag, caption: str) -> list[list[str]]:
    (found,) = (one for one in tag.find_all("table") if said(one.caption).startswith(caption))
    return [[said(cell) for cell in row.find_all(["th", "td"])] for row in found.tbody.find_all("tr")]


def faults(added: Tag) -> list[str]:
    """The text of each fault, with its rows."""
    return [said(item) for item in added.find("ol").find_all("li", recursive=False)]


# --- the verdict --------------------------------------------------------------------------------------------------


def test_another_option_is_named_than_was_published(verdict, raw):
    assert verdict["recommended"] == G5
    assert verdict["tied"] == []
    assert verdict["cost_basis"] == "usd_per_1m_output_tokens"
    assert not verdict["comparable"], "the options served different models"
    (winner,) = (option for option in verdict["options"] if option["option"] == G5)
    assert [(point["dataset"], point["level"]) for point in winner["points"]] == [(LONG, 4)]
    assert winner["cost"]["value"] == pytest.approx(raw["ml.g5.12xlarge", LONG, 4]["per_1m"])


def test_the_published_verdict_stands_beside_it_with_what_neither_says(added, raw):
    text = said(added)
    theirs, ours = raw["ml.inf2.48xlarge", LONG, 2], raw["ml.g5.12xlarge", LONG, 4]
    assert "Published on 2024-01-23 22:39 UTC" in text
    assert "is provided by the ml.inf2.48xlarge instance type." in text
    assert f"Here: “{G5}” at concurrency 4" in text
    assert f"cost ${theirs['per_1m']:.0f} and ${ours['per_1m']:.1f} per 1M output tokens" in text
    assert f"but ${theirs['per_1k']:.2f} and ${ours['per_1k']:.2f} per 1,000 requests" in text
    assert theirs["per_1k"] < ours["per_1k"] and theirs["per_1m"] > ours["per_1m"], "the unit decides the order"
    assert "6% is one that the 57 to 60 requests of a load point can decide" in text
    assert "What neither verdict says is where one model is served at the lowest price" in text


# --- every element of the published report ------------------------------------------------------------------------


def test_every_element_of_the_published_report_is_on_the_page(fresh, added, folder):
    soup = BeautifulSoup(fresh, "html.parser")
    headings = {said(one) for one in soup.find_all("h2")}
    places = [said(item) for item in added.find_all("ul")[-1].find_all("li")]
    published = (page.REFERENCE / "report.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[(.*?)\]\(", published)
    assert len(pictures) == 4
    assert len(places) == len(page.COUNTERPARTS) == 6 + len(pictures)
    assert [place.split(":")[0] for place in places] == [element for element, _ in page.COUNTERPARTS]
    for place in places:
        for heading in re.findall("“(.*?)”", place):
            assert heading in headings
    assert said(soup.h1).startswith("What should serve Llama-2-13b?")
    bottom_line = section(fresh, "The bottom line")
    assert re.search(r"imported \d{4}-\d\d-\d\d \d\d:\d\d UTC", said(bottom_line))
    assert [link["href"] for link in bottom_line.find_all("a")] == ["../tests/support/reference_page.yml"]
    assert (PROJECT_ROOT / "docs" / "../tests/support/reference_page.yml").is_file()
    figures = {one["id"] for one in soup.find_all("figure")}
    assert {"price_performance", "tokens_vs_latency", "load_vs_latency"} <= figures
    assert ("error_rates" in figures) == bool(read_points(run_in(folder))["failures"].any())


def test_a_lower_bill_is_not_put_down_to_whole_instances(fresh):
    """Per request the published winner costs less without rounding: its answers are shorter."""
    text = said(section(fresh, "The bottom line"))
    assert f"“{INF2_48}” has the lower bill" in text
    assert "because a bill follows requests, and the options did unequal work" in text


def test_each_dataset_and_instance_type_has_a_recommendation(fresh, raw):
    rows = table(section(fresh, "Which load suits each dataset?"), "For each dataset and option")
    cells = {(row[2], row[0]) for row in rows}
    assert len(rows) == len(cells) == 30
    assert {(instance, dataset) for instance, dataset, _ in raw} < cells


def test_the_table_about_the_winner_is_recomputed(added, raw):
    rows = {row[0]: row[1:] for row in table(added, "The winner as it was published")}
    theirs, ours = raw["ml.inf2.48xlarge", LONG, 2], raw["ml.g5.12xlarge", LONG, 4]
    for what, key, decimals in (
        ("requests in flight, mean", "in_flight", 2),
        ("requests", "requests", 0),
        ("prompt tokens, mean", "prompt", 0),
        ("prompt tokens/s", "prompt_per_s", 0),
        ("output tokens, mean", "output", 1),
        ("output tokens/s", "output_per_s", 1),
        ("latency, mean, s", "latency", 2),
        ("requests/min", "per_minute", 1),
        ("$ per 1,000 requests", "per_1k", 2),
        ("$ per 1M output tokens", "per_1m", 1),
    ):
        assert rows[what][1:] == [number(theirs[key], decimals), number(ours[key], decimals)], what
    published = read_published(page.REFERENCE / "report.md").winner
    assert len(published) == 13
    for field in ("concurrency", "error_rate", "latency_mean", "transactions_per_minute", "price_per_hour"):
        assert published[field] in [row[0] for row in rows.values()]


def test_each_published_recommendation_is_recomputed(added, raw):
    rows = table(added, "Each published recommendation")
    summary = rules.summarise(rules.read_csv(page.REFERENCE / "all_metrics.csv"))
    theirs = {(row["instance_type"], row["payload_file"], row["concurrency"]): row for row in summary}
    assert len(rows) == len(rules.recommendations(summary)) == 29
    for dataset, instance, level, _, *cells in rows:
        printed, own = theirs[instance, f"payload_{dataset}.jsonl", int(level)], raw[instance, dataset, int(level)]
        assert cells == [
            number(printed["latency_mean"], 2),
            number(printed["completion_token_count_mean"]),
            number(printed["transactions_per_minute"]),
            number(own["output"], 1),
            number(own["per_minute"], 1),
            number(own["in_flight"], 2),
            number(own["per_1m"], 1),
        ], (dataset, instance)
    ours = {tuple(row[:2]): row[3] for row in rows}
    assert ours[LONG, "ml.inf2.48xlarge"] == "2"
    assert ours["en_1-500", "ml.p4d.24xlarge"] == "–", "one request shows nothing"


# --- fault by fault -----------------------------------------------------------------------------------------------


def test_each_fault_is_said_with_its_rows_and_figures(added, raw):
    (models, work, echo, rates, volleys, samples, means, dominated, missing, chart, stale) = faults(added)
    assert "Different models are compared as one" in models
    assert f"{G5}: Llama-2-13b (base model), deployed as “meta-textgeneration-llama-2-13b”" in models
    assert f"{INF2_48}: Llama-2-13b-chat, deployed as “meta-textgenerationneuron-llama-2-13b-f”" in models
    assert f"{P4D}: Llama-2-13b-chat, deployed as “huggingface-pytorch-tgi-inference”" in models
    for dataset in {dataset for _, dataset, _ in raw}:
        outputs = [cell["output"] for (_, where, _), cell in raw.items() if where == dataset]
        assert re.search(rf"{dataset}: .* from {min(outputs):.1f} \(.* to {max(outputs):.1f} \(", work)
        own = raw["ml.p4d.24xlarge", dataset, 4]
        assert re.search(rf"{P4D}, {dataset}, concurrency 4: [\d,]+ published, {own['output']:.1f} without", echo)
    assert f"{P4D}, {LONG}, concurrency 4: 3,500 published" in echo
    p4d = raw["ml.p4d.24xlarge", LONG, 4]
    assert f"{P4D}, {LONG}, concurrency 4: 55 requests/min published, {p4d['per_minute']:.1f} by totals" in rates
    for (instance, dataset, level), cell in raw.items():
        if dataset == LONG and level > 1:
            name = instance.removeprefix("ml.")
            assert re.search(
                rf"{name}[^:]*, {dataset}, concurrency {level}: {cell['in_flight']:.2f} in flight", volleys
            )
    assert "en_1-500: 304 tokens" in samples and "en_500-1000: 980 tokens" in samples
    assert "en_1-500, concurrency 1: one request for each of 6 options" in samples
    warm, long = raw["ml.inf2.48xlarge", "en_1-500", 1], raw["ml.inf2.48xlarge", LONG, 1]
    assert f"en_1-500 took {warm['latency']:.2f} s" in samples and f"{LONG} {long['latency']:.2f} s" in samples
    assert f"{P4D}, {LONG}, concurrency 4: mean latency {p4d['latency']:.2f} s" in means
    assert f"up to {p4d['longest']:.1f} s" in means
    assert f"{INF2_48}, {LONG}, concurrency 4: mean latency" in dominated
    for level in (2, 4):
        cell = raw["ml.inf2.48xlarge", LONG, level]
        assert f"mean latency {cell['latency']:.2f} s, {cell['per_minute']:.1f} requests/min" in dominated
    assert "ml.inf2.24xlarge" in missing
    assert f"{LONG}, concurrency 4" in missing
    assert "$4.48 per 1,000 transactions, $44.8 per 10,000" in chart
    assert "cannot be seen" in chart
    assert INF2_48 in stale and "0.26.0" in stale


def test_every_dominated_recommendation_is_listed_and_no_other(added, raw):
    picks = read_published(page.REFERENCE / "report.md").picks
    expected = set()
    for pick in picks:
        mine = raw[pick.instance_type, pick.dataset, pick.level]
        for (instance, dataset, level), other in raw.items():
            is_lower = (instance, dataset) == (pick.instance_type, pick.dataset) and level < pick.level
            if is_lower and all(other[key] < mine[key] for key in ("latency", "per_1k", "per_1m")):
                expected.add((instance.removeprefix("ml."), dataset, pick.level))
    rows = added.find("ol").find_all("li", recursive=False)[7].find_all("li")
    found = [re.match(r"(\S+), .*?(en_\S+), concurrency (\d):", said(row)).groups() for row in rows]
    assert {(name, dataset, int(level)) for name, dataset, level in found} == expected
    assert ("inf2.48xlarge", LONG, 4) in expected


# --- the page in docs ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped() -> str:
    return page.PAGE.read_text(encoding="utf-8")


def test_the_page_in_docs_is_of_today(shipped, fresh):
    again = "Next: make reference-report"
    for heading in ("The bottom line", page.SECTION):
        of_today, there = (said(section(html, heading)) for html in (fresh, shipped))
        without_run = [
            re.sub(r"Run llama2-13b-january-2024-\S+ , imported .*? UTC", "", text) for text in (of_today, there)
        ]
        assert without_run[0] == without_run[1], again


def test_the_page_in_docs_is_self_contained_and_holds_no_path_of_a_machine(shipped):
    soup = BeautifulSoup(shipped, "html.parser")
    assert not [tag for tag in soup.find_all(src=True) if not tag["src"].startswith("data:")]
    assert not soup.find_all(["script", "link", "iframe"])
    assert not re.search(r"/(home|root|tmp|work|Users)/", said(soup))


def test_no_raw_row_is_in_the_page(shipped):
    """Rates of single volleys, which only the raw rows hold."""
    text = said(BeautifulSoup(shipped, "html.parser"))
    latencies = [row["latency_mean"] for row in rules.read_csv(page.REFERENCE / "all_metrics.csv")]
    assert not [latency for latency in latencies if len(latency) > 8 and latency in text]
