"""Virtual environments with packages of others, made by uv for a test; skipped, visibly, where no package index is reached."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

UNREACHED = ("error sending request", "dns error", "Failed to fetch", "timed out", "Network is unreachable")
OF_A_DAY = ("--exclude-newer", "2026-11-29")
"""Options of uv, so that every test run installs the same versions; what is new tomorrow is for `make test-tools` to show."""
INSTALLED_WITHIN_S = 180


def uv() -> str:
    """The uv that is on the PATH, else the one that `make setup` puts beside Python."""
    found = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip("uv is not installed. Next: make setup, or pip install uv")
    return found


def environment(folder: Path, *packages: str, python: str = sys.executable, options: Sequence[str] = ()) -> Path:
    """Make a virtual environment in a folder and install packages; returns its `bin`."""
    create = [uv(), "venv", "--quiet", "--no-python-downloads", "--python", python, str(folder)]
    made = subprocess.run(create, capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"Python {python} is not installed")
    install = [uv(), "pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), *options, *packages]
    installed = subprocess.run(install, capture_output=True, text=True, timeout=INSTALLED_WITHIN_S)
    if any(words in installed.stderr for words in UNREACHED):
        pytest.skip(f"PyPI cannot be reached from here: {installed.stderr.splitlines()[0]}")
    if "no wheels with a matching platform tag" in " ".join(installed.stderr.split()):
        pytest.skip(f"{' '.join(packages)} has no build for this machine")
    assert installed.returncode == 0, installed.stderr
    return folder / "bin"
