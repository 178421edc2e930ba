"""Configs that nobody writes by intent, or somebody does by ill intent: refused at once, in words, without repeating files."""

import os
import re
import time
import tracemalloc

import pytest
from config_text import TEXT

from helpers.config.file import load_config
from helpers.errors import ConfigError

SANE_CHARACTERS = 2500


def refused(path, text=None):
    """The message that a config file meets, within a second and without much memory."""
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    tracemalloc.start()
    before = time.process_time()
    with pytest.raises(ConfigError) as error:
        load_config(path)
    took, (_, peak) = time.process_time() - before, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert took < 10  # memory is traced, which takes most of it
    assert peak < 100e6
    message = str(error.value)
    assert max(map(len, message.splitlines())) < SANE_CHARACTERS
    return message


@pytest.fixture
def config(tmp_path):
    return tmp_path / "config.yml"


# --- too much ------------------------------------------------------------------------------------------------------


def aliases(first, each):
    """Twelve levels, each of which holds nine times the one before it."""
    lines = [f"a0: &a0 {first}"]
    lines += [f"a{i}: &a{i} {each.format(', '.join([f'*a{i - 1}'] * 9))}" for i in range(1, 12)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        aliases("[x, x]", "[{}]"),
        aliases("{x: 1}", "{{<<: [{}]}}"),
        "a: &a {<<: *a}\n",
        "a: &a {b: *a}\n",
        "a: " + "[" * 5000 + "]" * 5000,
        "a: " + "{a: " * 300 + "}" * 300,
        "- " * 300 + "x",
        "a: [" + "1, " * 60_000 + "1]",
        "a: {" + "".join(f"k{i}: , " for i in range(21_000)) + "}",
    ],
    ids=["aliases", "merges", "merged itself", "within itself", "lists", "sections", "dashes", "items", "keys"],
)
def test_too_many_values_are_refused_before_they_are_made(config, text):
    message = refused(config, text)
    assert re.search(r"config\.yml:\d+: not valid YAML: more than 20,000 values, or more than 40 levels", message)
    assert "Next: " in message


def test_aliases_take_no_time(config):
    """Written out they would take hours."""
    config.write_text(aliases("[x, x]", "[{}]"))
    before = time.process_time()
    with pytest.raises(ConfigError):
        load_config(config)
    assert time.process_time() - before < 10


def test_a_file_of_any_size_is_refused_at_once(config):
    with config.open("wb") as file:
        file.truncate(1 << 40)
    assert "larger than 256 KiB. Expected a config file. Next: " in refused(config)


@pytest.mark.parametrize("depth", [22, 30])
@pytest.mark.parametrize("key", ["a", "extra_body", "str"])
def test_a_fault_deep_in_a_section_is_found_at_once(config, depth, key):
    deep = f"{{{key}: " * depth + ".nan" + "}" * depth
    text = TEXT.replace("served_model: m", f"served_model: m\n    extra_body: {deep}")
    before = time.process_time()
    message = refused(config, text)
    assert time.process_time() - before < 10
    path = ".".join(["options[0].extra_body", *[key] * depth])
    assert path[:150] in message
    assert "bad value .nan. Expected " in message


# --- values that are not what they say -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("!!float abc", "bad value 'abc'. Expected what its tag !!float says. Next: delete the tag"),
        ("!!int xyz", "bad value 'xyz'. Expected what its tag !!int says. Next: "),
        ("!!int ''", "bad value ''. Expected what its tag !!int says. Next: "),
        ("!!int '-'", "bad value '-'. Expected what its tag !!int says. Next: "),
        ("!!int 0b", "bad value '0b'. Expected what its tag !!int says. Next: "),
        ("!!bool maybe", "bad value 'maybe'. Expected what its tag !!bool says. Next: "),
        ("!!float [1]", "'tag:yaml.org,2002:float' is not a tag that a config accepts. Next: delete the tag"),
        ("!!set {a}", "'tag:yaml.org,2002:set' is not a tag "),
        ("!!binary aGk=", "'tag:yaml.org,2002:binary' is not a tag "),
        ("!!timestamp x", "'tag:yaml.org,2002:timestamp' is not a tag "),
        ("!!python/object/apply:os.system ['true']", "'tag:yaml.org,2002:python/object/apply:os.system' is not a tag "),
        ("!" + "x" * 300, "is not a tag that a config accepts"),
        ('"\\ud83d"', "bad value: it holds half a character. Expected text. Next: "),
        ("1" * 5000, "(5,002 characters)"),
        ("1" * 5000, "Expected at most 100 digits. Next: quote it if it is text"),
        ("1:" * 5000 + "1", "Expected at most 100 digits"),
        ("1" + ":1" * 5000 + ".5", "Expected at most 100 digits"),
        ("-0x" + "f" * 5000, "Expected at most 100 digits"),
        ("1" * 90, "Expected "),
        ("<<", "is not a tag that a config accepts"),
        ('"\\0"', "bad value: it holds a NUL character. Expected text. Next: "),
        ('"\\ud800"', "bad value: it holds half a character. Expected text. Next: "),
    ],
)
def test_a_value_that_is_not_what_its_tag_says_is_refused_with_line_and_value(config, value, words):
    message = refused(config, TEXT.replace("percentile: 95", f"percentile: {value}"))
    assert message.startswith(f"{config}:34: slo.percentile: bad value")
    assert words in message


def test_of_very_many_faults_the_first_are_reported_and_how_many_there_are(config):
    faults = "".join(f"nonsense{i}: 1\n" for i in range(2000))
    lines = refused(config, TEXT + faults).splitlines()
    assert sum(map(len, lines)) < 12_000
    assert "nonsense0: unknown key" in lines[0]
    assert lines[-1] == f"... and {2000 - len(lines) + 1:,} more faults. Next: correct these first"


@pytest.mark.parametrize("value", ["ml.../../../etc/passwd", "ml./x", '"ml.\\0"', '"ml.c5.large\\n"', "ml."])
def test_an_instance_type_that_would_lead_elsewhere_in_the_kept_prices_is_refused(config, value):
    message = refused(config, TEXT.replace("instance_type: ml.c5.large", f"instance_type: {value}"))
    assert "instance_type: bad value" in message


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("? [a, b]\n: 1\n", "a key that is a section or a list. Expected a name. Next: "),
        ("<<: 5\n", "bad value of `<<`. Expected a section. Next: "),
        ("<<: [[]]\n", "bad value of `<<`. Expected a section. Next: "),
        ("1: 2\n", "1: unknown key."),
        ("no: 2\n", "no: unknown key."),
        ("null: 2\n", "null: unknown key."),
        ("=: 2\n", "=: unknown key."),
        ("'  ': 2\n", "'  ': unknown key."),
        ("'': 2\n", "'': unknown key."),
        ('"a\\ud83d": 2\n', "bad value: it holds half a character. "),
        (f"{'k' * 900}: 2\n", "(900 characters)"),
        ('"a\\nb\\u202e": 2\n', r"a\nb\u202e: unknown key."),
    ],
)
def test_a_key_that_is_no_name_is_refused(config, line, words):
    assert words in refused(config, line + TEXT)


@pytest.mark.parametrize(
    "text", [TEXT.encode("utf-16"), b"\xef\xbb\xbf" + TEXT.encode()], ids=["UTF-16", "UTF-8 with a mark"]
)
def test_what_an_editor_saves_with_a_byte_order_mark_is_read(config, text):
    config.write_bytes(text)
    assert load_config(config).benchmark.name == "test"


@pytest.mark.parametrize(
    ("content", "line"),
    [(b"name: a\nname2: \xff\xfe\n", 2), (b"a: b\n\n\x07", 3), (b"\x80" * 900, 1), (b"%TAG ! x\n", 2)],
)
def test_what_is_no_text_is_refused_with_its_line(config, content, line):
    message = refused(config, content)
    assert message.startswith(f"{config}:{line}: not valid YAML: ")
    assert "Next: " in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("key", ["run_root", "description", '"\\0"', '"\\udfff"'])
def test_what_no_path_can_hold_is_refused_with_its_line(config, key):
    message = refused(config, f'{key}: "a\\0b"\n{TEXT}')
    assert message.startswith(f"{config}:1: ")
    assert re.search("it holds (a NUL|half a) character", message)


def test_bytes_from_the_environment_that_are_no_text_are_refused(config, monkeypatch):
    monkeypatch.setenv("NOT_TEXT", b"caf\xe9".decode("utf-8", "surrogateescape"))
    message = refused(config, TEXT.replace("served_model: m", "served_model: ${NOT_TEXT}"))
    assert "options[0].served_model: bad value from the environment: it holds half a character" in message


# --- long values, and files that are none of ours ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("percentile: 95", "percentile: LONG"),
        ("target: openai", "target: LONG"),
        ("name: server", "name: LONG"),
        ("concurrency: [1, 4]", "concurrency: [LONG, LONG]"),
        ("concurrency: [1, 4]", f"concurrency: [{', '.join(['7'] * 15_000)}]"),
        ("headroom: 0.3", f"mix: {{{', '.join(f'd{i}: 1' for i in range(9000))}}}"),
        ("served_model: m", "served_model: m\n    datasets: [LONG]"),
        ("traffic:", "? LONG\n: 5\ntraffic:"),
        ("traffic:", "extends: LONG\ntraffic:"),
        ("traffic:", "option_defaults: LONG\ntraffic:"),
        ("served_model: m", "served_model: ${LONG}"),
        ("served_model: m", "served_model: *LONG"),
    ],
)
def test_a_message_has_a_sane_length_whatever_it_quotes(config, old, new):
    assert TEXT.count(old) == 1
    message = refused(config, TEXT.replace(old, new.replace("LONG", "x" * 60_000)))
    assert "characters" in message or "..." in message


@pytest.fixture
def planted(tmp_path):
    """Things in a file system that are no config."""
    (tmp_path / "secret.txt").write_text("root:x:0:0:planted-content\n")
    (tmp_path / "planted.yml").write_text("planted-content: of another file")
    (tmp_path / "text.yml").write_text("root:x:0:0:planted-content\n")
    (tmp_path / "folder.yml").mkdir()
    os.mkfifo(tmp_path / "pipe.yml")
    (tmp_path / "device.yml").symlink_to("/dev/zero")
    (tmp_path / "memory.yml").symlink_to("/proc/self/mem")
    (tmp_path / "loop.yml").symlink_to(tmp_path / "loop.yml")
    return tmp_path


OTHERS = {
    "/etc/passwd": "Expected the path of one YAML file, *.yml or *.yaml. Next: ",
    "/proc/self/mem": "Expected the path of one YAML file, *.yml or *.yaml",
    "secret.txt": "Expected the path of one YAML file, *.yml or *.yaml",
    "text.yml": "text.yml:1: (top level): the file holds text. Expected a section with keys",
    "folder.yml": "folder.yml is not a regular file. Next: ",
    "pipe.yml": "pipe.yml is not a regular file. Next: ",
    "device.yml": "device.yml is not a regular file. Next: ",
    "memory.yml": "memory.yml: cannot be read: ",
    "loop.yml": "loop.yml cannot be opened (Too many levels of symbolic links)",
    "x" * 300 + ".yml": " cannot be opened (File name too long). Next: ",
    '"a\\0b.yml"': "bad value: it holds a NUL character. Expected text. Next: ",
    "~nobody-of-this-name/x.yml": "x.yml does not exist. Next: ",
}


@pytest.mark.parametrize(("other", "words"), OTHERS.items(), ids=[name[:20] for name in OTHERS])
def test_another_file_is_refused_and_its_content_is_not_repeated(planted, config, other, words):
    message = refused(config, f"extends: {other}\n{TEXT}")
    assert words in message
    assert "planted-content" not in message
    assert "root:" not in message


@pytest.mark.parametrize("name", ["folder.yml", "pipe.yml", "device.yml", "memory.yml", "loop.yml", "x" * 300, "a\0b"])
def test_a_config_that_is_no_file_is_refused(planted, name):
    message = refused(planted / name)
    assert re.search(r": (no config file: it |cannot be read: ).*\. Next: ", message)
