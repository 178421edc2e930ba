"""Hostile configs: the shipped ones, mutated in structure, text and bytes, each loaded and planned as `helpers plan` does.

`python tests/support/fuzz_configs.py --count 10000` tries that many and reports the results. They depend only on the seed.
Nothing is sent: AWS is asked at an address where nobody answers.
"""

from __future__ import annotations

import argparse
import copy
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import yaml

from helpers.config.benchmark import PROJECT_ROOT
from helpers.config.file import load_config
from helpers.errors import MOST_CHARACTERS_OF_A_LINE, ServingVerdictError
from helpers.report.plan_report import plan_table
from helpers.series.series import parameters_of_all

FOLDER = PROJECT_ROOT / "configs"
SOURCES = {str(path.relative_to(FOLDER)): path.read_bytes() for path in sorted(FOLDER.rglob("*.yml"))}
CONFIGS = [name for name in SOURCES if "/" not in name]
DATA = {name: yaml.safe_load(content) for name, content in SOURCES.items()}
PLANTED_FILE, PLANTED_VALUE = "planted-in-a-file", "planted-in-a-variable"
FOREIGN, SILENT = "foreign.txt", "silent.fifo"
MOST_SECONDS, HANGS_AFTER_S = 20.0, 120
MOST_CHARACTERS = 20_000
WRITES, RUNS = os.O_WRONLY | os.O_RDWR | os.O_CREAT, ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen")
NUMBERS = [
    0, -1, 1, 2, 99, 101, 10**9, 2**63, 10**30, 10**90, -(10**19), 0.5, 1e-9, 5e-324, 1e15, 1e308, -0.0, float("nan"),
    float("inf"), -float("inf"),
]  # fmt: skip
TEXTS = [
    "", " ", "all", "none", "null", "a", "x" * 90, "x" * 5000, "Grüß Gott", "日本語", "\u202egnp.exe", "\u2028", "\0",
    "\x1b[31m", "\ud83d", "e\u0301", "１２", "<script>alert(1)</script>", "`| a |`", "{", "{}", "{0.__class__}", "%s%n",
    "a\nb", "1e5", "1_000", "12:30:45", "2026-04-21", "9999-99-99", "ml.g5.12xlarge", "ml./etc/passwd",
    "ml.../../../../etc/passwd", "ml.\0", "us-east-1", "xx-yy-1\n", "http://[", "http://a:b@127.0.0.1:9/v1",
    "https://127.0.0.1:99999", "vllm", "${HOME}", "${PLANTED}", "a${PLANTED}b", "${NOT_SET_ANYWHERE}", "${", "${}",
    "$${PLANTED}",
]  # fmt: skip
PATHS = [
    FOREIGN, SILENT, ".", "..", "/", "~", "~nobody-here/x", "/dev/zero", "/etc/passwd", "no/such.yml", "config.yml",
    "s3://", "s3://b/k", "\0.yml", f"{'a/' * 3000}x.yml", f"{'n' * 300}.yml", "foreign.yml", "silent.yml",
    "openai-compatible.yml", "quickstart.yml",
]  # fmt: skip
OTHERS = [
    None, True, False, [], {}, [[]], [None], {"": None}, {"a": {"b": [1]}}, b"\xff\x00", {1, 2}, {"kind": "x"},
    {"x" * 3000: 1},
]  # fmt: skip
SECTIONS = [
    {"parameters": {"analyse_metrics": {"baseline_run_dir": ""}, "report": {}}},
    {"parameters": {"run_inference": {"shows": 1.5}}},
    {"load": {"kind": "open_loop", "rate": [1, 2.5], "arrivals": "gamma", "burstiness": 0.5, "min_requests": 120}},
    {"load": {"kind": "trace", "path": FOREIGN}},
    {"load": {"kind": "ramp", "from_rate": 1, "to_rate": 9, "duration_s": 30}},
    {"load": {"kind": "search", "over": "rate", "lowest": 0.5, "highest": 32, "tolerance": 0.1, "min_requests": 120}},
    {"load": {"kind": "search", "over": "concurrency", "highest": 64, "min_requests": 300}},
    {"load": {"repetitions": 3, "repeat_prompts": True, "processes": 2, "target_relative_ci": 0.05}},
    {"endpoints": {"max_parallel_endpoints": 2, "max_parallel_loads": 1, "keep": True}},
    {"aws": {"region": "eu-west-1", "tags": {"a": "b"}, "vpc": {"subnets": ["a"], "security_group_ids": ["b"]}}},
    {"local_sagemaker": {"engines": {"mine": ["python", "x.py"]}, "engine_variables": ["A"]}},
    {"budget_usd": 1e-3, "run_root": "runs", "seed": 7},
    {"traffic": {"requests_per_minute": 60, "mix": {"en_1-500": 0.5, "en_500-1000": 0.5}}},
    {"slo": {"ttft_s": 1, "tpot_s": {"times_single_request": 2}, "error_rate": 0, "percentile": 99.9}},
    {"prompts": {"source": {"kind": "jsonl", "path": FOREIGN, "cut": "a"}}},
    {"option_defaults": {"target": "openai", "base_url": "http://127.0.0.1:9/v1", "served_model": "m", "extra_body": {"a": 1}}},
    {"option_defaults": {"price": {"usd_per_hour": 1.5}, "other_prices": [{"name": "p", "usd_per_hour": 1}]}},
    {"options": [{"name": "a", "target": "python", "file": FOREIGN, "api": "openai_chat", "settings": {"x": [1]}}]},
    {"options": [{"name": "a", "target": "bedrock", "model_id": "m",
                  "price": {"usd_per_1m_input_tokens": 1, "usd_per_1m_output_tokens": 2}}]},
    {"options": [{"name": "a", "target": "imported", "format": "guidellm", "path": FOREIGN, "instance_type": "x"}]},
    {"extends": "shared/aws.yml"},
]  # fmt: skip
WORDS = [
    "!!python/object/apply:os.system ['touch ran-by-a-tag']",
    "!!python/object/new:subprocess.Popen [[touch, ran-by-a-tag]]", "!!python/name:os.system", "!include foreign.txt",
    "!!binary aGk=", "!!set {a}", "!!float abc", "!!int 0b", "!!str 1", "!!omap [a: 1]", "!", "!<tag:x> 1", "&a {b: *a}",
    "&a [*a, *a]", "*nowhere", "&one_core x", "*one_core", "<<: *one_core", "<<: [1]", "<<", "? [a]", "- ", "  ", "\t",
    "---\n", "...\n", "%YAML 9.9\n", "%TAG ! x\n", "|", ">-", '"', "'", "{", "}", "[", "]", ",", ":", "#", "\r", "\x85",
    "\ufeff", "\x00", "[" * 200, "{a: " * 30, "1" * 5000, "0x" + "f" * 95, "1:" * 40, ".inf", "~", "=", "2026-13-45",
    "${PLANTED}", "name: x\n",
]  # fmt: skip
BYTES = [b"\xff\xfe", b"\x00", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\r\n", b"\xef\xbb\xbf", b"\x1b"]
ENCODINGS = ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "utf-7", "cp1252"]


def hostile(seed: int, number: int) -> tuple[str, str, bytes]:
    """The hostile config of a number, and the file, it or one that it extends, of which values, text, then bytes are changed."""
    rng = random.Random(f"{seed} {number}")
    name = rng.choice(CONFIGS)
    near = [name, *re.findall(r"^extends: (\S+)", SOURCES[name].decode(), re.MULTILINE)]
    victim = rng.choice(near)
    text = SOURCES[victim].decode()
    if rng.random() < 0.8:
        data = copy.deepcopy(DATA[victim])
        for _ in range(rng.choice([0, 0, 1, 1, 2])):
            _lay_over(data, rng.choice(SECTIONS))
        for _ in range(rng.choice([0, 1, 1, 1, 2, 5])):
            _change(data, rng)
        text = yaml.safe_dump(data, sort_keys=False, allow_unicode=rng.random() < 0.8)
    if rng.random() < 0.3:
        text = _with_words(text, rng)
    content = text.encode("utf-8", "surrogatepass")
    if rng.random() < 0.1:
        content = _mutated(content, text, rng)
    return name, victim, content


def _lay_over(data: dict, section: dict) -> None:
    """Merge key by key, so that what was there stays under what is new."""
    for key, value in section.items():
        if isinstance(value, dict) and isinstance(data.get(key), dict):
            data[key] = {**data[key], **value}
        else:
            data[key] = copy.deepcopy(value)


def _change(value: dict | list, rng: random.Random) -> None:
    """Replace, remove, rename, double or nest something somewhere in it."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = rng.choice(keys)
        if isinstance(value[key], dict | list) and value[key] and rng.random() < 0.85:
            value = value[key]
            continue
        how = rng.random()
        if how < 0.6:
            value[key] = _other(value[key], rng)
        elif how < 0.7:
            del value[key]
        elif how < 0.8 and isinstance(value, dict):
            value[rng.choice([f"{key}x", str(key).upper(), *TEXTS])] = value.pop(key)
        elif how < 0.9:
            value[key] = [value[key]] * rng.choice([1, 2, 300])
        else:
            for _ in range(rng.choice([1, 3, 30, 60])):
                value[key] = {"a": value[key]}
        return


def _other(value: object, rng: random.Random) -> object:
    """Another value, more often than not of the same type."""
    kinds = [NUMBERS, TEXTS, PATHS, OTHERS]
    if isinstance(value, int | float) and rng.random() < 0.7:
        kinds = [NUMBERS]
    elif isinstance(value, str) and rng.random() < 0.7:
        kinds = [TEXTS, PATHS]
    return copy.deepcopy(rng.choice(rng.choice(kinds)))


def _with_words(text: str, rng: random.Random) -> str:
    """Tags, anchors, aliases and half of a syntax at the beginning of values and of lines, and anywhere."""
    for _ in range(rng.choice([1, 1, 2, 6])):
        places = [found.end() for found in re.finditer(rng.choice([r": ", r"^ *", r"- ", r""]), text, re.MULTILINE)]
        at = rng.choice(places or [0])
        to = at if rng.random() < 0.6 else text.find("\n", at)
        text = text[:at] + rng.choice(WORDS) + text[to:]
    return text


def _mutated(content: bytes, text: str, rng: random.Random) -> bytes:
    how = rng.random()
    if how < 0.3:
        return text.encode(rng.choice(ENCODINGS), "replace")
    if how < 0.4:
        return rng.choice([b"", b"\n", rng.randbytes(3000), content * 200, b"- " * 3000, b"%" * 3000])
    for _ in range(rng.choice([1, 1, 3, 9])):
        at = rng.randrange(len(content) + 1)
        to = min(len(content), at + rng.choice([0, 0, 1, 3, 40, 10**6]))
        content = content[:at] + rng.choice([*BYTES, rng.randbytes(4), content[at : at + 50]]) + content[to:]
    return content


# --- what may come of it --------------------------------------------------------------------------------------------


class _Watch:
    """Sees what Python opens to write, runs or connects to while it is on."""

    def __init__(self) -> None:
        self.on, self.seen = False, []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple) -> None:
        if not self.on:
            return
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES:
            self.seen.append(f"opened to write: {arguments[0]}")
        elif event in (*RUNS, "os.mkdir", "os.rename", "os.remove"):
            self.seen.append(f"{event} {arguments}")
        elif event == "socket.connect" and arguments[1][0] not in ("127.0.0.1", "::1"):
            self.seen.append(f"connected to {arguments[1]}")


@contextmanager
def _hanging_is_an_error():
    def raises(*_: object) -> None:
        raise AssertionError(f"hangs: nothing came of it within {HANGS_AFTER_S} s")

    before = signal.signal(signal.SIGALRM, raises)
    signal.alarm(HANGS_AFTER_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def fuzz_folder():
    """An empty folder to be in, beside which other files are; an environment without credentials and with a secret."""
    environment, here = dict(os.environ), Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        for name in [name for name in environment if name.startswith("AWS_")]:
            del os.environ[name]
        variables = re.findall(r"\$\{(\w+)\}", "".join(content.decode() for content in SOURCES.values()))
        os.environ.update(dict.fromkeys(variables, "http://127.0.0.1:9/v1"))
        os.environ |= {"PLANTED": PLANTED_VALUE, "HOME": folder, "XDG_CACHE_HOME": f"{folder}/cache"}
        os.environ |= {"AWS_EC2_METADATA_DISABLED": "true", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(here)
            os.environ.clear()
            os.environ.update(environment)


def _lines_without_help(message: str) -> list[str]:
    """Lines that name neither a place with its key nor a next step."""
    return [line for line in message.split("\n") if not re.search(r"Next: |:\d+: \S|: parameters\.\S+: ", line)]


def _plan(path: Path) -> None:
    """What `helpers plan` does without asking for quotas."""
    config = load_config(path)
    config.public_yaml()
    parameters_of_all(config)
    if not config.benchmark.imported:
        plan_table(config.benchmark).plain()


def outcome(path: Path) -> str:
    """What `helpers plan` says of a config, without quotas: `planned`, or the error's name. AssertionError if that is amiss."""
    before = time.process_time()
    try:
        with _hanging_is_an_error():
            _plan(path)
        found, message = "planned", ""
    except ServingVerdictError as error:
        found, message = type(error).__name__, str(error)
    took = time.process_time() - before
    assert took < MOST_SECONDS, f"took {took:.1f} s"
    assert len(message) < MOST_CHARACTERS, f"a message of {len(message)} characters: {message[:300]}"
    assert all(len(line) < MOST_CHARACTERS_OF_A_LINE + 100 for line in message.split("\n")), "a long line"
    assert PLANTED_FILE not in message, "shows what another file holds"
    assert PLANTED_VALUE not in message, "shows what a variable holds"
    assert not message or not _lines_without_help(message), f"no next step, no key: {_lines_without_help(message)}"
    return found


def fuzz(count: int, seed: int = 1, first: int = 0) -> tuple[Counter[str], dict[int, str]]:
    """Try `count` hostile configs; how many there were of each outcome, and, by their numbers, what was amiss (also printed)."""
    found: Counter[str] = Counter()
    amiss: dict[int, str] = {}
    watch = _Watch()
    with fuzz_folder() as folder:
        (folder / "shared").mkdir()
        for name, content in SOURCES.items():
            (folder / name).write_bytes(content)
        (folder / FOREIGN).write_text(f"{PLANTED_FILE}\n{PLANTED_FILE}: [\n")
        (folder / "foreign.yml").write_text(f"- {PLANTED_FILE}\n")
        os.mkfifo(folder / SILENT)
        os.mkfifo(folder / "silent.yml")
        _plan(folder / CONFIGS[-1])  # loads, in its own time, what is loaded once
        there = sorted(folder.rglob("*"))
        for number in range(first, first + count):
            name, victim, content = hostile(seed, number)
            (folder / victim).write_bytes(content)
            watch.seen, watch.on = [], True
            try:
                found[outcome(folder / name)] += 1
            except Exception as error:  # noqa: BLE001 (whatever is raised is what is looked for)
                amiss[number] = f"{type(error).__name__}: {str(error)[:600]}"
            finally:
                watch.on = False
            if watch.seen or sorted(folder.rglob("*")) != there:
                amiss[number] = f"{watch.seen or 'made files'}"
            if number in amiss:
                print(f"{number}: {name}: {amiss[number]}", flush=True)
            (folder / victim).write_bytes(SOURCES[victim])
    return found, amiss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first config")
    options = parser.parse_args()
    before = time.monotonic()
    found, amiss = fuzz(options.count, options.seed, options.first)
    print(
        f"{options.count} configs in {time.monotonic() - before:.0f} s: {dict(found.most_common())}, {len(amiss)} amiss"
    )
    sys.exit(bool(amiss))


if __name__ == "__main__":
    main()
