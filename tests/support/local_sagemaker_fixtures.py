"""Fixtures of the test_local_sagemaker_*.py files, which name this module in `pytest_plugins`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from local_sagemaker_calls import ROLE, client_of, create, delete, session_at, status_after

from helpers.run import local_server as launcher
from local_sagemaker.tiny_model import ensure_model

FAKE_SERVER = """
import http.server, json, os, sys, threading, time
print("loading", flush=True)
if os.environ.get("CRASH"):
    print("loading weights"); print("out of memory, token", os.environ.get("HF_TOKEN"), flush=True); sys.exit(3)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
        if os.environ.get("CRASH_LATER"): threading.Timer(0.2, os._exit, (5,)).start()
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body.get("exit"): os._exit(7)
        if body.get("breaks"):
            self.send_response(200); self.send_header("Content-Length", "100"); self.end_headers()
            self.wfile.write(b"data: first"); self.wfile.flush(); self.connection.close(); return
        if body.get("endless"):
            self.send_response(200); self.end_headers()
            try:
                while True: self.wfile.write(b"data: x\\n\\n"); time.sleep(0.01)
            except OSError: return
        text = json.dumps({"headers": dict(self.headers), "environment": dict(os.environ)}).encode()
        self.send_response(body.get("status", 200)); self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
"""
FAKE_VARIABLES = ("CRASH", "CRASH_LATER", "HF_TOKEN")


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_model("2m", tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("local-sagemaker")


@pytest.fixture(scope="module")
def engines(folder: Path) -> dict[str, list[str]]:
    script = folder / "fake_server.py"
    script.write_text(FAKE_SERVER)
    return {"fake": [sys.executable, str(script)]}


@pytest.fixture(scope="module")
def server(folder: Path, engines: dict[str, list[str]]) -> Iterator[launcher.Address]:
    address_file = folder / "address.json"
    server = launcher.ensure_running(address_file, folder / "logs", engines, engine_variables=FAKE_VARIABLES)
    # A server that holds nothing any more ends, and a slow machine takes long from one test to the next.
    keeper = {"ModelName": "keeper", "ExecutionRoleArn": ROLE, "PrimaryContainer": {"Image": "fake"}}
    client_of(server, "sagemaker").create_model(**keeper)
    yield server
    launcher.stop(address_file)
    assert not address_file.exists()


@pytest.fixture(scope="module")
def url(server: launcher.Address) -> str:
    return server.url


@pytest.fixture(scope="module")
def session(server: launcher.Address) -> boto3.Session:
    return session_at(server)


@pytest.fixture(scope="module")
def sagemaker(server: launcher.Address) -> Any:
    return client_of(server, "sagemaker")


@pytest.fixture(scope="module")
def runtime(server: launcher.Address) -> Any:
    return client_of(server, "sagemaker-runtime")


@pytest.fixture(scope="module")
def endpoint(sagemaker: Any, model_folder: Path) -> Iterator[str]:
    """A real engine in service."""
    environment = {"ENGINE_MODEL": str(model_folder), "ENGINE_THREADS": "1", "ENGINE_MAX_NUM_SEQS": "4"}
    create(sagemaker, "engine", "openvino-genai", environment)
    assert status_after(sagemaker, "engine", "Creating")["EndpointStatus"] == "InService"
    yield "engine"
    delete(sagemaker, "engine")


@pytest.fixture(scope="module")
def fake(sagemaker: Any) -> Iterator[str]:
    create(sagemaker, "fake", "registry.example:5000/fake:1", {"HF_TOKEN": "hf_secret"})
    assert status_after(sagemaker, "fake", "Creating")["EndpointStatus"] == "InService"
    yield "fake"
    delete(sagemaker, "fake")
