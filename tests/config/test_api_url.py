"""The address of a server: the path of the API comes before a query, and what cannot be sent is refused with the config."""

import base64
import http.server
import json
import threading

import pytest
from config_text import TEXT

from helpers.config.file import load_config
from helpers.config.workload import Generation
from helpers.endpoints.targets.base import target_of
from helpers.errors import ConfigError
from helpers.load.bodies import RequestWriter, prepare_requests
from helpers.run.folder import open_run

PASSWORD = "p%40ss-w0rd-0001"


def option_text(base_url, more=""):
    text = TEXT.replace("base_url: http://localhost:8000/v1", f"base_url: {json.dumps(base_url)}{more}")
    return text + "run_root: runs\n"


def address_of(tmp_path, base_url, more=""):
    """The address of a config's OpenAI option, its ledger entry and its run."""
    (tmp_path / "c.yml").write_text(option_text(base_url, more))
    config, run = open_run(str(tmp_path / "c.yml"), new=True)
    target = target_of(config.benchmark.options[0], config.benchmark, run)
    record = target.plan()
    return target.address(record), record, run


def head_of(address):
    """The head of a request as it is sent."""
    import pyarrow as pa

    prompts = pa.table({"prompt_id": ["p"], "text": ["t"], "rendered": ["t"]})
    (prepared,) = prepare_requests(prompts, address, Generation(max_output_tokens=1), {})
    return RequestWriter(address).write("id", prepared).partition(b"\r\n\r\n")[0].decode().split("\r\n")


@pytest.mark.parametrize(
    ("base_url", "request_line", "host"),
    [
        ("http://localhost:8000/v1", "/v1/chat/completions", "localhost:8000"),
        ("http://localhost:8000/v1/", "/v1/chat/completions", "localhost:8000"),
        ("http://localhost:8000/v1//", "/v1/chat/completions", "localhost:8000"),
        ("http://localhost:8000", "/chat/completions", "localhost:8000"),
        ("http://localhost:8000/v1/chat/completions", "/v1/chat/completions", "localhost:8000"),
        (
            "https://x.openai.azure.com/openai/v1?api-version=2025-01-01",
            "/openai/v1/chat/completions?api-version=2025-01-01",
            "x.openai.azure.com",
        ),
        ("https://x.example/?a=b/&c=", "/chat/completions?a=b/&c=", "x.example"),
        ("http://[::1]:8000/v1", "/v1/chat/completions", "[::1]:8000"),
        ("http://bücher.example/v1", "/v1/chat/completions", "xn--bcher-kva.example"),
        ("HTTP://LocalHost:8000/v1", "/v1/chat/completions", "localhost:8000"),
        ("http://localhost:8000/mod%C3%A8le/v1", "/mod%C3%A8le/v1/chat/completions", "localhost:8000"),
        ("http://localhost:8000/modèle/v1", "/mod%C3%A8le/v1/chat/completions", "localhost:8000"),
    ],
)
def test_the_path_of_the_api_is_joined_before_the_query(tmp_path, base_url, request_line, host):
    address, record, _ = address_of(tmp_path, base_url)
    head = head_of(address)
    assert head[0] == f"POST {request_line} HTTP/1.1"
    assert f"Host: {host}" in head
    assert record.endpoint_name == host


@pytest.mark.parametrize(
    ("base_url", "words"),
    [
        ("localhost:8000/v1", "Expected http:// or https:// and a host"),
        ("", "Expected http:// or https:// and a host"),
        ("ftp://localhost/v1", "Expected http:// or https:// and a host"),
        ("http:///v1", "Expected http:// or https:// and a host"),
        ("http://:8000/v1", "empty host"),
        ("http://localhost:99999/v1", "invalid port number"),
        ("http://localhost:0/v1", "Expected a port from 1 to 65535"),
        ("http://localhost:http/v1", "invalid port number"),
        ("http://local host/v1", "Expected a URL without spaces, line ends"),
        ("http://localhost/v 1", "Expected a URL without spaces, line ends"),
        ("http://localhost/v1\n", "Expected a URL without spaces, line ends"),
        ("http://localhost/v1\r\nX-Injected: 1", "Expected a URL without spaces, line ends"),
        ("http://localhost\\v1", "Expected a URL without spaces, line ends"),
        ("http://localhost/v1#part", "Expected a URL without `#`"),
        ("http://[::1/v1", "invalid IPv6 address"),
        ("http://256.1.1.1/v1", "invalid IPv4 address"),
        ("http://xn--a/v1", "invalid international domain name"),
    ],
)
def test_what_is_no_address_is_refused_when_the_config_is_read(tmp_path, base_url, words):
    (tmp_path / "c.yml").write_text(option_text(base_url))
    with pytest.raises(ConfigError) as refused:
        load_config(tmp_path / "c.yml")
    (line,) = str(refused.value).splitlines()
    assert line.startswith(f"{tmp_path}/c.yml:18: options[0].base_url: bad value '")
    assert words in line


@pytest.mark.parametrize("key", ["two words-0", "key-1\n", "clé-2", "key-3\t"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(tmp_path, monkeypatch, key):
    monkeypatch.setenv("KEY", key)
    (tmp_path / "c.yml").write_text(option_text("http://localhost:8000/v1", "\n    api_key: ${KEY}"))
    with pytest.raises(ConfigError, match="Expected a key of visible ASCII characters") as refused:
        load_config(tmp_path / "c.yml")
    assert key.strip() not in str(refused.value)


# --- user and password -------------------------------------------------------------------------------------------------


def test_a_password_from_the_environment_is_sent_as_basic_and_written_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("PASSWORD", PASSWORD)
    address, record, run = address_of(tmp_path, "http://me:${PASSWORD}@localhost:8000/v1")
    encoded = base64.b64encode(b"me:p@ss-w0rd-0001").decode()
    assert f"Authorization: Basic {encoded}" in head_of(address)
    assert "Host: localhost:8000" in head_of(address)
    assert set(address.secrets()) == {encoded, "me:p@ss-w0rd-0001", "p@ss-w0rd-0001"}
    assert record.endpoint_name == "localhost:8000"
    shown = f"{address!r} {record!r} {(run.path / 'config.yml').read_text()}"
    assert "ss-w0rd" not in shown
    assert encoded not in shown
    assert "http://me:${PASSWORD}@localhost:8000/v1" in shown


class AsksForAPassword(http.server.BaseHTTPRequestHandler):
    """Refuses a request, and quotes what it was sent."""

    seen: list[str | None] = []  # noqa: RUF012

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append(self.headers["Authorization"])
        body = json.dumps({"error": {"message": f"not let in: {self.headers['Authorization']}"}}).encode()
        self.send_response(401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def test_a_server_gets_the_password_and_what_it_quotes_is_hidden(tmp_path, monkeypatch):
    from attempt_specs import measure, spec_of

    from helpers.load.load_processes import LoadProcesses

    monkeypatch.setenv("PASSWORD", PASSWORD)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), AsksForAPassword) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        url = f"http://me:${{PASSWORD}}@127.0.0.1:{server.server_port}/v1"
        address, _, _ = address_of(tmp_path, url)
        with LoadProcesses(tmp_path / "load.log") as processes:
            requests, _ = measure(
                processes, spec_of(tmp_path, address.url, address=address.model_dump(), tokens=6, max_duration_s=1)
            )
        server.shutdown()
    encoded = base64.b64encode(b"me:p@ss-w0rd-0001").decode()
    assert set(AsksForAPassword.seen) == {f"Basic {encoded}"}
    assert set(requests["error"].str.contains("not let in: Basic (hidden)", regex=False)) == {True}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("base_url: http://localhost:8000/v1", f"base_url: http://me:{PASSWORD}@localhost:8000/v1"),
        ("base_url: http://localhost:8000/v1", f"base_url: 'http://me:{PASSWORD}@${{HOST}}/v1'"),
        ("base_url: http://localhost:8000/v1", f"base_url: http://me:{PASSWORD}@localhost:99999/v1"),
        ("base_url: http://localhost:8000/v1", f"base_url: http://localhost/v1?api-key={PASSWORD}"),
        ("base_url: http://localhost:8000/v1", f"base_url: https://localhost/v1?a=b&sig={PASSWORD}"),
        ("served_model: m", f"served_model: m\n    extra_body: {{api_key: {PASSWORD}}}"),
        ("served_model: m", f"served_model: m\n    extra_body: {{headers: {{X-Token: {PASSWORD}}}}}"),
        ("served_model: m", f"served_model: m\n    extra_body: {{Authorization: {PASSWORD}}}"),
        ("served_model: m", f"served_model: m\n    extra_body: {{x: 'Bearer {PASSWORD}'}}"),
        ("served_model: m", f"served_model: m\n    extra_body: {{x: [sk-{PASSWORD.replace('%', '')}]}}"),
        ("image: engine", f"image: 'user:x@https://me:{PASSWORD}@registry.example/engine'"),
        (
            "kind: python_reference",
            f"kind: jsonl\n    path: 'https://b.s3.amazonaws.com/x?X-Amz-Signature={PASSWORD}'",
        ),
        ("traffic:", f"local_sagemaker: {{engines: {{e: [serve, '--api-key={PASSWORD}']}}}}\ntraffic:"),
        ("traffic:", f"aws: {{tags: {{a: hf_{PASSWORD.replace('%', '').replace('-', '')}}}}}\ntraffic:"),
        ("traffic:", "aws: {tags: {a: AKIAIOSFODNN7EXAMPLE}}\ntraffic:"),
        ("traffic:", f"description: 'Authorization: Basic {PASSWORD}'\ntraffic:"),
    ],
)
def test_a_secret_that_stands_in_the_file_is_refused_wherever_it_is_and_not_repeated(tmp_path, monkeypatch, old, new):
    monkeypatch.setenv("HOST", "localhost")
    assert TEXT.count(old) == 1
    (tmp_path / "c.yml").write_text(TEXT.replace(old, new))
    with pytest.raises(
        ConfigError, match=r"a secret is written into the file\. Expected \$\{NAME\}\. Next: "
    ) as refused:
        load_config(tmp_path / "c.yml")
    assert "ss-w0rd" not in str(refused.value)
    assert "EXAMPLE" not in str(refused.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("served_model: m", "served_model: m\n    extra_body: {prompt_cache_key: abc, stop_token: '</s>'}"),
        ("base_url: http://localhost:8000/v1", "base_url: http://localhost:8000/v1?api-version=2025-01-01"),
        ("base_url: http://localhost:8000/v1", "base_url: http://localhost:8000/v1?key=${KEY}"),
        ("traffic:", "description: basic setup, keys by token; see https://example.com/a:b@c\ntraffic:"),
        ("traffic:", "description: 'one risk-averse option, task-specific'\ntraffic:"),
    ],
)
def test_what_only_sounds_like_a_secret_may_stand_there(tmp_path, monkeypatch, old, new):
    monkeypatch.setenv("KEY", PASSWORD)
    (tmp_path / "c.yml").write_text(TEXT.replace(old, new))
    assert load_config(tmp_path / "c.yml").benchmark.name == "test"


def test_two_ways_to_authorize_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PASSWORD", PASSWORD)
    more = "\n    api_key: ${PASSWORD}"
    (tmp_path / "c.yml").write_text(option_text("http://me:${PASSWORD}@localhost:8000/v1", more))
    with pytest.raises(ConfigError, match="a request has one Authorization header"):
        load_config(tmp_path / "c.yml")
