"""What README says to a person who has a server that runs."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator

import pytest
from failing_server import failing_server

from helpers.__main__ import main
from helpers.config.benchmark import PROJECT_ROOT

README = (PROJECT_ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def server() -> Iterator[str]:
    with failing_server("Qwen/Qwen3-8B") as url:
        yield url


def test_the_config_for_a_url_works_with_nothing_in_the_environment(tmp_path, server, capsys):
    (text,) = re.findall(r"```yaml\n(# configs/mine\.yml\n.*?)```", README, re.DOTALL)
    assert len([line for line in text.splitlines() if not line.startswith("#")]) == 5
    text = text.replace("extends: ", f"extends: {PROJECT_ROOT}/configs/").replace("http://localhost:8000", server)
    config = tmp_path / "mine.yml"
    text = text.replace("tokenizer: Qwen/Qwen3-8B", 'tokenizer: "synthetic:2m"')
    config.write_text(text + "datasets: [{name: short, prompt_tokens: [20, 60], count: 400}]\n", encoding="utf-8")
    status = main(["plan", "--check", "--config", str(config)])
    assert status == 0, capsys.readouterr()
    with urllib.request.urlopen(f"{server}/log") as answer:
        assert json.load(answer) == [200]
