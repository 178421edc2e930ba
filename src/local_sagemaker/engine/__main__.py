"""`python -m local_sagemaker.engine`: the engine's process."""

import os
import stat
import sys
import threading
import time

from aiohttp import web

from local_sagemaker.engine.cores import pin_to_last_cpus
from local_sagemaker.engine.errors import SettingError
from local_sagemaker.engine.routes import make_application
from local_sagemaker.engine.scheduler import Engine
from local_sagemaker.engine.settings import read_settings
from local_sagemaker.event_loop import new_event_loop


def _exit_with_parent() -> None:
    """Exits when standard input, if it is a pipe, is closed: the server that started this process has died."""
    if sys.stdin is None or not stat.S_ISFIFO(os.fstat(0).st_mode):
        return

    def wait_for_end() -> None:
        while os.read(0, 1024):
            pass
        os._exit(0)

    threading.Thread(target=wait_for_end, name="lifeline", daemon=True).start()


def main() -> None:
    """Loads the model, then serves on loopback until SIGTERM or until the parent exits."""
    _exit_with_parent()
    try:
        settings = read_settings(os.environ)
    except SettingError as error:
        sys.exit(f"engine: {error}")
    pin_to_last_cpus(settings.threads)
    started = time.monotonic()
    try:
        engine = Engine(settings)
    except (RuntimeError, ValueError, KeyError) as error:
        sys.exit(
            f"engine: ENGINE_MODEL={str(settings.model_path)!r} cannot be loaded: {error}; expected a Llama-like GGUF"
        )
    print(f"engine: {settings} loaded in {time.monotonic() - started:.2f} s", flush=True)  # noqa: T201
    web.run_app(
        make_application(engine, settings.secret),
        host="127.0.0.1",
        port=settings.port,
        access_log=None,
        print=None,
        handler_cancellation=True,
        shutdown_timeout=1.0,
        loop=new_event_loop(),
    )


if __name__ == "__main__":
    main()
