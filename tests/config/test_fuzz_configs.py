"""Hostile configs: each is planned, or refused in words that help; none crashes, hangs, writes, runs or leaks."""

from __future__ import annotations

import pytest
from fuzz_configs import fuzz

pytestmark = pytest.mark.slow


def test_hostile_configs_are_planned_or_refused_in_words():
    found, amiss = fuzz(250)
    assert not amiss
    assert found["planned"] > 25
    assert found["ConfigError"] > 100
