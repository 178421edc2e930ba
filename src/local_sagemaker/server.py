"""The local SageMaker's process: one port on 127.0.0.1 for both planes, and when it exits.

It exits on SIGTERM or SIGINT, a few seconds after the last resource is deleted, or after a long time without calls;
all model servers exit with it. While it listens, an address file that only its owner can read has its URL and
credentials: {"url", "pid", "started_at", "access_key_id", "secret_access_key"}.
Times are in seconds.
"""

import argparse
import asyncio
import json
import os
import secrets
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import aiohttp
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from local_sagemaker.access import ACCESS_KEY_ID, Gate
from local_sagemaker.api import ApiError, Record, service_model
from local_sagemaker.cloudwatch import Metrics
from local_sagemaker.control_plane import ControlPlane
from local_sagemaker.data_plane import MAX_BODY_BYTES, DataPlane, reset_connection
from local_sagemaker.event_loop import new_event_loop
from local_sagemaker.faults import Fault, FaultRules
from local_sagemaker.json_protocol import SERVICES, Handler, json_answer, read_json, target_of
from local_sagemaker.logs import Logs
from local_sagemaker.model_servers import DEFAULT_ENGINES, ModelServers

HOST = "127.0.0.1"
SECRET_BYTES = 32
OWNER_ONLY = 0o600
DEFAULT_IDLE_TIMEOUT_S = 900.0
EMPTY_TIMEOUT_S = 5.0
"""How long the server stays up after its last resource is deleted."""

KEEPALIVE_TIMEOUT_S = 4.0
"""Below the keep-alive times of common model servers (uvicorn: 5 s), which must not close a connection being reused."""

WATCH_INTERVAL_S = 0.5
SHUTDOWN_TIMEOUT_S = 1.0
NAME_KEYS = ("EndpointName", "EndpointConfigName", "ModelName", "ResourceArn", "NameContains", "logGroupName")
"""The resource that a call is about, for fault rules: the first of these parameters that it has."""


@dataclass(frozen=True)
class ServerSettings:
    """How to run: files, port (0: any free one), lifetime, a command for each image name, and faults."""

    address_file: Path
    log_dir: Path
    port: int
    idle_timeout_s: float
    engines: dict[str, list[str]]
    engine_variables: list[str]
    faults: list[Fault]


class GivenSettings(BaseModel):
    """Settings that may hold secrets. They are not command-line arguments, which every user can read."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    engines: dict[str, Annotated[list[str], Field(min_length=1)]] = Field(default_factory=dict)
    engine_variables: list[str] = Field(default_factory=list)
    faults: list[Fault] = Field(default_factory=list)


class LocalSageMaker:
    """Both planes and the logs behind one HTTP application, and how they are being used."""

    def __init__(self, settings: ServerSettings, secret: str, http: aiohttp.ClientSession) -> None:
        self._settings = settings
        self._gate = Gate(secret)
        self._model_servers = ModelServers(settings.engines, settings.engine_variables, settings.log_dir, http)
        self._faults = FaultRules(settings.faults)
        self._control_plane = ControlPlane(self._model_servers)
        self._logs = Logs(self._model_servers.logs)
        self._metrics = Metrics()
        self._data_plane = DataPlane(self._control_plane, self._faults, http, self._metrics)
        self._watch = asyncio.get_running_loop().create_task(self._metrics.watch(self._model_servers.in_use))
        self._had_endpoint = False
        self._is_ending = False
        self._last_call = time.monotonic()

    def make_application(self) -> web.Application:
        """The routes of both planes."""
        application = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[self._gate.admit, self._note_call])
        application.router.add_get("/ping", self._ping)
        application.router.add_put("/faults", self._replace_faults)
        application.router.add_post("/", self._control)
        self._data_plane.add_routes(application.router)
        return application

    def why_end(self) -> str | None:
        """The reason why the server is no longer needed, if so."""
        if self._data_plane.invocations_in_flight:
            return None
        quiet_s = time.monotonic() - self._last_call
        is_done = self._had_endpoint and self._control_plane.is_empty
        # A new server would restart the counts of the fault rules: an endpoint that fails once would fail again.
        if is_done and self._faults.is_empty and quiet_s > EMPTY_TIMEOUT_S:
            return "everything was deleted"
        if quiet_s > self._settings.idle_timeout_s:
            return f"no call for {self._settings.idle_timeout_s:g} s"
        return None

    async def end(self) -> None:
        """Stops answering pings, and stops every model server."""
        self._is_ending = True
        self._watch.cancel()
        await self._model_servers.stop_all()

    async def _ping(self, _: web.Request) -> web.Response:
        if self._is_ending:
            return web.Response(status=503)
        return web.json_response({"service": "local-sagemaker", "pid": os.getpid()})

    async def _replace_faults(self, request: web.Request) -> web.Response:
        """Replaces the rules with a JSON list like `faults` in the settings."""
        try:
            self._faults.replace(TypeAdapter(list[Fault]).validate_json(await request.read()))
        except ValidationError as error:
            return web.Response(status=400, text=str(error))
        return web.Response()

    @web.middleware
    async def _note_call(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Counts a call while it is in progress. Pings count too, because the caller is about to use the server."""
        self._last_call = time.monotonic()
        try:
            return await handler(request)
        finally:
            self._last_call = time.monotonic()

    async def _control(self, request: web.Request) -> web.Response:
        service, operation = target_of(request)
        try:
            parameters = await read_json(request)
            fault = self._faults.find(operation, _name_in(parameters))
            if fault and fault.error_code:
                await asyncio.sleep(fault.delay_s)
                raise ApiError(fault.error_code, fault.message, fault.http_status)
            answer = self._call(service, operation, parameters, request["region"], fault)
        except ApiError as error:
            return json_answer({"__type": error.code, "message": error.message}, error.status)
        self._had_endpoint = self._had_endpoint or operation == "CreateEndpoint"
        if fault and operation != "CreateEndpoint":  # which lasts longer itself
            await asyncio.sleep(fault.delay_s)
        if fault and fault.loses_answer:
            return reset_connection(request)
        return json_answer(answer)

    def _call(self, service: str, operation: str, parameters: Record, region: str, fault: Fault | None) -> Record:
        if service == "logs":
            return self._logs.call(operation, parameters, region)
        if service == "monitoring":
            return self._metrics.call(operation, parameters)
        if service == "sagemaker":
            return self._control_plane.call(operation, parameters, region, fault)
        prefixes = " or ".join(f"{prefix}.<Operation>" for prefix in SERVICES)
        raise ApiError("UnknownOperationException", f"X-Amz-Target is not one of this server, expected {prefixes}")


async def serve(settings: ServerSettings) -> None:
    """Serves until the end; the address file exists only while the server listens."""
    settings.log_dir.mkdir(parents=True, exist_ok=True)
    settings.address_file.parent.mkdir(parents=True, exist_ok=True)
    service_model("sagemaker")  # loaded now, so that the first request does not wait for it
    async with _make_http_client() as http:
        secret = secrets.token_urlsafe(SECRET_BYTES)
        local = LocalSageMaker(settings, secret, http)
        runner = web.AppRunner(
            local.make_application(), access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_TIMEOUT_S
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, HOST, settings.port).start()
            url = f"http://{HOST}:{runner.addresses[0][1]}"
            _write_address(settings.address_file, url, secret)
            _log(f"listening on {url}, images: {', '.join(sorted(settings.engines))}")
            _log(f"ends: {await _wait_for_end(local)}")
        finally:
            _remove_address(settings.address_file)
            await local.end()
            await runner.cleanup()


def _make_http_client() -> aiohttp.ClientSession:
    """The connection pool to the model servers: unlimited, and without cookies."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_TIMEOUT_S)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("Accept-Encoding", "User-Agent"),
    )


async def _wait_for_end(local: LocalSageMaker) -> str:
    signalled: asyncio.Queue[str] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, signalled.put_nowait, number.name)
    while True:
        with suppress(TimeoutError):
            return await asyncio.wait_for(signalled.get(), WATCH_INTERVAL_S)
        if reason := local.why_end():
            return reason


def _write_address(path: Path, url: str, secret: str) -> None:
    """Writes the file for its owner alone, because anyone who can read it may call the server."""
    content = {"url": url, "pid": os.getpid(), "started_at": _now()}
    content |= {"access_key_id": ACCESS_KEY_ID, "secret_access_key": secret}
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    hidden.unlink(missing_ok=True)
    with os.fdopen(os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY), "w", encoding="utf-8") as file:
        file.write(json.dumps(content) + "\n")
    hidden.replace(path)


def _remove_address(path: Path) -> None:
    """Deletes the file, unless another server has written its own address since."""
    with suppress(FileNotFoundError, ValueError, KeyError):
        if json.loads(path.read_text(encoding="utf-8"))["pid"] == os.getpid():
            path.unlink()


def _log(text: str) -> None:
    print(_now(), text, flush=True)  # noqa: T201


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _name_in(parameters: Record) -> str:
    return next((str(parameters[key]) for key in NAME_KEYS if key in parameters), "")


def read_settings(arguments: list[str] | None = None) -> ServerSettings:
    """Settings from the command line; exits with a message if they are wrong."""
    parser = argparse.ArgumentParser(prog="python -m local_sagemaker", description="A SageMaker on loopback.")
    parser.add_argument("--address-file", type=Path, required=True, help="written while the server listens")
    parser.add_argument("--log-dir", type=Path, required=True, help="one log per endpoint goes here")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument(
        "--idle-timeout-s", type=float, default=DEFAULT_IDLE_TIMEOUT_S, help="exit after this long without a call"
    )
    parser.add_argument(
        "--settings", type=argparse.FileType(), help="JSON with engines, engine_variables, faults; - is standard input"
    )
    options = parser.parse_args(arguments)
    try:
        given = GivenSettings.model_validate_json(options.settings.read() if options.settings else "{}")
    except ValidationError as error:
        parser.error(f"argument --settings: {error}")
    return ServerSettings(
        address_file=options.address_file.resolve(),
        log_dir=options.log_dir.resolve(),
        port=options.port,
        idle_timeout_s=options.idle_timeout_s,
        engines={**DEFAULT_ENGINES, **given.engines},
        engine_variables=given.engine_variables,
        faults=given.faults,
    )


def main() -> None:
    """Runs the server in the foreground."""
    settings = read_settings()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve(settings))
