"""The engine's settings, from environment variables, as for a container. Counts are in tokens unless named otherwise."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from local_sagemaker.engine.cores import allowed_cpus
from local_sagemaker.engine.errors import SettingError
from local_sagemaker.tiny_model import default_cache_dir, ensure_model

PORT_VARIABLE = "SAGEMAKER_BIND_TO_PORT"
SECRET_VARIABLE = "ENGINE_SECRET"
SECRET_HEADER = "X-Engine-Secret"
VARIABLES = (
    "ENGINE_MODEL",
    "ENGINE_THREADS",
    "ENGINE_MAX_NUM_SEQS",
    "ENGINE_MAX_NUM_BATCHED_TOKENS",
    "ENGINE_NUM_KV_BLOCKS",
    "ENGINE_PREFIX_CACHING",
    "ENGINE_REASONING_TOKENS",
)
"""What a deployment may set; port and secret come from the process that starts the engine."""
MODEL_FILE = "model.gguf"
SYNTHETIC = "synthetic:"
"""Followed by a size from `tiny_model.SIZES`: a generated model."""


@dataclass(frozen=True)
class EngineSettings:
    """The container's settings. `threads` is None for all cores; counts are tokens, requests, blocks."""

    port: int
    model_path: Path
    threads: int | None
    max_num_seqs: int
    max_num_batched_tokens: int
    num_kv_blocks: int
    prefix_caching: bool
    reasoning_tokens: int
    """The first tokens of each chat answer, which are sent as its reasoning, as a reasoning model's server does."""
    secret: str | None = field(repr=False)
    """What callers must send in `SECRET_HEADER`; None: anybody may call."""


def read_settings(environment: Mapping[str, str]) -> EngineSettings:
    """Settings from environment variables; raises `SettingError` naming variable, value and what was expected."""
    return EngineSettings(
        port=_whole_number(environment, PORT_VARIABLE, 8080),
        model_path=_model_path(environment),
        threads=_threads(environment),
        max_num_seqs=_whole_number(environment, "ENGINE_MAX_NUM_SEQS", 8),
        max_num_batched_tokens=_whole_number(environment, "ENGINE_MAX_NUM_BATCHED_TOKENS", 256),
        num_kv_blocks=_whole_number(environment, "ENGINE_NUM_KV_BLOCKS", 1024),
        prefix_caching=_flag(environment, "ENGINE_PREFIX_CACHING", False),
        reasoning_tokens=_whole_number(environment, "ENGINE_REASONING_TOKENS", 0, lowest=0),
        secret=environment.get(SECRET_VARIABLE),
    )


def _whole_number(environment: Mapping[str, str], name: str, default: int, lowest: int = 1) -> int:
    text = environment.get(name, str(default))
    if not text.isascii() or not text.isdigit() or int(text) < lowest:
        raise SettingError(
            f"{name}={text!r}: expected a whole number from {lowest}; correct it in the container's environment"
        )
    return int(text)


def _flag(environment: Mapping[str, str], name: str, default: bool) -> bool:
    text = environment.get(name, str(default)).lower()
    if text not in ("true", "false"):
        raise SettingError(f"{name}={text!r}: expected true or false; correct it in the container's environment")
    return text == "true"


def _threads(environment: Mapping[str, str]) -> int | None:
    text = environment.get("ENGINE_THREADS", "all")
    cores = len(allowed_cpus())
    if text == "all":
        return None
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= cores:
        raise SettingError(
            f"ENGINE_THREADS={text!r}: expected all, or a whole number from 1 to {cores}, the cores of this machine; "
            "correct it in the container's environment"
        )
    return int(text)


def _model_path(environment: Mapping[str, str]) -> Path:
    text = environment.get("ENGINE_MODEL", "")
    if text.startswith(SYNTHETIC):
        return _synthetic_model_path(text)
    path = Path(text) / MODEL_FILE if text and Path(text).is_dir() else Path(text)
    if path.suffix != ".gguf" or not path.is_file():
        raise SettingError(
            f"ENGINE_MODEL={text!r}: expected a .gguf file, a folder that holds {MODEL_FILE}, or {SYNTHETIC}SIZE; "
            "correct it in the container's environment"
        )
    return path.resolve()


def _synthetic_model_path(text: str) -> Path:
    try:
        return ensure_model(text.removeprefix(SYNTHETIC), default_cache_dir()) / MODEL_FILE
    except ValueError as error:
        raise SettingError(f"ENGINE_MODEL={text!r}: {error}; correct it in the container's environment") from error
    except OSError as error:
        raise SettingError(
            f"ENGINE_MODEL={text!r}: the model cannot be made in {default_cache_dir()}: {error}; "
            "make room there, or make it elsewhere and name its folder"
        ) from error
