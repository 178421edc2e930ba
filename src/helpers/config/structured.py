"""Structured output: how each API is asked for answers in JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from helpers.config.workload import Generation

KEYS = ("response_format", "guided_json", "structured_outputs")
"""Of `generation`; at most one is given. The last two are sent as they are, to OpenAI-compatible servers alone."""
KINDS = ("json_schema", "json_object")


def structured_keys(api: str | None, generation: Generation) -> dict:
    """What asks an API for structured output, by the keys of its body (of TGI: of its `parameters`); empty where none is asked.

    Raises ValueError where the API has nothing that does. Sources: OpenAI's `response_format`; vLLM's `guided_json`, which
    `structured_outputs` replaced (v0.12 removed the older); https://huggingface.co/docs/text-generation-inference/conceptual/guidance;
    https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_OutputConfig.html
    """
    asked = {key: value for key in KEYS if (value := getattr(generation, key)) is not None}
    if not asked or (api or "").startswith("openai"):
        return asked
    named = (generation.response_format or {}).get("json_schema")
    if api not in ("tgi", "bedrock_converse") or named is None:
        raise ValueError(_not_known(api, next(iter(asked))))
    schema = named["schema"]
    if api == "tgi":
        return {"grammar": {"type": "json", "value": schema}}
    described = {"name": str(named.get("name", "answer")), "schema": json.dumps(schema, ensure_ascii=False)}
    return {"outputConfig": {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": described}}}}


def _not_known(api: str | None, key: str) -> str:
    knows = (
        "generation.response_format of type json_schema" if api in ("tgi", "bedrock_converse") else "none of its keys"
    )
    return (
        f"api {api} cannot be asked for structured output by generation.{key}: it knows {knows}. Next: write that, measure this "
        "option with an OpenAI-compatible api, or leave it out"
    )


def check_structured(generation: Generation) -> None:
    """Raise ValueError for keys of `generation` that contradict each other, or that no server could understand."""
    asked = [key for key in KEYS if getattr(generation, key) is not None]
    if not asked:
        return
    if len(asked) > 1:
        raise ValueError(f"{' and '.join(asked)} ask for the same. Expected one of them. Next: delete the others")
    if generation.fixed_output_length:
        raise ValueError(
            f"{asked[0]} with fixed_output_length: true, which sends ignore_eos and min_tokens: a server then goes on behind the "
            "end of the JSON. Expected fixed_output_length: false. Next: set it, and compare options per token"
        )
    form = generation.response_format
    if form is None:
        return
    if form.get("type") not in KINDS:
        raise ValueError(
            f"response_format.type is {form.get('type')!r}. Expected {' or '.join(KINDS)}. Next: correct it"
        )
    named = form.get("json_schema")
    if form["type"] == "json_schema" and not (isinstance(named, dict) and isinstance(named.get("schema"), dict)):
        raise ValueError(
            "response_format of type json_schema has no schema. Expected {type: json_schema, json_schema: {name: answer, schema: "
            "{...}}}. Next: give it, or write type: json_object"
        )
