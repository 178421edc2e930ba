"""Tokenizers, and how long a text is in their tokens.

A prompt is counted as the server sees it: after the chat template, with every special token.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from helpers.config.yaml import expanded
from helpers.errors import PromptError
from helpers.prompts.hub import first_line, from_hub

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

SYNTHETIC = "synthetic:"
ChatTemplate = Literal["model", "none"]


def load_tokenizer(name: str, model_cache_dir: Path, base_dir: Path = Path()) -> PreTrainedTokenizerBase:
    """The tokenizer of that name: `synthetic:SIZE`, a local folder (relative to `base_dir`), or a Hugging Face id.

    A synthetic model is made under `model_cache_dir` if it does not exist. A Hugging Face tokenizer in the local cache
    needs no network. Raises PromptError if there is none, or if it cannot give the positions of its tokens in a text.
    """
    if name.startswith(SYNTHETIC):
        tokenizer = _load_folder(_synthetic_folder(name, model_cache_dir))
    elif (base_dir / expanded(name)).is_dir():
        tokenizer = _load_folder(base_dir / expanded(name))
    elif name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise PromptError(f"tokenizer {name}: no such folder. Next: give a folder with tokenizer.json, or a hub id")
    else:
        tokenizer = _load_from_hub(name)
    if not tokenizer.is_fast:
        raise PromptError(f"tokenizer {name}: has no tokenizer.json, which is needed to cut prompts to length")
    return tokenizer


def local_tokenizer(name: str, model_cache_dir: Path) -> Tokenizer | None:
    """The `tokenizer.json` of that name, as `load_tokenizer` has them, if it is on this machine; None otherwise.

    It is read in milliseconds, without transformers and the network. The path of a folder is absolute.
    """
    from tokenizers import Tokenizer

    try:
        file = tokenizer_file(name, model_cache_dir)
        tokenizer = Tokenizer.from_file(str(file)) if file else None
    except Exception:  # noqa: BLE001 - what `tokenizers` raises is no more than that
        return None
    if tokenizer is not None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
    return tokenizer


def tokenizer_file(name: str, model_cache_dir: Path) -> Path | None:
    """The `tokenizer.json` of a name, if it is on this machine. The path of a folder is absolute."""
    if name.startswith(SYNTHETIC):
        return _synthetic_folder(name, model_cache_dir) / "tokenizer.json"
    if Path(name).is_dir():
        return Path(name) / "tokenizer.json"
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(name, "tokenizer.json")
    return Path(cached) if isinstance(cached, str) else None


def render_chat(tokenizer: PreTrainedTokenizerBase, text: str, chat_template: ChatTemplate) -> str:
    """A user message as the model reads it: inside the tokenizer's chat template, or bare for `none`.

    Raises PromptError where a chat template is asked for and the tokenizer has none that renders it.
    """
    if chat_template == "none":
        return text
    return render_messages(tokenizer, [{"role": "user", "content": text}])


def render_messages(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]) -> str:
    """Messages up to the user's last as the model reads them, in the tokenizer's chat template. PromptError as `render_chat`."""
    if tokenizer.chat_template is None:
        raise PromptError(
            f"tokenizer {tokenizer.name_or_path}: has no chat template. "
            "Next: set prompts.chat_template: none, or use the tokenizer of the chat model"
        )
    from jinja2 import TemplateError

    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    except (TemplateError, TypeError, ValueError) as error:  # raised by the template, or not one template among several
        raise PromptError(
            f"tokenizer {tokenizer.name_or_path}: its chat template cannot render {_in_words(messages)}: {first_line(error)}. "
            "Next: correct chat_template in its tokenizer_config.json, or set prompts.chat_template: none"
        ) from None


def _in_words(messages: list[dict[str, str]]) -> str:
    return "one user message" if len(messages) == 1 else f"the messages of {', '.join(m['role'] for m in messages)}"


def count_tokens(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], add_special_tokens: bool) -> list[int]:
    """Tokens of each text. `add_special_tokens`: as the tokenizer adds them to bare text; a rendered chat has them."""
    encodings = _unlimited(tokenizer).encode_batch_fast(list(texts), add_special_tokens=add_special_tokens)
    return [len(encoding) for encoding in encodings]


def token_ends(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """For each text, the character position at which each of its tokens ends; no special tokens are added."""
    encodings = _unlimited(tokenizer).encode_batch(list(texts), add_special_tokens=False)
    return [[end for _, end in encoding.offsets] for encoding in encodings]


def _unlimited(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """The tokenizer underneath, which some models save with a length to truncate or pad to."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    return backend


def _synthetic_folder(name: str, model_cache_dir: Path) -> Path:
    from local_sagemaker.tiny_model import ensure_model

    try:
        return ensure_model(name.removeprefix(SYNTHETIC), model_cache_dir)
    except ValueError as error:
        raise PromptError(f"tokenizer {name}: {error}") from None


def _without_its_code(name: str, **where: bool) -> PreTrainedTokenizerBase:
    """Load a tokenizer; one with its own Python code is refused, without asking on stdin whether to run it."""
    os.environ.setdefault(
        "TRANSFORMERS_NO_ADVISORY_WARNINGS", "1"
    )  # advice to install PyTorch, which tokenizers do not need
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=False, **where)
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise PromptError(
            f"tokenizer {name}: it is Python code of the model's, which is never run. Expected a tokenizer that "
            "transformers reads by itself. Next: give a folder with tokenizer.json and a tokenizer_config.json without "
            "auto_map, for example of a conversion of the model"
        ) from None


def _load_folder(folder: Path) -> PreTrainedTokenizerBase:
    try:
        return _without_its_code(str(folder), local_files_only=True)
    except (OSError, ValueError) as error:
        raise PromptError(
            f"tokenizer {folder}: cannot be loaded: {first_line(error)}. Next: give a folder with tokenizer.json and "
            "tokenizer_config.json"
        ) from None


def _load_from_hub(name: str) -> PreTrainedTokenizerBase:
    problem = f"tokenizer {name}: neither a folder nor in the local cache, and the Hugging Face hub says"
    next_step = (
        "check the name and the network, log in if the model is gated, or give a local folder that holds the model's "
        "tokenizer"
    )
    return from_hub(partial(_without_its_code, name), "model", name, problem, next_step)
