"""Paths in configs and commands: `~` is the home of the user wherever a path is taken, and no key is forgotten."""

import re
import shutil

import certifi
import pytest
from conftest import small_config
from pydantic import TypeAdapter

from helpers.config.benchmark import BenchmarkConfig, LocalSageMaker
from helpers.config.file import load_config
from helpers.config.imports import ResultFiles
from helpers.config.load import TraceReplay
from helpers.config.options import PythonOption
from helpers.config.workload import Source
from helpers.endpoints.targets.certificates import certificates_file
from helpers.endpoints.targets.python_file import PythonFileTarget
from helpers.errors import ServingVerdictError
from helpers.importers.files import find_files
from helpers.prompts.sources import read_records
from helpers.prompts.templates import load_template
from helpers.prompts.tokenizers import load_tokenizer
from helpers.prompts.traces import read_trace
from helpers.run.folder import find_run, run_root, scratch_run
from local_sagemaker.tiny_model import ensure_model

MAY_BE_A_PATH = re.compile(r"path|file\b|folder|relative to the config|command of", re.IGNORECASE)
IS_NONE = {"model_id", "model_data_url", "base_url", "format", "dataset_names", "select", "unit"}
"""Keys whose descriptions speak of files that are not on this machine, or of what is in them."""
TARGET = "def create(name, settings): ...\ndef status(name, settings): ...\ndef address(name, settings): ...\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    (folder / "x.jsonl").write_text('{"text": "hi", "timestamp": 0.5}\n{"text": "ho", "timestamp": 1}\n')
    (folder / "day.csv").write_text("hour,requests_per_minute\n" + "".join(f"{hour},60\n" for hour in range(24)))
    (folder / "t.txt").write_text("{text}")
    (folder / "t.py").write_text(TARGET + "def delete(name, settings): ...\n")
    shutil.copy(certifi.where(), folder / "ca.pem")
    shutil.copytree(ensure_model("2m", folder / "cache"), folder / "tokenizer")
    (folder / "runs" / "r1").mkdir(parents=True)
    (folder / "runs" / "r1" / "run.json").write_text("{}")
    return folder


@pytest.fixture
def at_home(home, monkeypatch):
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TEST_SECRET", "x")
    return home


def source(kind, path, base):
    return len(list(read_records(TypeAdapter(Source).validate_python({"kind": kind, "path": path}), base)))


def python_file(path, base):
    option = PythonOption(target="python", name="o", file=path, api="openai_chat")
    config = load_config(small_config(base))
    with scratch_run(config) as run:
        return PythonFileTarget(option, config.benchmark, run).plan().file


def curve(path, base):
    traffic = {"requests_per_minute": 60, "curve": path}
    return load_config(small_config(base, traffic=traffic)).benchmark.traffic.curve


def root(path, base):
    return run_root(load_config(small_config(base, run_root=path)))


TAKEN = {
    "FileSource.path": ("~/x.jsonl", lambda path, base: source("file", path, base)),
    "ShareGPTSource.path": ("~/x.jsonl", lambda path, base: source("sharegpt", path, base)),
    "TraceReplay.path": ("~/x.jsonl", lambda path, base: read_trace(TraceReplay(kind="trace", path=path), base)),
    "PromptsConfig.template": ("~/t.txt", load_template),
    "ModelConfig.tokenizer": ("~/tokenizer", lambda path, base: load_tokenizer(path, base, base)),
    "OpenAIOption.ca_file": ("~/ca.pem", lambda path, base: certificates_file(path, base, "here")),
    "PythonOption.file": ("~/t.py", python_file),
    "ImportedOption.path": ("~/*.jsonl", lambda path, base: find_files(ResultFiles(path=path), "options[0]", base)),
    "Traffic.curve": ("~/day.csv", curve),
    "BenchmarkConfig.run_root": ("~/runs", root),
    "LocalSageMaker.engines": ("~/t.py", lambda path, base: LocalSageMaker(engines={"x": [path]}).commands()["x"][0]),
    "RUN": ("~/runs/r1", lambda path, base: find_run(path).path),
    "CONFIG": ("~/small.yml", lambda path, base: load_config(path).path),
}
"""Key of a config, or variable of the Makefile -> a path, and what takes it."""


def test_every_key_that_takes_a_path_is_known_here():
    schema = BenchmarkConfig.model_json_schema()
    found = set()
    for name, section in {**schema["$defs"], "BenchmarkConfig": schema}.items():
        for key, about in section.get("properties", {}).items():
            is_text = "string" in str(about) and "s3:// URI of" not in about.get("description", "")
            if is_text and key not in IS_NONE and MAY_BE_A_PATH.search(f"{key} {about.get('description', '')}"):
                found.add(f"{name}.{key}")
    found -= {"ResultFile.path"}  # an entry of the list that ImportedOption.path is
    assert found == {name for name in TAKEN if "." in name}


@pytest.mark.parametrize("key", TAKEN)
def test_a_path_may_begin_with_the_users_home(at_home, tmp_path, key):
    path, take = TAKEN[key]
    if key == "CONFIG":
        small_config(at_home)
    if key == "ShareGPTSource.path":  # found, though it holds no conversations
        with pytest.raises(ServingVerdictError, match=r"x\.jsonl:1: no conversation"):
            take(path, tmp_path)
        return
    found = take(path, tmp_path)
    assert found
    if isinstance(found, str) or hasattr(found, "is_file"):
        assert str(found).startswith(str(at_home))


@pytest.mark.parametrize("key", TAKEN)
def test_the_home_of_an_unknown_user_is_no_traceback(at_home, tmp_path, key):
    path, take = TAKEN[key]
    if key in ("BenchmarkConfig.run_root", "LocalSageMaker.engines"):  # a name like any other
        assert take("~no-such-user/x", tmp_path)
        return
    with pytest.raises(ServingVerdictError, match="Next: "):
        take(path.replace("~", "~no-such-user"), tmp_path)
