"""The model servers: one process per endpoint, run as SageMaker runs a container.

An image name maps to a command. The process gets those variables of the container's environment that its engine
knows, listens on the loopback port in SAGEMAKER_BIND_TO_PORT, answers `GET /ping` with 200 once it is ready, and takes
`POST /invocations`. Every call has the value of ENGINE_SECRET in a header, so that a model server can refuse other
users of this machine, as the default engine does. Its output goes to `<log_dir>/<endpoint name>.log`. Times are in seconds.
"""

import asyncio
import ctypes
import os
import re
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from local_sagemaker.cloudwatch import Used
from local_sagemaker.engine.settings import PORT_VARIABLE, SECRET_HEADER, SECRET_VARIABLE, VARIABLES
from local_sagemaker.logs import LogFile

DEFAULT_IMAGE = "openvino-genai"
DEFAULT_ENGINES: dict[str, list[str]] = {DEFAULT_IMAGE: [sys.executable, "-m", "local_sagemaker.engine"]}

INHERITED_VARIABLES = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV")
SECRET_BYTES = 32

PING_INTERVAL_S = 0.05
PING_TIMEOUT_S = 2.0
TERMINATION_GRACE_S = 5.0
LOG_TAIL_BYTES = 64 * 1024
LOG_TAIL_LINES = 8
LOG_TAIL_CHARACTERS = 900
"""SageMaker cuts a FailureReason at 1,024 characters."""

_PR_SET_PDEATHSIG = 1
_SECRET_NAME = re.compile("TOKEN|KEY|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)


@dataclass(frozen=True)
class ContainerSpec:
    """What CreateEndpoint requests. The environment may hold secrets, so it is left out of `repr`."""

    endpoint_name: str
    variant_name: str
    image: str
    environment: dict[str, str] = field(repr=False)
    startup_timeout_s: float


class ModelServers:
    """Starts and stops the processes; `engines` maps image names to commands, `variables` are those that engines
    other than the default one know. `logs` has their output by endpoint name, including processes that have exited."""

    def __init__(
        self, engines: dict[str, list[str]], variables: Sequence[str], log_dir: Path, http: aiohttp.ClientSession
    ) -> None:
        self._engines = engines
        self._variables = variables
        self._log_dir = log_dir
        self._http = http
        self.logs: dict[str, LogFile] = {}
        self._running: set[ModelServer] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(
        self, spec: ContainerSpec, on_ready: Callable[[], None], on_failure: Callable[[str], None]
    ) -> "ModelServer":
        """Starts a process and returns at once. `on_failure` receives the reason, also for a crash after `on_ready`."""
        log_path = self._log_dir / f"{spec.endpoint_name}.log"
        command = self._find_command(spec.image)
        known = VARIABLES if command == DEFAULT_ENGINES[DEFAULT_IMAGE] else (*VARIABLES, *self._variables)
        server = ModelServer(spec, known, log_path, self._http)
        self._running.add(server)
        if command is None:
            on_failure(
                f"The image '{spec.image}' of production variant {spec.variant_name} does not exist. "
                f"Known images: {', '.join(sorted(self._engines))}."
            )
        else:
            self.logs.setdefault(spec.endpoint_name, LogFile(log_path, spec.variant_name, int(time.time() * 1000)))
            server.task = self._spawn_task(server.run(command, on_ready, on_failure))
        return server

    def stop(self, server: "ModelServer", on_stopped: Callable[[], None]) -> None:
        """Ends the process and returns at once; `on_stopped` is called when it is gone."""

        async def stop() -> None:
            await self._stop(server)
            on_stopped()

        self._spawn_task(stop())

    def in_use(self) -> list[Used]:
        """The processes that run."""
        found = [(server.spec, server.pid) for server in self._running]
        return [Used(spec.endpoint_name, spec.variant_name, pid) for spec, pid in found if pid is not None]

    async def stop_all(self) -> None:
        """Ends all processes, in parallel."""
        await asyncio.gather(*(self._stop(server) for server in list(self._running)))

    async def _stop(self, server: "ModelServer") -> None:
        await server.stop()
        self._running.discard(server)

    def _find_command(self, image: str) -> list[str] | None:
        """The command of an image, by its full name or by its repository: `<registry>/openvino-genai:<tag>`."""
        return self._engines.get(image) or self._engines.get(image.rsplit("/", 1)[-1].split(":", 1)[0])

    def _spawn_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the event loop itself keeps only weak references
        task.add_done_callback(self._tasks.discard)
        return task


class ModelServer:
    """The life of one process."""

    def __init__(
        self, spec: ContainerSpec, known_variables: Sequence[str], log_path: Path, http: aiohttp.ClientSession
    ) -> None:
        self.spec = spec
        self.url = ""
        self._secret = secrets.token_urlsafe(SECRET_BYTES)
        self.headers = {SECRET_HEADER: self._secret}
        """What every call to it must include."""
        self._environment = {name: value for name, value in spec.environment.items() if name in known_variables}
        self.task: asyncio.Task[None] | None = None
        self._log_path = log_path
        self._log_start = 0
        self._http = http
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """Of its process; None while there is none."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    async def run(self, command: list[str], on_ready: Callable[[], None], on_failure: Callable[[str], None]) -> None:
        """Starts the process and watches it until it ends."""
        try:
            process, lifeline = await self._start_process(command)
        except OSError as error:
            on_failure(f"The command of image '{self.spec.image}' cannot be started: {error}.")
            return
        self._process = process
        if self._stopping:
            self._signal_group(signal.SIGKILL)
        try:
            if await self._wait_until_ready(process):
                on_ready()
                await process.wait()
                why = f"stopped with {_exit_text(process)}"
            elif process.returncode is None:
                self._signal_group(signal.SIGKILL)
                await process.wait()
                why = f"did not pass the ping health check within {self.spec.startup_timeout_s:g} s"
            else:
                why = f"stopped before it passed the ping health check, with {_exit_text(process)}"
        finally:
            os.close(lifeline)
        if not self._stopping:
            on_failure(
                f"The primary container for production variant {self.spec.variant_name} {why}. {self._log_tail()}"
            )

    async def stop(self) -> None:
        """Sends SIGTERM to the whole group and, 5 s later, SIGKILL; returns when the process is gone."""
        self._stopping = True
        if self.task is None:
            return
        self._signal_group(signal.SIGTERM)
        _, alive = await asyncio.wait({self.task}, timeout=TERMINATION_GRACE_S)
        self._signal_group(signal.SIGKILL)  # also for what the process left behind in its group
        if alive:
            await self.task

    async def _start_process(self, command: list[str]) -> tuple[asyncio.subprocess.Process, int]:
        """The process, and the write end of the pipe that is its standard input."""
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        inherited = {name: os.environ[name] for name in INHERITED_VARIABLES if name in os.environ}
        environment = {**inherited, **self._environment, PORT_VARIABLE: str(port), SECRET_VARIABLE: self._secret}
        # If this process is killed, nothing else stops the model server, which would occupy its cores forever.
        # On Linux the kernel then kills it, whatever its command is. Elsewhere a model server can watch its standard
        # input instead: the other end of that pipe is open as long as this process lives. The default engine does.
        stdin, lifeline = os.pipe()
        try:
            with self._log_path.open("ab") as log:
                self._log_start = log.tell()
                log.write(self._note_on_variables().encode())
                log.flush()
                process = await asyncio.create_subprocess_exec(
                    *command,
                    env=environment,
                    stdin=stdin,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    preexec_fn=_die_with_parent(),
                )
        except BaseException:
            os.close(lifeline)
            raise
        finally:
            os.close(stdin)
        return process, lifeline

    def _note_on_variables(self) -> str:
        """Logs the variables that a container would silently ignore."""
        ignored = sorted(set(self.spec.environment) - set(self._environment))
        return f"ignored variables that this engine does not know: {', '.join(ignored)}\n" if ignored else ""

    async def _wait_until_ready(self, process: asyncio.subprocess.Process) -> bool:
        """True as soon as /ping answers 200; False if the process exits or the time runs out."""
        deadline = asyncio.get_running_loop().time() + self.spec.startup_timeout_s
        while process.returncode is None and asyncio.get_running_loop().time() < deadline:
            if await self._ping():
                return True
            await asyncio.sleep(PING_INTERVAL_S)
        return False

    async def _ping(self) -> bool:
        try:
            timeout = aiohttp.ClientTimeout(total=PING_TIMEOUT_S)
            async with self._http.get(f"{self.url}/ping", headers=self.headers, timeout=timeout) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    def _signal_group(self, number: signal.Signals) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):  # macOS gives EPERM for a group of zombies
                os.killpg(self._process.pid, number)

    def _log_tail(self) -> str:
        """The last lines that this process printed, without the values of variables that look secret."""
        with self._log_path.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, end - LOG_TAIL_BYTES))
            text = log.read().decode("utf-8", "replace")
        for name, value in self.spec.environment.items():
            if value and _SECRET_NAME.search(name):
                text = text.replace(value, "***")
        tail = "\n".join(text.strip().splitlines()[-LOG_TAIL_LINES:])[-LOG_TAIL_CHARACTERS:]
        return f"Last lines of {self._log_path.name}: {tail}" if tail else f"{self._log_path.name} is empty."


def _exit_text(process: asyncio.subprocess.Process) -> str:
    code = process.returncode or 0
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _die_with_parent() -> Callable[[], None] | None:
    """Called in a new process before exec: has the kernel kill it when this process dies. None where the kernel cannot."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def ask_kernel() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died in between
            os._exit(1)

    return ask_kernel
