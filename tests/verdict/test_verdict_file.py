"""verdict.json of a real run against its published schema."""

import json
from pathlib import Path

import jsonschema
import pytest

from helpers.verdict.verdict import Verdict, verdict_schema

PUBLISHED = Path(__file__).resolve().parents[2] / "docs" / "verdict.schema.json"


def test_the_published_schema_is_the_current_one():
    assert PUBLISHED.read_text(encoding="utf-8") == verdict_schema(), "Next: make schema"


def test_a_run_writes_what_the_schema_says(finished_run):
    written = json.loads((finished_run.run.path / "verdict.json").read_text(encoding="utf-8"))
    schema = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    jsonschema.validate(written, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**written, "best": "a"}, schema)


def test_the_file_holds_every_digit_of_the_verdict(finished_run):
    text = (finished_run.run.path / "verdict.json").read_text(encoding="utf-8")
    verdict = Verdict.model_validate_json(text)
    assert verdict.model_dump_json(indent=1) + "\n" == text
    assert len(verdict.options) == 2
    assert all(option.prices[0].usd_per_instance_hour == 0.102 for option in verdict.options)
