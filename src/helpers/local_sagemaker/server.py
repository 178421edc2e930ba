"""The process of the local SageMaker: one port on 127.0.0.1 for both planes, and the rules for its end.

It ends on SIGTERM or SIGINT, some seconds after the last resource was deleted, or when nobody has called for long;
every model server ends with it. While it listens, an address file says where: {"url", "pid", "started_at"}.
Times are in seconds.
"""

import argparse
import asyncio
import json
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from helpers.local_sagemaker.api import ApiError, Record, service_model
from helpers.local_sagemaker.control_plane import ControlPlane
from helpers.local_sagemaker.data_plane import MAX_BODY_BYTES, DataPlane, reset_connection
from helpers.local_sagemaker.event_loop import new_event_loop
from helpers.local_sagemaker.faults import Fault, FaultRules
from helpers.local_sagemaker.json_protocol import (
    SERVICES,
    Handler,
    json_answer,
    read_json,
    region_of,
    require_signature,
    target_of,
)
from helpers.local_sagemaker.logs import Logs
from helpers.local_sagemaker.model_servers import DEFAULT_ENGINES, ModelServers

HOST = "127.0.0.1"
DEFAULT_IDLE_TIMEOUT_S = 900.0
EMPTY_TIMEOUT_S = 5.0
"""How long the server stays after its last resource was deleted."""

KEEPALIVE_TIMEOUT_S = 4.0
"""Below the keep-alive times of common model servers (uvicorn: 5 s), which must not close a connection being reused."""

WATCH_INTERVAL_S = 0.5
SHUTDOWN_TIMEOUT_S = 1.0
NAME_KEYS = ("EndpointName", "EndpointConfigName", "ModelName", "ResourceArn", "NameContains", "logGroupName")
"""What a call is about, for the rules of faults: the first of these parameters that it has."""


@dataclass(frozen=True)
class ServerSettings:
    """How to run: files, port (0: any free one), life time, a command for each image name, and what goes wrong."""

    address_file: Path
    log_dir: Path
    port: int
    idle_timeout_s: float
    engines: dict[str, list[str]]
    faults: list[Fault]


class LocalSageMaker:
    """Both planes and the logs behind one HTTP application, and what is known about their use."""

    def __init__(self, settings: ServerSettings, http: aiohttp.ClientSession) -> None:
        self._settings = settings
        self._model_servers = ModelServers(settings.engines, settings.log_dir, http)
        self._faults = FaultRules(settings.faults)
        self._control_plane = ControlPlane(self._model_servers)
        self._logs = Logs(self._model_servers.logs)
        self._data_plane = DataPlane(self._control_plane, self._faults, http)
        self._had_endpoint = False
        self._is_ending = False
        self._last_call = time.monotonic()

    def make_application(self) -> web.Application:
        """The routes of both planes."""
        application = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[self._note_call, require_signature])
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
        # A new server would count the calls of the fault rules anew: an endpoint that fails once would fail again.
        if is_done and self._faults.is_empty and quiet_s > EMPTY_TIMEOUT_S:
            return "everything was deleted"
        if quiet_s > self._settings.idle_timeout_s:
            return f"no call for {self._settings.idle_timeout_s:g} s"
        return None

    async def end(self) -> None:
        """Answers no more pings, and stops every model server."""
        self._is_ending = True
        await self._model_servers.stop_all()

    async def _ping(self, _: web.Request) -> web.Response:
        if self._is_ending:
            return web.Response(status=503)
        return web.json_response({"service": "local-sagemaker", "pid": os.getpid()})

    async def _replace_faults(self, request: web.Request) -> web.Response:
        """Other rules from now on: a JSON list, as after `--faults`."""
        try:
            self._faults.replace(TypeAdapter(list[Fault]).validate_json(await request.read()))
        except ValidationError as error:
            return web.Response(status=400, text=str(error))
        return web.Response()

    @web.middleware
    async def _note_call(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """A call counts from its beginning to its end. A ping counts too: who asks is about to use the server."""
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
            answer = self._call(service, operation, parameters, region_of(request), fault)
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
        local = LocalSageMaker(settings, http)
        runner = web.AppRunner(
            local.make_application(), access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_TIMEOUT_S
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, HOST, settings.port).start()
            url = f"http://{HOST}:{runner.addresses[0][1]}"
            _write_address(settings.address_file, url)
            _log(f"listening on {url}, images: {', '.join(sorted(settings.engines))}")
            _log(f"ends: {await _wait_for_end(local)}")
        finally:
            _remove_address(settings.address_file)
            await local.end()
            await runner.cleanup()


def _make_http_client() -> aiohttp.ClientSession:
    """The connections to model servers: as many as needed, as plain as possible, without cookies."""
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


def _write_address(path: Path, url: str) -> None:
    """Atomically: a reader finds the whole file or none."""
    content = {"url": url, "pid": os.getpid(), "started_at": _now()}
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    unfinished.write_text(json.dumps(content) + "\n", encoding="utf-8")
    unfinished.replace(path)


def _remove_address(path: Path) -> None:
    """Unless another server has written its own address since."""
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
    """Settings from the command line; ends the process with a message when they are wrong."""
    parser = argparse.ArgumentParser(prog="python -m helpers.local_sagemaker", description="A SageMaker on loopback.")
    parser.add_argument("--address-file", type=Path, required=True, help="written while the server listens")
    parser.add_argument("--log-dir", type=Path, required=True, help="one log per endpoint goes here")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument(
        "--idle-timeout-s", type=float, default=DEFAULT_IDLE_TIMEOUT_S, help="end after so long without a call"
    )
    parser.add_argument(
        "--engines", type=read_engines, default={}, help='JSON, e.g. {"my-image": ["my-server", "--flag"]}'
    )
    parser.add_argument(
        "--faults", type=read_faults, default=[], help='JSON, e.g. [{"call": "DeleteModel", "delay_s": 1}]'
    )
    options = parser.parse_args(arguments)
    return ServerSettings(
        address_file=options.address_file.resolve(),
        log_dir=options.log_dir.resolve(),
        port=options.port,
        idle_timeout_s=options.idle_timeout_s,
        engines={**DEFAULT_ENGINES, **options.engines},
        faults=options.faults,
    )


def read_engines(text: str) -> dict[str, list[str]]:
    """Commands by image name from JSON."""
    try:
        engines = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON: {error}") from error
    if not isinstance(engines, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is not an object of image names and commands")
    for image, command in engines.items():
        if not isinstance(command, list) or not command or not all(isinstance(word, str) for word in command):
            raise argparse.ArgumentTypeError(f"command of image {image!r} is {command!r}, expected a list of words")
    return engines


def read_faults(text: str) -> list[Fault]:
    """Fault rules from JSON."""
    try:
        return TypeAdapter(list[Fault]).validate_json(text)
    except ValidationError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def main() -> None:
    """Runs the server in the foreground."""
    settings = read_settings()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve(settings))
