"""Kernels of notebooks that fork from a process which has imported what takes each of them some seconds of CPU.

Those of a subprocess (`python -m helpers report`), and of the report that notebook 05 publishes, are started as users' are.
"""

import atexit
import gc
import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner
from patience import bear_a_busy_machine

KERNELS = multiprocessing.get_context("forkserver")
KERNELS.set_forkserver_preload(
    [
        "helpers.endpoints.loading",
        "helpers.endpoints.deployments",
        "helpers.importers.importing",
        "helpers.report.figures",
        "helpers.report.report",
        "helpers.series.notebook",
        "boto3",
        "nbconvert",
        "pandas",
        "scipy.optimize",
        "matplotlib.backends.backend_svg",
        "ipykernel.debugger",
        "ipykernel.kernelapp",
        "transformers.models.auto.tokenization_auto",
    ]
)


class Kernel(ForkServerProcess):
    """A forked process with the methods of `subprocess.Popen` that Jupyter calls."""

    stdin = stdout = stderr = None

    def poll(self) -> int | None:
        return self.exitcode

    def wait(self) -> int | None:
        self.join()
        return self.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


class WarmProvisioner(LocalProvisioner):
    """Forks a kernel instead of starting Python anew."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> dict[str, Any]:
        folder = kwargs.get("cwd") or Path.cwd()
        environment = {**kwargs["env"], "JPY_PARENT_PID": str(os.getpid())}
        self.process = Kernel(target=kernel_main, args=(cmd[cmd.index("-f") :], str(folder), environment))
        self.process.start()
        self.pid = self.pgid = self.process.pid  # its process group, as soon as it has made its session
        self.cwd = folder
        return self.connection_info


def kernel_main(arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    """As `python -m ipykernel_launcher`, in a session of its own."""
    from ipykernel.kernelapp import launch_new_instance

    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    bear_a_busy_machine()
    gc.freeze()  # what it has from the start stays
    try:
        launch_new_instance(argv=arguments)
    finally:
        atexit._run_exitfuncs()


@contextmanager
def provisioner(name: str) -> Iterator[None]:
    """Kernels of this process come from a provisioner: `warm`, or Jupyter's own `local-provisioner`."""
    factory = KernelProvisionerFactory.instance()
    factory.provisioners["warm"] = EntryPoint(
        "warm", "warm_kernels:WarmProvisioner", KernelProvisionerFactory.GROUP_NAME
    )
    before, factory.default_provisioner_name = factory.default_provisioner_name, name
    try:
        yield
    finally:
        factory.default_provisioner_name = before
