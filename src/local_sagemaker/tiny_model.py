"""A synthetic Llama with random weights, generated from a seed: nothing is downloaded.

It does the same work as a real Llama of its size and writes nonsense, which is enough for measuring speed.
`ensure_model` makes a folder with `model.gguf` (weights in F16), `tokenizer.json`, `tokenizer_config.json`
and `config.json`; the model server and `transformers.AutoTokenizer` get the same token ids from it.
Sizes are in elements, context in tokens.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORMAT_VERSION = 1
"""Raised whenever the bytes of a model folder change; it is part of the folder's name."""

SEED = 0
CONTEXT_TOKENS = 4096
ROPE_THETA = 10_000.0
NORM_EPSILON = 1e-5
WEIGHT_SCALE = 0.05

BOS, EOS = "<bos>", "<eos>"
SPECIAL_TOKENS = (BOS, EOS, "<system>", "<user>", "<assistant>")
"""Free of regular-expression characters: OpenVINO joins special tokens into a pattern without escaping them."""

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}{{ '<' + message['role'] + '>' + message['content'] + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)

PRE_TOKENIZER = "qwen2"
"""GGUF's name for `SPLIT_PATTERN`: it makes OpenVINO split text exactly as tokenizer.json does."""

SPLIT_PATTERN = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

_GGUF_NORMAL_TOKEN, _GGUF_CONTROL_TOKEN = 1, 3
_GGUF_MOSTLY_F16 = 1


@dataclass(frozen=True)
class ModelSize:
    """The shape of a Llama; the names follow Hugging Face's `LlamaConfig`."""

    hidden_size: int
    layers: int
    attention_heads: int
    key_value_heads: int
    intermediate_size: int
    vocabulary_size: int

    @property
    def head_size(self) -> int:
        """Elements of one attention head."""
        return self.hidden_size // self.attention_heads


SIZES: dict[str, ModelSize] = {
    "2m": ModelSize(128, 4, 4, 2, 384, 2048),
    "16m": ModelSize(384, 8, 6, 2, 1024, 4096),
    "30m": ModelSize(512, 10, 8, 2, 1408, 4096),
    "110m": ModelSize(768, 16, 12, 4, 2048, 8192),
}


def default_cache_dir() -> Path:
    """Where models are kept by default."""
    return Path.home() / ".cache" / "llm-serving-verdict" / "models"


def ensure_model(size: str, cache_dir: Path | None = None) -> Path:
    """The folder of the model of this size (a key of `SIZES`) under `cache_dir`; built if it is missing.

    `cache_dir` defaults to `default_cache_dir()`. Raises ValueError for an unknown size.

    The same size gives the same bytes on the same Python version (the tokenizer learns from prose that ships with
    CPython; its digest is in the folder's name). Safe for concurrent callers: a folder appears whole or not at all.
    """
    if size not in SIZES:
        raise ValueError(f"model size {size!r} is not known; choose one of {', '.join(SIZES)}")
    text = _training_text()
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    folder = (cache_dir or default_cache_dir()).resolve() / f"tiny-llama-{size}-v{FORMAT_VERSION}-{digest}"
    if not folder.is_dir():
        _build_atomically(folder, SIZES[size], text)
    return folder


def _training_text() -> str:
    """The documentation of Python's keywords and types, identical on every machine with this Python version."""
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))


def _build_atomically(folder: Path, size: ModelSize, text: str) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _build(unfinished, size, text)
        unfinished.chmod(0o755)
        unfinished.rename(folder)
    except OSError:
        if not folder.is_dir():  # otherwise another caller built the same bytes first
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _build(folder: Path, size: ModelSize, text: str) -> None:
    tokenizer = _train_tokenizer(text, size.vocabulary_size)
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(folder / "tokenizer_config.json", _tokenizer_config())
    _write_json(folder / "config.json", _model_config(size))
    _write_gguf(folder / "model.gguf", size, json.loads(tokenizer.to_str())["model"])


def _train_tokenizer(text: str, vocabulary_size: int) -> Any:
    """A byte-level BPE `tokenizers.Tokenizer` of exactly `vocabulary_size` tokens, special tokens first."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
    if tokenizer.get_vocab_size() != vocabulary_size:
        raise ValueError(
            f"the training text gave {tokenizer.get_vocab_size()} tokens, expected {vocabulary_size}; "
            "use a smaller vocabulary_size in SIZES"
        )
    return tokenizer


def _tokenizer_config() -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": EOS,
        "chat_template": CHAT_TEMPLATE,
        "model_max_length": CONTEXT_TOKENS,
        "clean_up_tokenization_spaces": False,
    }


def _model_config(size: ModelSize) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": size.hidden_size,
        "intermediate_size": size.intermediate_size,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.attention_heads,
        "num_key_value_heads": size.key_value_heads,
        "head_dim": size.head_size,
        "vocab_size": size.vocabulary_size,
        "max_position_embeddings": CONTEXT_TOKENS,
        "rms_norm_eps": NORM_EPSILON,
        "rope_theta": ROPE_THETA,
        "hidden_act": "silu",
        "bos_token_id": SPECIAL_TOKENS.index(BOS),
        "eos_token_id": SPECIAL_TOKENS.index(EOS),
        "pad_token_id": SPECIAL_TOKENS.index(EOS),
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
    }


def _write_gguf(path: Path, size: ModelSize, bpe: dict[str, Any]) -> None:
    """Weights, hyperparameters and tokenizer in one GGUF file; `bpe` is the `model` section of tokenizer.json."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny-llama")
    writer.add_file_type(_GGUF_MOSTLY_F16)
    writer.add_context_length(CONTEXT_TOKENS)
    writer.add_embedding_length(size.hidden_size)
    writer.add_block_count(size.layers)
    writer.add_feed_forward_length(size.intermediate_size)
    writer.add_head_count(size.attention_heads)
    writer.add_head_count_kv(size.key_value_heads)
    writer.add_layer_norm_rms_eps(NORM_EPSILON)
    writer.add_rope_dimension_count(size.head_size)
    writer.add_rope_freq_base(ROPE_THETA)
    writer.add_vocab_size(size.vocabulary_size)
    _add_tokenizer(writer, bpe)
    for name, weights in _random_weights(size):
        writer.add_tensor(name, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: Any, bpe: dict[str, Any]) -> None:
    tokens = sorted(bpe["vocab"], key=bpe["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE_TOKENIZER)
    writer.add_token_list(tokens)
    writer.add_token_types([_GGUF_CONTROL_TOKEN if t in SPECIAL_TOKENS else _GGUF_NORMAL_TOKEN for t in tokens])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in bpe["merges"]])
    writer.add_bos_token_id(SPECIAL_TOKENS.index(BOS))
    writer.add_eos_token_id(SPECIAL_TOKENS.index(EOS))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def _random_weights(size: ModelSize) -> Iterator[tuple[str, Any]]:
    """GGUF tensor names and arrays: matrices normal with standard deviation `WEIGHT_SCALE`, norms one.

    The rotary layouts of Hugging Face and GGUF differ by a permutation of rows, which random rows do not notice.
    """
    import numpy as np

    random = np.random.default_rng(SEED)

    def matrix(rows: int, columns: int) -> Any:
        return (random.standard_normal((rows, columns), dtype=np.float32) * WEIGHT_SCALE).astype(np.float16)

    norm = np.ones(size.hidden_size, np.float32)
    query_size = size.attention_heads * size.head_size
    key_value_size = size.key_value_heads * size.head_size
    yield "token_embd.weight", matrix(size.vocabulary_size, size.hidden_size)
    for layer in range(size.layers):
        yield f"blk.{layer}.attn_norm.weight", norm
        yield f"blk.{layer}.attn_q.weight", matrix(query_size, size.hidden_size)
        yield f"blk.{layer}.attn_k.weight", matrix(key_value_size, size.hidden_size)
        yield f"blk.{layer}.attn_v.weight", matrix(key_value_size, size.hidden_size)
        yield f"blk.{layer}.attn_output.weight", matrix(size.hidden_size, query_size)
        yield f"blk.{layer}.ffn_norm.weight", norm
        yield f"blk.{layer}.ffn_gate.weight", matrix(size.intermediate_size, size.hidden_size)
        yield f"blk.{layer}.ffn_up.weight", matrix(size.intermediate_size, size.hidden_size)
        yield f"blk.{layer}.ffn_down.weight", matrix(size.hidden_size, size.intermediate_size)
    yield "output_norm.weight", norm
    yield "output.weight", matrix(size.vocabulary_size, size.hidden_size)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
