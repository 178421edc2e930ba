"""Hostile answers in each API: one row each, the valid ones between them unharmed, memory bounded."""

from __future__ import annotations

import pytest
from fuzz_answers import EVENTS, fuzz

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("api", EVENTS)
def test_hostile_answers_are_a_row_each(tmp_path, api):
    found = fuzz(api, 300, tmp_path)
    assert {"ok", "bad_response", "cut_short", "http_error"} <= set(found), "the answers are of many kinds"
