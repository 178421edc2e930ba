"""A secret in every place where one can be configured, in a run where all that may repeat one does: it is found nowhere."""

from __future__ import annotations

import base64
import http.server
import json
import sys
import threading
from urllib.parse import quote

import boto3
import nbformat
import pandas as pd
import pytest
from fault_lab import fault_config, records_of
from small_server import Handler

from helpers.config.secret_words import secret_hider

pytestmark = pytest.mark.slow

pytest_plugins = ["fault_fixtures", "moto_server"]

SECRETS = {
    "OPENAI_KEY": "sk-planted-openai-key-0001",
    "GATEWAY_PASSWORD": "planted-gateway-password-0002",
    "HF_TOKEN": "hf_plantedHuggingFaceToken0003",
    "IMAGE_TOKEN": "planted-image-token-0004",
    "MANAGED": "planted-managed-secret-0005",
    "MANAGED_JSON": "planted-json-secret-0006",
    "AWS_SESSION_TOKEN": "planted-aws-session-token-0008",
    "PRICE_SOURCE": "planted-price-source-0009",
    "PLAIN_SETTING": "planted-plain-setting-0010",
    "DESCRIPTION": "planted-description-0011",
}
PRINTS_ITS_ENVIRONMENT = (
    "import os, sys; print(dict(os.environ), flush=True); sys.exit('cannot load: ' + str(dict(os.environ)))"
)


ANSWERED = 2
"""Requests that come before the load: one while the endpoints are made, one before the option's own load."""


class RepeatsTheKey(Handler):
    """Refuses every request under load, and quotes its key, as some servers do."""

    def do_POST(self) -> None:  # noqa: N802 (the name of the library)
        self.server.seen += 1
        if self.server.seen <= ANSWERED:
            super().do_POST()
            return
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"error": {"message": f"Incorrect API key: {self.headers['Authorization']}"}}).encode()
        self.send_response(401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def refusing_server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), RepeatsTheKey) as server:
        server.seen = 0
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def options(openai_host: str) -> list[dict]:
    on_sagemaker = {
        "target": "sagemaker",
        "api": "openai_chat",
        "instance_type": "ml.g5.xlarge",
        "price": {"usd_per_hour": 1.4, "source": "${PRICE_SOURCE}"},
        "other_prices": [{"name": "of ${PRICE_SOURCE}", "usd_per_hour": 1, "source": "${PRICE_SOURCE}"}],
    }
    vllm = {"kind": "vllm", "version": "0.30.0", "model_id": "m", "hf_token": "${HF_TOKEN}"}
    vllm["environment"] = {"PLAIN": "${PLAIN_SETTING}"}
    crashing = {
        "image": "prints-its-environment",
        "environment": {"SOME_TOKEN": "${IMAGE_TOKEN}"},
        "secrets": {"PLAINLY_NAMED": "text-secret", "OTHER": "json-secret#key"},
    }
    return [
        {**on_sagemaker, "name": "serves", "container": vllm},
        {**on_sagemaker, "name": "crashes", "container": crashing},
        {
            "name": "refuses",
            "target": "openai",
            "base_url": f"http://{openai_host}/v1",
            "served_model": "m",
            "api_key": "${OPENAI_KEY}",
        },
        {
            "name": "wants a password",
            "target": "openai",
            "base_url": f"http://user:${{GATEWAY_PASSWORD}}@{openai_host}/v1",
            "served_model": "m",
        },
    ]


def holders(folder, secret: str) -> list[str]:
    """Files that hold a secret, as they are or behind the compression of Parquet."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file():
            held = secret.encode() in path.read_bytes()
            if path.suffix == ".parquet":
                held |= pd.read_parquet(path).astype(str).apply(lambda column: column.str.contains(secret).any()).any()
            if held:
                found.append(str(path.relative_to(folder)))
    return found


def test_no_secret_is_in_any_file_log_or_output(lab, moto_server, refusing_server, monkeypatch):
    manager = boto3.client("secretsmanager")
    manager.create_secret(Name="text-secret", SecretString=SECRETS["MANAGED"])
    manager.create_secret(Name="json-secret", SecretString=json.dumps({"key": SECRETS["MANAGED_JSON"]}))
    config = fault_config(lab.folder, options=options(refusing_server), description="${DESCRIPTION}")
    lab.images["prints-its-environment"] = [sys.executable, "-c", PRINTS_ITS_ENVIRONMENT]
    lab.variables = ("SOME_TOKEN", "PLAINLY_NAMED", "OTHER")
    lab.start()
    planted = SECRETS | {"AWS_SECRET_ACCESS_KEY": lab.server.secret_access_key}
    for name, value in planted.items():
        monkeypatch.setenv(name, value)
    run = lab.begin(config)
    said, _ = lab.spawn("-m", "helpers", "report", "--config", str(config), "--run-dir", str(run.path)).communicate(
        timeout=560
    )

    records = records_of(run)
    assert records["crashes"].cause == "container crashed", said
    assert "Last lines of the container:" in records["crashes"].failure, "the lines in which the secrets stood"
    assert "(hidden)" in records["crashes"].failure
    assert "HTTP 401: Incorrect API key: Bearer (hidden)" in records["refuses"].failure
    assert "HTTP 401: Incorrect API key: Basic (hidden)" in records["wants a password"].failure
    assert (run.path / "report.html").is_file()
    cells = [cell for path in run.path.glob("notebooks/*.ipynb") for cell in nbformat.read(path, 4).cells]
    outputs = [out for cell in cells for out in cell.get("outputs", [])]
    assert [out for out in outputs if out.get("name") == "stderr"] == [], (
        "a red box, also where kernels start as users' do"
    )
    assert "${PRICE_SOURCE}" in (run.path / "report.md").read_text()
    assert records["serves"].serving["PLAIN"] == "${PLAIN_SETTING}"
    encoded = base64.b64encode(f"user:{SECRETS['GATEWAY_PASSWORD']}".encode()).decode()
    for name, secret in {**planted, "as Basic sends it": encoded}.items():
        assert holders(run.path, secret[:12]) == [], name
        assert secret[:12] not in said, name
    assert lab.left() == set()


TOKEN_OF_AWS = "sagemaker-api-key-c2FnZW1ha2VyLmFtYXpvbmF3cy5jb20vP0FjdGlvbj1DYWxsV2l0aEJlYXJlclRva2Vu+/=="


@pytest.mark.parametrize("known", [[], ["some-other-secret"]], ids=["nothing known", "another known"])
@pytest.mark.parametrize(
    "form",
    [
        TOKEN_OF_AWS,
        f"Bearer {TOKEN_OF_AWS}",
        quote(TOKEN_OF_AWS, safe=""),
        json.dumps(TOKEN_OF_AWS).replace("/", r"\/"),
        TOKEN_OF_AWS.encode().hex(),
        *(base64.b64encode(b"x" * before + TOKEN_OF_AWS.encode()).decode() for before in range(3)),
        TOKEN_OF_AWS.replace("sagemaker", "bedrock"),
    ],
)
def test_bearer_tokens_of_aws_are_hidden_whoever_made_them(known, form):
    said = secret_hider(known)(f'refused: "{form}" is not valid')
    assert "(hidden)" in said and said.endswith(" is not valid")
    assert not any(part in said for part in ("c2FnZW", "1DYWxs", "63324", "YzJG", "L1A", "QxRZV"))
