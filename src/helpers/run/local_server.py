"""Starts, finds and stops the local SageMaker. Times are in seconds.

The server is a separate process with its own session: Ctrl-C in the caller does not reach it, so that the
caller can still delete its endpoints. It ends by itself when it is no longer needed.
"""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock

from helpers.errors import ServingVerdictError
from local_sagemaker.faults import Fault

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0
PING_TIMEOUT_S = 10.0
POLL_INTERVAL_S = 0.05
LOG_NAME = "local-sagemaker.log"
LOG_TAIL_LINES = 12


class LocalSageMakerError(ServingVerdictError):
    """The local SageMaker could not be started or stopped."""


@dataclass(frozen=True)
class Address:
    """The content of an address file."""

    url: str
    pid: int
    access_key_id: str
    secret_access_key: str = field(repr=False)


def ensure_running(
    address_file: Path,
    log_dir: Path,
    engines: dict[str, list[str]] | None = None,
    idle_timeout_s: float = 900,
    faults: Sequence[Fault] = (),
    engine_variables: Sequence[str] = (),
) -> Address:
    """Address and credentials of the server named in the address file, which is started if it does not run.

    `engines` maps further image names to commands, `engine_variables` names variables of a container that those know
    in addition to the default engine's, `idle_timeout_s` is the time without a call after which the server
    ends, `faults` are calls that go wrong (with them it does not end when everything is deleted). All of them concern a
    server that is started here, not one that already runs. Of several callers at once one starts it. Raises
    `LocalSageMakerError` with the end of the server's log if it does not come up in a minute.
    """
    address_file, log_dir = Path(address_file).resolve(), Path(log_dir).resolve()
    address_file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{address_file}.lock"):  # one caller at a time, among all processes
        address = _running_address(address_file)
        if address is not None:
            return address
        address_file.unlink(missing_ok=True)
        settings = {
            "engines": engines or {},
            "engine_variables": list(engine_variables),
            "faults": [fault.model_dump(mode="json") for fault in faults],
        }
        return _start(address_file, log_dir, idle_timeout_s, json.dumps(settings))


def running_url(address_file: Path) -> str | None:
    """The URL of the server named in the address file, or None if there is none or it does not answer."""
    address = _running_address(Path(address_file))
    return address.url if address else None


def stop(address_file: Path) -> None:
    """Ends the server named in the address file, and its model servers; nothing happens if it does not run."""
    address_file = Path(address_file).resolve()
    address = _running_address(address_file)
    if address is None:
        return
    os.kill(address.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while _is_alive(address):
        if time.monotonic() > deadline:
            raise LocalSageMakerError(
                f"the local SageMaker at {address.url} (pid {address.pid}) did not end within {STOP_TIMEOUT_S:g} s of "
                f"SIGTERM; end it with: kill -9 {address.pid}"
            )
        time.sleep(POLL_INTERVAL_S)


def _start(address_file: Path, log_dir: Path, idle_timeout_s: float, settings: str) -> Address:
    """`settings` may hold secrets, and every user can read the arguments of a process: they go through a pipe."""
    log_dir.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "local_sagemaker", "--settings", "-"]
    command += ["--address-file", str(address_file), "--log-dir", str(log_dir)]
    command += ["--idle-timeout-s", str(idle_timeout_s)]
    log_path = log_dir / LOG_NAME
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            command,
            env=_server_environment(),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        with suppress(BrokenPipeError), process.stdin:  # if it ended, its log says why
            process.stdin.write(settings.encode())
        address = _wait_for_address(process, address_file, log_path)
    except BaseException:
        process.kill()
        process.wait()
        raise
    # Takes note of its end whenever that comes, so that no zombie stays as long as this process lives.
    threading.Thread(target=process.wait, name="local-sagemaker-end", daemon=True).start()
    return address


def _server_environment() -> dict[str, str]:
    """This environment without anything of AWS, with this package importable."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    source_root = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [source_root, os.environ.get("PYTHONPATH", "")]))
    return environment


def _wait_for_address(process: "subprocess.Popen[bytes]", address_file: Path, log_path: Path) -> Address:
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        address = _running_address(address_file)
        if address is not None:
            return address
        time.sleep(POLL_INTERVAL_S)
    code = process.poll()
    how = f"did not listen within {START_TIMEOUT_S:g} s" if code is None else f"ended with code {code}"
    lines = log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:]
    raise LocalSageMakerError(f"the local SageMaker {how}. The last lines of {log_path}:\n" + "\n".join(lines))


def _running_address(address_file: Path) -> Address | None:
    try:
        content = json.loads(address_file.read_text(encoding="utf-8"))
        names = ("url", "access_key_id", "secret_access_key")
        address = Address(pid=int(content["pid"]), **{name: str(content[name]) for name in names})
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return address if _answers(address) else None


def _answers(address: Address) -> bool:
    """Whether this very process listens there, not another one that got its port later, least of all another user's."""
    if not _is_alive(address):
        return False
    parts = urlsplit(address.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PING_TIMEOUT_S)
    try:
        connection.request("GET", "/ping")
        return bool(json.loads(connection.getresponse().read())["pid"] == address.pid)
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return False
    finally:
        connection.close()


def _is_alive(address: Address) -> bool:
    """Whether the process still runs; one that ended and that its parent did not ask about (a zombie) does not."""
    import psutil

    try:
        os.kill(address.pid, 0)
        return psutil.Process(address.pid).status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, PermissionError, psutil.Error):
        return False
