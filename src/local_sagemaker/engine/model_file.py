"""Context length and tokens of a GGUF model file."""

from pathlib import Path

import gguf

_GGUF_CONTROL_TOKEN = 3


class GgufMetadata:
    """What OpenVINO GenAI reads from a GGUF file but does not expose: the context length and which tokens are special."""

    def __init__(self, path: Path) -> None:
        fields = gguf.GGUFReader(path).fields
        architecture = fields["general.architecture"].contents()
        self.context_tokens = int(fields[f"{architecture}.context_length"].contents())
        types = fields["tokenizer.ggml.token_type"].contents()
        self.control_tokens = {token for token, kind in enumerate(types) if kind == _GGUF_CONTROL_TOKEN}


def token_bytes(vocabulary: dict[bytes, int], control_tokens: set[int]) -> list[bytes]:
    """The bytes of each token, by id; special tokens have none."""
    table = [b""] * (max(vocabulary.values()) + 1)
    for text, token in vocabulary.items():
        if token not in control_tokens:
            table[token] = text
    return table
