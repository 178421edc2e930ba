"""The prompts of a mix: their shares in every stretch, where they come from, and what is kept for a dataset alone."""

from __future__ import annotations

import numpy as np
import pytest
from examples import make_config

from helpers.prompts.making import make_prompts
from helpers.prompts.mixing import spread
from helpers.run.prompt_files import prompt_metadata

BINS = {"short": [60, 120], "long": [200, 300]}


def config_of(mix, counts=(80, 30), bins=None, source=None):
    datasets = [
        {"name": name, "prompt_tokens": prompt_tokens, "count": count}
        for name, prompt_tokens, count in zip(BINS, bins or BINS.values(), counts, strict=True)
    ]
    return make_config(
        datasets=datasets,
        load={"mix": mix},
        traffic={"mix": {"short": 0.8, "long": 0.2}},
        prompts={"source": source or {"kind": "python_reference"}},
    )


@pytest.mark.parametrize("shares", [{"a": 0.8, "b": 0.2}, {"a": 0.5, "b": 0.5}, {"a": 0.9, "b": 0.07, "c": 0.03}])
def test_every_stretch_holds_the_shares_and_none_foretells_the_next(shares):
    available = dict.fromkeys(shares, 2000)
    order = spread(available, shares, np.random.default_rng(3))
    part = np.repeat(range(len(shares)), 2000)[order]
    assert len(set(order)) == len(order)
    for i, share in enumerate(shares.values()):
        counts = np.append(0, np.cumsum(part == i))
        for length in (10, 50, 333):
            off = np.abs(counts[length:] - counts[:-length] - share * length)
            assert off.max() <= (2 if len(shares) == 2 else 4)
    assert abs(len(order) - 2000 / max(shares.values())) <= 4, "it ends where the first part does"
    assert (order != spread(available, shares, np.random.default_rng(4))[: len(order)]).any()
    if len(shares) == 2:
        halves = part[::2].mean(), part[1::2].mean()
        assert halves[0] == pytest.approx(halves[1], abs=0.05), "two load processes send every second prompt each"


def test_a_mix_is_made_of_the_prompts_of_its_datasets(tmp_path):
    config = config_of(True)
    tables = make_prompts(config, tmp_path).tables
    mixed = tables["mixed"].to_pandas()
    assert list(tables) == ["short", "long", "mixed"]
    assert set(mixed["dataset"]) == {"mixed"}
    for name, (low, high) in BINS.items():
        mine = mixed[mixed["part"] == name]
        assert mine["prompt_tokens"].between(low, high - 1).all()
        assert set(mine["prompt_id"]) <= set(tables[name]["prompt_id"].to_pylist())
    assert abs((mixed["part"] == "long").sum() - 20) <= 2 and len(mixed) == pytest.approx(100, abs=2)
    about = prompt_metadata(tables["mixed"].schema)
    assert about["parts"]["long"] == {"share": 0.2, "prompts": int((mixed["part"] == "long").sum())}
    assert about["position"] == 2 and about["warnings"] == []
    again = make_prompts(config, tmp_path).tables["mixed"]
    assert again.equals(tables["mixed"])


def test_what_is_sent_alone_is_not_in_the_mix(tmp_path):
    tables = make_prompts(config_of({"alone": True}), tmp_path).tables
    mixed = set(tables["mixed"]["prompt_id"].to_pylist())
    for name, count in (("short", 40), ("long", 15)):
        kept = tables[name]["prompt_id"].to_pylist()
        assert len(kept) == count and not mixed & set(kept)
        about = prompt_metadata(tables[name].schema)
        assert (about["asked"], about["found"]) == (count, count)


def test_a_prompt_of_two_datasets_is_in_the_mix_once(tmp_path):
    lines = [f'{{"text": "Question {i} about the number {i * i}?"}}' for i in range(60)]
    (tmp_path / "q.jsonl").write_text("\n".join(lines))
    source = {"kind": "jsonl", "path": "q.jsonl"}
    config = config_of(True, counts=(40, 40), bins=([1, 100], [1, 101]), source=source)
    made = make_prompts(config.model_copy(update={"seed": 5}), tmp_path)
    mixed = made.tables["mixed"].to_pandas()
    assert not mixed["rendered"].duplicated().any()
    assert "20 prompts that two datasets share" in made.warnings[-1]
