"""Where a run began: this machine, as far as the measurements depend on it, and the packages that matter."""

from __future__ import annotations

import importlib.metadata
import platform
from contextlib import suppress
from pathlib import Path

from helpers.config.benchmark import usable_cpu_count

RECORDED_PACKAGES = (
    "boto3",
    "sagemaker-core",
    "papermill",
    "pandas",
    "pyarrow",
    "uvloop",
    "transformers",
    "openvino-genai",
)


def describe_machine() -> dict:
    """This machine, as far as the measurements depend on it."""
    import psutil

    return {
        "cpu": _cpu_name(),
        "vcpus": usable_cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def package_versions() -> dict[str, str]:
    """Those of `RECORDED_PACKAGES` that are installed."""
    found = {}
    for package in RECORDED_PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
