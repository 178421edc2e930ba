"""`load.mix` in a config: what is loaded and judged, how many prompts that takes, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from examples import config_data, make_config

from helpers.config.file import LoadedConfig, load_config
from helpers.config.mix import prompts_asked_of
from helpers.endpoints.attempt_spec import single_request_specs
from helpers.errors import ConfigError, RunFolderError
from helpers.load.address import Address
from helpers.metrics.sample_size import refuse_what_cannot_decide, requests_at_each_load
from helpers.run.folder import open_run
from helpers.run.measured_config import refuse_other_measurement

TWO = [{"name": "short", "prompt_tokens": [1, 300], "count": 800}, {"name": "long", "prompt_tokens": [600, 900]}]


def mix_config(mix=True, **sections):
    load = {"mix": mix} | sections.pop("load", {})
    return make_config(datasets=TWO, load=load, **{"traffic": {"mix": {"short": 0.8, "long": 0.2}}} | sections)


def refused(tmp_path, **sections) -> str:
    path = tmp_path / "mix.yml"
    path.write_text(yaml.safe_dump(config_data(**{"datasets": TWO} | sections)))
    with pytest.raises(ConfigError) as error:
        load_config(path)
    return str(error.value)


@pytest.mark.parametrize(
    ("alone", "loaded"),
    [(False, {"mixed": 1000}), (True, {"mixed": 500, "short": 400, "long": 100})],
)
def test_a_mix_is_one_dataset_more_and_the_only_one_that_is_judged(alone, loaded):
    config = mix_config({"alone": alone})
    assert {dataset.name: dataset.count for dataset in config.loaded_datasets} == loaded
    assert config.datasets_of(config.options[0]) == config.loaded_datasets
    assert [dataset.name for dataset in config.judged_datasets] == ["mixed"]
    assert config.loaded_datasets[0].prompt_tokens == (1, 900)
    assert config.traffic_mix() == {"mixed": 1.0}
    assert config.shares_of_parts() == {"short": 0.8, "long": 0.2}
    assert [dataset.name for dataset in config.parts_of(config.options[0])] == ["short", "long"]


def test_without_a_mix_nothing_changes():
    for mix in (False, None):
        config = mix_config(mix)
        assert config.loaded_datasets is config.judged_datasets is config.datasets
        assert config.traffic_mix() == {"short": 0.8, "long": 0.2}
        assert config.smallest_share("short") == 1


def test_the_rarest_part_decides_how_many_requests_and_prompts_a_load_point_takes():
    config = mix_config()
    alone = mix_config({"alone": True})
    assert requests_at_each_load(make_config(datasets=TWO)) == 59
    assert requests_at_each_load(config) == 295, "59 of the 20% that are long"
    assert [prompts_asked_of(config, dataset, 100) for dataset in config.datasets] == [80, 20]
    assert [prompts_asked_of(alone, dataset, 100) for dataset in config.datasets] == [200, 200]
    no_repeats = mix_config(load={"repeat_prompts": False, "min_requests": 100})
    refuse_what_cannot_decide(no_repeats)
    long_too_few = no_repeats.datasets[1].model_copy(update={"count": 60})
    with pytest.raises(ConfigError, match=r"datasets\.1\.count: 60 prompts of 'long' .* Expected 61 or more"):
        refuse_what_cannot_decide(no_repeats.model_copy(update={"datasets": [no_repeats.datasets[0], long_too_few]}))


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"load": {"mix": True, "race": True}}, "write `race: false`"),
        (
            {"load": {"kind": "search", "over": "concurrency", "highest": 8, "mix": True}},
            "list the levels of a closed_loop or an open_loop",
        ),
        ({"load": {"kind": "trace", "path": "t.csv", "mix": True}}, "write `lengths: prompts`"),
        ({"datasets": TWO[:1], "load": {"mix": True}}, "nothing to mix it with"),
        ({"datasets": [*TWO, {"name": "Mixed"}], "load": {"mix": True}}, "datasets[2].name: bad value 'mixed'"),
        (
            {"load": {"mix": True}, "traffic": {"mix": {"short": 1.0, "long": 0.0}}},
            "traffic.mix: dataset 'long' has no share",
        ),
        (
            {
                "load": {"mix": True},
                "options": [{**config_data()["options"][0], "datasets": ["short"]}, "b"],
            },
            "options[0].datasets: an option is sent the whole mix",
        ),
        (
            {
                "load": {"mix": True},
                "prompts": {"source": {"kind": "jsonl", "path": "c"}, "conversations": {"think_time_s": 1}},
            },
            "leave out `mix`, or prompts.conversations",
        ),
        ({"load": {"mix": True}, "prompts": {"prefix": {"tokens": 100}}}, "leave out `mix`, or prompts.prefix"),
        ({"load": {"mix": {"alon": True}}}, "Did you mean `alone`?"),
        (
            {"load": {"mix": True, "repeat_prompts": False, "min_requests": 2000}},
            "from this dataset with load.mix",
        ),
    ],
)
def test_what_cannot_be_mixed_is_refused_with_the_next_step(tmp_path, sections, said):
    message = refused(tmp_path, **sections)
    assert said in message and "Next: " in message


def test_a_dataset_may_be_called_mixed_where_nothing_is_mixed():
    assert [dataset.name for dataset in make_config(datasets=["mixed"]).judged_datasets] == ["mixed"]


def test_the_shares_of_a_mix_cannot_change_in_its_run(tmp_path):
    def config_with(short: float, mix: bool) -> LoadedConfig:
        path = tmp_path / "mix.yml"
        shares = {"short": short, "long": 1 - short}
        data = config_data(datasets=TWO, load={"mix": mix}, traffic={"mix": shares}, run_root=str(tmp_path / "runs"))
        path.write_text(yaml.safe_dump(data))
        return load_config(path)

    for mix in (True, False):
        config_with(0.8, mix)
        _, run = open_run(str(tmp_path / "mix.yml"), new=True)
        refuse_other_measurement(config_with(0.8, mix), run)
        if mix:
            with pytest.raises(RunFolderError, match=r"other values of traffic\.mix"):
                refuse_other_measurement(config_with(0.5, mix), run)
        else:
            refuse_other_measurement(config_with(0.5, mix), run)


def test_single_requests_are_those_of_each_part(tmp_path):
    path = tmp_path / "mix.yml"
    path.write_text(yaml.safe_dump(config_data(datasets=TWO, load={"mix": True}, run_root=str(tmp_path / "runs"))))
    config, run = open_run(str(path), new=True)
    (option,) = config.benchmark.options
    address = Address(url="http://127.0.0.1:9/v1", api="openai_chat", framing="plain", request_id_header="X-Request-Id")
    specs = single_request_specs(option, address, config.benchmark, run)
    assert [Path(spec.prompts_file).stem for spec in specs] == ["short", "long"]


def test_a_page_of_several_runs_sees_the_mix_as_a_dataset_like_any_other():
    config = mix_config({"alone": True}).as_judged()
    assert [dataset.name for dataset in config.loaded_datasets] == [d.name for d in config.datasets] == ["mixed"]
    assert config.load.mix is None and config.traffic_mix() == {"mixed": 1.0}
