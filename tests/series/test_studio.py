"""`make kernel` beside the packages of a SageMaker Studio image, and in a notebook job as Studio's own driver runs it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import venv
from dataclasses import dataclass
from pathlib import Path

import pypi
import pytest
from conftest import MakeOnce, small_config

from helpers.config.benchmark import PROJECT_ROOT

KERNEL = "llm-serving-verdict"
IMAGE = [
    "jupyterlab==4.5.10",
    "papermill==2.7.0",
    "pandas==2.3.3",
    "numpy==1.26.4",
    "ipykernel==7.3.0",
    "jupyter-client==8.9.1",
    "nbclient==0.11.0",
    "sagemaker-headless-execution-driver==0.0.13",
]
"""What matters of SageMaker Distribution 4.4.1 (its cpu.env.out); the last is what runs notebook jobs."""
IMAGE_PYTHON = "3.12"
HOME_MB = 5 * 1024
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("git") is None or shutil.which("make") is None, reason="needs git and make"),
]


@dataclass(frozen=True)
class Space:
    """A folder that stands for the machine: `home`, the `image` with its Jupyter, `tmp`, and a `repository` to clone."""

    folder: Path

    @property
    def clone(self) -> Path:
        return self.folder / "tmp" / KERNEL

    def environment(self, **more: str) -> dict[str, str]:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "VIRTUAL_ENV"))
        }
        paths = {"HOME": str(self.folder / "home"), "TMPDIR": str(self.folder / "tmp")}
        cache = subprocess.run([pypi.uv(), "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()
        path = f"{self.folder / 'image' / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return {**inherited, **paths, "UV_CACHE_DIR": cache, "PATH": path, **more}

    def run(self, *command: str, **environment: str) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder / "input",
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="session")
def space(made_once: MakeOnce) -> Space:
    """A notebook job that has run notebook 01: start-up script sourced, then Studio's own driver, parameters as text."""
    return Space(made_once("studio", _run_job))


def _run_job(folder: Path) -> None:
    for name in ("home", "tmp", "input", "output"):
        (folder / name).mkdir()
    try:
        pypi.environment(folder / "image", *IMAGE, python=IMAGE_PYTHON, options=pypi.OF_A_DAY)
    except pytest.skip.Exception:
        pypi.environment(folder / "image", *IMAGE, options=pypi.OF_A_DAY)
    space = Space(folder)
    _repository(folder / "repository")
    shutil.copy(PROJECT_ROOT / "notebooks" / "01_generate_data.ipynb", folder / "input")
    shutil.copy(PROJECT_ROOT / "docs" / "notebook_job.sh", folder / "input")
    parameters = {"config_path": str(small_config(folder)), "run_dir": str(folder / "runs" / "job"), "sample_rows": "2"}
    (folder / "parameters.json").write_text(json.dumps(parameters))
    job = {
        "SM_KERNEL_NAME": "python3",
        "SM_PAPERMILL_INPUT": str(folder / "input" / "01_generate_data.ipynb"),
        "SM_PAPERMILL_OUTPUT": str(folder / "output" / "01.ipynb"),
        "SM_PAPERMILL_PARAMS_PATH": str(folder / "parameters.json"),
        "SM_PAPERMILL_FAILURE_FILE": str(folder / "output" / "failure"),
        "REPOSITORY": f"file://{folder / 'repository'}",
        "TEST_SECRET": "of no use",
    }
    script = "set -ex; . ./notebook_job.sh; python -m sagemaker_headless_execution_driver.notebookrunner"
    (folder / "said.txt").write_text(space.run("bash", "-c", script, **job))


def _repository(folder: Path) -> None:
    """The files of this project, changed or not, as one commit of another repository."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT_ROOT / name, folder / name)
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost"]
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "all"]):
        subprocess.run([*git, *command], cwd=folder, check=True)


@pytest.mark.network
@pytest.mark.thorough
def test_a_notebook_job_runs_in_the_kernel_of_its_start_up_script(space):
    notebook = json.loads((space.folder / "output" / "01.ipynb").read_text())
    assert f"Use Kernel {KERNEL} to execute 01_generate_data.ipynb" in (space.folder / "said.txt").read_text()
    assert [
        cell["source"] for cell in notebook["cells"] if cell["metadata"].get("papermill", {}).get("exception")
    ] == []
    assert (space.folder / "runs" / "job" / "payloads" / "short.parquet").is_file()
    assert not (space.folder / "output" / "failure").exists()


@pytest.mark.network
@pytest.mark.thorough
def test_the_image_keeps_its_packages_and_lists_the_kernel(space):
    versions = "import numpy, pandas, sys; print(numpy.__version__, pandas.__version__, *sys.version_info[:2])"
    assert space.run("python", "-c", versions).startswith("1.26.4 2.3.3")
    kernels = json.loads(space.run("jupyter", "kernelspec", "list", "--json"))["kernelspecs"]
    python = kernels[KERNEL]["spec"]["argv"][0]
    assert python == str(space.clone / ".venv" / "bin" / "python")
    ours = space.run(python, "-c", versions)
    assert f"pandas=={ours.split()[1]}\n" in (PROJECT_ROOT / "requirements.txt").read_text()


@pytest.mark.network
@pytest.mark.thorough
def test_the_set_up_leaves_most_of_a_home_of_5_gb_free(space):
    used = int(space.run("du", "-sm", str(space.clone / ".venv"), str(space.folder / "home"), "--total").split()[-2])
    assert 500 < used < HOME_MB / 3


def test_make_kernel_makes_venv_anew_when_the_python_of_the_image_has_changed(tmp_path):
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(PROJECT_ROOT / name, tmp_path)
    venv.create(tmp_path / ".venv", symlinks=True)
    (library,) = (tmp_path / ".venv" / "lib").glob("python3.*")
    (library / "site-packages" / "helpers").mkdir()
    (library / "site-packages" / "helpers" / "__init__.py").touch()
    (tmp_path / ".venv" / ".setup").touch()

    def planned() -> str:
        plan = ["make", "--dry-run", "--directory", str(tmp_path), "kernel"]
        return subprocess.run(plan, capture_output=True, text=True, check=True).stdout

    assert "-m venv" not in planned() and "ipykernel install" in planned()
    moved = library.rename(library.with_name("python3.10"))
    assert "-m venv" in planned() and "rm -rf .venv" in planned()
    moved.rename(library)
    assert "-m venv" not in planned()
    (tmp_path / ".venv" / "bin" / "python").unlink()
    (tmp_path / ".venv" / "bin" / "python").symlink_to("/opt/conda/bin/python3-of-before")
    assert "-m venv" in planned() and "rm -rf .venv" in planned()
