"""Who may call the local SageMaker and its model servers: the run that started them, and nobody else on the machine."""

import base64
import json
import os
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import Request

import boto3
import psutil
import pytest
from botocore.exceptions import ClientError
from local_sagemaker_calls import REGION, client_of, create, delete, refused, session_at, signed, status_after

from helpers.run import local_server as launcher
from helpers.run.local_server import Address

pytest_plugins = ["local_sagemaker_fixtures"]

LIST_MODELS = {"X_Amz_Target": "SageMaker.ListModels"}
PATHS = {
    "control plane": "/",
    "answer in one piece": "/endpoints/fake/invocations",
    "streamed answer": "/endpoints/fake/invocations-response-stream",
    "faults": "/faults",
}
NOBODY = 65534
ENGINE = "local_sagemaker.engine"


def answer_to(request: Request) -> tuple[int, str]:
    """HTTP status, and the code of the error."""
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, ""
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["__type"]


def changed(request: Request, **headers: str | None) -> Request:
    for name, value in headers.items():
        name = name.replace("_", "-").capitalize()
        request.remove_header(name) if value is None else request.add_header(name, value)
    return request


def tampered(request: Request) -> Request:
    request.data = b'{"NameContains": "other"}'
    return request


def at_another_time(request: Request, server: Address, seconds: float) -> Request:
    from botocore.auth import SIGV4_TIMESTAMP, SigV4Auth
    from botocore.awsrequest import AWSRequest

    class AtThatTime(SigV4Auth):
        def _modify_request_before_signing(self, aws_request: AWSRequest) -> None:
            stamp = time.strftime(SIGV4_TIMESTAMP, time.gmtime(time.time() + seconds))
            aws_request.context["timestamp"] = stamp
            super()._modify_request_before_signing(aws_request)

    aws_request = AWSRequest(method=request.method, url=request.full_url, data=request.data)
    AtThatTime(session_at(server).get_credentials(), "sagemaker", REGION).add_auth(aws_request)
    return Request(request.full_url, request.data, dict(aws_request.headers.items()), method=request.method)


ATTEMPTS: dict[str, tuple[Callable[[Request, Address], Request], str]] = {
    "no signature": (
        lambda request, server: changed(request, Authorization=None),
        "MissingAuthenticationTokenException",
    ),
    "no signature of AWS": (
        lambda request, server: changed(request, Authorization="Bearer x"),
        "IncompleteSignatureException",
    ),
    "body changed": (lambda request, server: tampered(request), "InvalidSignatureException"),
    "other time written": (
        lambda request, server: changed(request, X_amz_date=time.strftime("%Y%m%dT000000Z", time.gmtime())),
        "InvalidSignatureException",
    ),
    "ten minutes old": (lambda request, server: at_another_time(request, server, -600), "InvalidSignatureException"),
    "from the future": (lambda request, server: at_another_time(request, server, 600), "InvalidSignatureException"),
    "unsigned header of AWS": (
        lambda request, server: changed(request, X_amzn_sagemaker_inference_id="1"),
        "InvalidSignatureException",
    ),
    "other Host": (lambda request, server: changed(request, Host="attacker.example"), "AccessDeniedException"),
    "Host of another port": (lambda request, server: changed(request, Host="127.0.0.1:1"), "AccessDeniedException"),
    "Origin": (lambda request, server: changed(request, Origin="https://attacker.example"), "AccessDeniedException"),
    "opaque Origin": (lambda request, server: changed(request, Origin="null"), "AccessDeniedException"),
}


@pytest.mark.parametrize("attempt", ATTEMPTS)
@pytest.mark.parametrize("place", PATHS)
@pytest.mark.usefixtures("fake")
def test_what_is_not_signed_with_the_secret_is_refused_everywhere(server: Address, place: str, attempt: str) -> None:
    method = "PUT" if place == "faults" else "POST"
    body = b"[]" if place == "faults" else b"{}"
    headers = LIST_MODELS if place == "control plane" else {}
    request = signed(server, PATHS[place], method, body, **headers)
    assert answer_to(request)[0] == 200, "what is signed is let in"
    change, code = ATTEMPTS[attempt]
    assert answer_to(change(signed(server, PATHS[place], method, body, **headers), server)) == (403, code)


# --- bearer tokens of the OpenAI-compatible path ------------------------------------------------------------------

CHAT = "/endpoints/fake/openai/v1/chat/completions"


def with_token(server: Address, token: str, path: str = CHAT) -> Request:
    return Request(server.url + path, b"{}", {"Authorization": f"Bearer {token}", "Content-Type": "application/json"})


def token_of(server: Address, life_s: int = 60, **change: str) -> str:
    """A token as the SageMaker SDK makes it; `change` replaces texts in the URL that it holds."""
    from sagemaker.core.token_generator.token_generator import AUTH_PREFIX, _generate_token

    token = _generate_token(session_at(server).get_credentials(), REGION, life_s)
    url = base64.b64decode(token.removeprefix(AUTH_PREFIX)).decode()
    for old, new in change.items():
        assert old in url
        url = url.replace(old, new)
    return AUTH_PREFIX + base64.b64encode(url.encode()).decode()


@pytest.mark.usefixtures("fake")
def test_a_token_of_the_sagemaker_sdk_is_let_in_on_the_openai_path_alone(server: Address) -> None:
    token = token_of(server)
    assert answer_to(with_token(server, token)) == (200, "")
    for path in ("/endpoints/fake/invocations", "/"):
        assert answer_to(with_token(server, token, path)) == (403, "IncompleteSignatureException")


@pytest.mark.usefixtures("fake")
def test_what_is_no_valid_token_is_refused(server: Address) -> None:
    stranger = Address(server.url, server.pid, server.access_key_id, "another secret")
    bad = {
        "not a token": "x",
        "not base64": "sagemaker-api-key-%%%",
        "another secret": token_of(stranger),
        "another key": token_of(server, local="AKIAOTHER"),
        "another action": token_of(server, CallWithBearerToken="ListModels"),
        "another service": token_of(server, **{"%2Fsagemaker%2F": "%2Fbedrock%2F"}),
        "longer than signed": token_of(server, **{"X-Amz-Expires=60": "X-Amz-Expires=600"}),
        "longer than AWS takes": token_of(server, 50_000),
        "another host": token_of(server, **{"sagemaker.amazonaws.com": "attacker.example"}),
        "a parameter twice": token_of(server, **{"&Version=1": "&Version=1&Version=1"}),
        "no version": token_of(server, **{"&Version=1": ""}),
    }
    assert {name: answer_to(with_token(server, token)) for name, token in bad.items()} == dict.fromkeys(
        bad, (403, "AccessDeniedException")
    )
    expired = token_of(server, 1)
    time.sleep(1.1)
    assert answer_to(with_token(server, expired)) == (403, "AccessDeniedException")


def test_a_made_up_secret_or_key_is_refused(server: Address) -> None:
    for key, secret, code in (
        (server.access_key_id, "local", "InvalidSignatureException"),
        ("AKIAMADEUP", server.secret_access_key, "UnrecognizedClientException"),
    ):
        session = boto3.Session(key, secret, region_name=REGION)
        with pytest.raises(ClientError) as error:
            session.client("sagemaker", endpoint_url=server.url).list_models()
        assert refused(error)[0] == code


def test_a_ping_is_not_for_web_pages(server: Address) -> None:
    assert answer_to(Request(f"{server.url}/ping")) == (200, "")
    assert answer_to(changed(Request(f"{server.url}/ping"), Host="attacker.example"))[0] == 403


def test_each_server_has_a_secret_of_its_own_that_others_cannot_read(
    server: Address, folder: Path, tmp_path: Path
) -> None:
    other = launcher.ensure_running(tmp_path / "address.json", tmp_path)
    try:
        assert other.secret_access_key != server.secret_access_key
        assert len(other.secret_access_key) >= 40
        assert other.secret_access_key not in repr(other)
        for file in (tmp_path / "address.json", folder / "address.json"):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
    finally:
        launcher.stop(tmp_path / "address.json")


def test_another_user_is_refused_by_every_port_and_file(server: Address, folder: Path, endpoint: str) -> None:
    """Tries what an attacker with a shell on the machine would try, as the user `nobody`."""
    if os.getuid() != 0:
        pytest.skip("only root can act as another user")
    process = psutil.Process(server.pid)
    ports = [
        connection.laddr.port
        for one in (process, *(child for child in process.children() if ENGINE in child.cmdline()))
        for connection in one.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(ports) >= 2, "the server, and a model server"
    program = f"""
import encodings.idna, json, os, urllib.error, urllib.request
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
def status(url, data):
    scope = "Credential=local/20260101/eu-west-1/sagemaker/aws4_request"
    signature = f"AWS4-HMAC-SHA256 {{scope}}, SignedHeaders=host, Signature={{'0' * 64}}"
    headers = {{"Authorization": signature, "X-Amz-Target": "SageMaker.ListModels", "X-Amz-Date": "20260101T000000Z"}}
    try: return urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=60).status
    except urllib.error.HTTPError as error: return error.code
paths = ["/", "/endpoints/{endpoint}/invocations", "/invocations", "/v1/chat/completions", "/faults"]
body = b'{{"messages": [{{"role": "user", "content": "x"}}]}}'
answers = {{f"{{port}}{{path}}": status(f"http://127.0.0.1:{{port}}{{path}}", body)
    for port in {ports} for path in paths}}
for file in ({str(folder / "address.json")!r}, "/proc/{server.pid}/environ"):
    try: answers[file] = open(file).read()
    except OSError as error: answers[file] = "refused"
print(json.dumps(answers))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    answers = json.loads(done.stdout or f'{{"error": {json.dumps(done.stderr)}}}')
    assert set(answers.values()) <= {403, 404, 405, "refused"}, answers
    assert list(answers.values()).count("refused") == 2


@pytest.mark.parametrize("image", ["openvino-genai", "fake"])
def test_variables_that_the_engine_does_not_know_do_not_reach_it(
    sagemaker: Any, folder: Path, model_folder: Path, tmp_path: Path, image: str
) -> None:
    """Each of them makes Python, a shell or the linker run what somebody else wrote."""
    proof = tmp_path / "proof"
    (tmp_path / "sitecustomize.py").write_text(f"open({str(proof)!r}, 'w').close()")
    browser = tmp_path / "browser"
    browser.write_text(f"#!/bin/sh\ntouch {proof}\n")
    browser.chmod(0o755)
    hostile = {
        "PYTHONPATH": str(tmp_path),
        "PYTHONWARNINGS": "all:0:antigravity.x:0:0",
        "PYTHONSTARTUP": str(tmp_path / "sitecustomize.py"),
        "BROWSER": f"{browser} %s",
        "LD_PRELOAD": str(tmp_path / "x.so"),
        "BASH_ENV": str(browser),
        "PATH": str(tmp_path),
        "SAGEMAKER_BIND_TO_PORT": "1",
        "ENGINE_SECRET": "known",
    }
    name = f"hostile-{image}"
    create(sagemaker, name, image, {**hostile, "ENGINE_MODEL": str(model_folder), "ENGINE_THREADS": "1"})
    assert status_after(sagemaker, name, "Creating")["EndpointStatus"] == "InService"
    delete(sagemaker, name)
    assert not proof.exists()
    log = (folder / "logs" / f"{name}.log").read_text()
    assert f"ignored variables that this engine does not know: {', '.join(sorted(hostile))}\n" in log


def test_no_process_shows_the_settings_among_its_arguments(tmp_path: Path, engines: dict[str, list[str]]) -> None:
    """Every user can read /proc/<pid>/cmdline."""
    server = launcher.ensure_running(
        tmp_path / "address.json", tmp_path, {"x": [*engines["fake"], "--token", "hf_secret"]}
    )
    try:
        client_of(server, "sagemaker").list_models()
        assert "hf_secret" not in " ".join(psutil.Process(server.pid).cmdline())
    finally:
        launcher.stop(tmp_path / "address.json")
