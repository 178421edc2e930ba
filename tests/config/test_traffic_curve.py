"""The traffic of a day in a config: 24 numbers, or a CSV file that is read with it."""

import json

import jsonschema
import pytest
import yaml
from config_text import TEXT

from helpers.config.file import config_schema, load_config
from helpers.errors import ConfigError

RATES = [float(100 + hour) for hour in range(24)]
ROWS = [f"{hour},{rate}" for hour, rate in enumerate(RATES)]


@pytest.fixture
def with_curve(tmp_path):
    """Writes the config with a curve."""

    def write(curve: str):
        path = tmp_path / "config.yml"
        path.write_text(TEXT.replace("headroom: 0.3", f"curve: {curve}"), encoding="utf-8")
        return path

    return write


@pytest.fixture
def day(tmp_path):
    """Writes day.csv beside the config."""

    def write(*rows: str, header: str = "hour,requests_per_minute"):
        (tmp_path / "day.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")

    return write


def curve_of(path):
    return list(load_config(path).benchmark.traffic.curve)


def test_without_a_curve_there_is_none(with_curve):
    path = with_curve("null")
    assert load_config(path).benchmark.traffic.curve is None


def test_a_list_is_taken_as_it_stands(with_curve):
    assert curve_of(with_curve(str(RATES))) == RATES


@pytest.mark.parametrize(
    ("header", "separator"),
    [
        ("hour,requests_per_minute", ","),
        ("\ufeffhour;requests_per_minute", ";"),
        ("day\thour\trequests_per_minute", "\t"),
    ],
)
def test_a_file_is_read_relative_to_the_config_in_any_order(with_curve, day, header, separator):
    first = "monday\t" if header.startswith("day") else ""
    day(*reversed([first + row.replace(",", separator) for row in ROWS]), header=header)
    assert curve_of(with_curve("day.csv")) == RATES


def test_a_config_in_another_folder_that_extends_it_reads_its_own_file(with_curve, day, tmp_path):
    day(*ROWS)
    with_curve("day.csv")
    (tmp_path / "near").mkdir()
    near = tmp_path / "near" / "near.yml"
    near.write_text("extends: ../config.yml\ntraffic: {curve: ../day.csv}\n")
    assert curve_of(near) == RATES


@pytest.mark.parametrize("written", ["day.csv", "${CURVE}"])
def test_a_run_keeps_the_numbers(with_curve, day, tmp_path, monkeypatch, written):
    monkeypatch.setenv("CURVE", "day.csv")
    day(*ROWS)
    public = load_config(with_curve(written)).public_yaml()
    assert yaml.safe_load(public)["traffic"]["curve"] == RATES
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yml").write_text(public)
    (tmp_path / "day.csv").unlink()
    assert curve_of(tmp_path / "run" / "config.yml") == RATES


BAD = {
    "not 24": ("[1, 2, 3]", "traffic.curve: bad value [1, 2, 3]. Expected 24 numbers of requests per minute, "),
    "a number": ("300", "traffic.curve: bad value 300. Expected 24 numbers of requests per minute, "),
    "none all day": (str([0] * 24), "Expected requests in at least one hour. Next: "),
    "less than nothing": (
        str([*RATES[:23], -1]),
        "traffic.curve[23]: bad value -1. Expected greater than or equal to 0",
    ),
    "a word": (str([*RATES[:23], "many"]), "traffic.curve[23]: bad value 'many'. Expected a number"),
    "no such file": ("night.csv", "night.csv does not exist. Next: give its path relative to the config file"),
    "a folder": (".", "is not a regular file. Next: "),
}


@pytest.mark.parametrize(("written", "words"), BAD.values(), ids=BAD)
def test_a_bad_curve_is_named_with_what_was_expected(with_curve, written, words):
    path = with_curve(written)
    with pytest.raises(ConfigError) as refused:
        load_config(path)
    (line,) = str(refused.value).splitlines()
    assert line.startswith(f"{path}:38: traffic.curve")
    assert words in line
    assert "Next: " in line


BAD_FILES = {
    "a missing hour": (ROWS[:-2], "hour: 22, 23 not there. Expected the hours 0 to 23, each once. Next: "),
    "an hour twice": ([*ROWS[:5], ROWS[4]], ":7: hour: 4 is there twice. Expected each hour once. Next: "),
    "an hour that is none": (["24,100"], ":2: hour: bad value '24'. Expected a whole number from 0 to 23. Next: "),
    "an hour with minutes": (["9:00,100"], ":2: hour: bad value '9:00'. Expected a whole number from 0 to 23. Next: "),
    "less than nothing": (["0,100", "1,-5"], ":3: requests_per_minute: bad value '-5'. Expected a number, 0 or more"),
    "not a number": (["0,nan"], ":2: requests_per_minute: bad value 'nan'. Expected a number, 0 or more"),
    "without end": (["0,inf"], ":2: requests_per_minute: bad value 'inf'. Expected a number, 0 or more"),
    "a short row": (["0"], ":2: requests_per_minute: bad value None. Expected a number, 0 or more"),
    "an open quote": (['0,"1'], "cannot be read as CSV: "),
    "no rows": ([], "hour: 0, 1, 2, "),
}


@pytest.mark.parametrize(("rows", "words"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_named_with_its_line(with_curve, day, tmp_path, rows, words):
    day(*rows)
    path = with_curve("day.csv")
    with pytest.raises(ConfigError) as refused:
        load_config(path)
    (line,) = str(refused.value).splitlines()
    assert line.startswith(f"{path}:38: traffic.curve: {tmp_path / 'day.csv'}")
    assert words in line
    assert "Next: " in line


def test_a_header_without_the_columns_is_named(with_curve, day):
    day(*ROWS, header="h,rpm")
    with pytest.raises(
        ConfigError, match=r"day\.csv:1: no column hour and requests_per_minute, but 'h, rpm'\. Expected "
    ):
        load_config(with_curve("day.csv"))


def test_a_file_that_is_no_text_is_named(with_curve, tmp_path):
    (tmp_path / "day.csv").write_bytes(b"hour,requests_per_minute\n0,\xff\n")
    with pytest.raises(ConfigError, match=r"day\.csv: cannot be read as CSV: .* Next: save it as CSV in UTF-8"):
        load_config(with_curve("day.csv"))


@pytest.mark.parametrize(
    ("curve", "is_valid"), [(RATES, True), ("day.csv", True), (None, True), ([1, 2], False), (3, False)]
)
def test_editors_know_both_forms(curve, is_valid):
    schema = json.loads(config_schema())
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid({"traffic": {"curve": curve}}) == is_valid
