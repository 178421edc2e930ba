"""The sections of a config that say what is served and asked: the model, the prompts, the datasets, the generation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from helpers.config.strict import Name, PositiveInt, PositiveSeconds, Strict
from helpers.config.structured import check_structured
from helpers.config.unquoted import Json

ThinkingTags = Literal["auto", "opened", "ignored"]


class ModelConfig(Strict):
    """The model that every option serves: options are comparable only if they serve the same one."""

    name: str = Field(description="Identity of the model, as the report names it.")
    tokenizer: str = Field(
        description="Hugging Face id, local folder, or `synthetic:2m|16m|30m|110m` for a generated model."
    )
    context_tokens: PositiveInt = Field(description="Maximum length of prompt plus output that every option accepts.")


class PythonReferenceSource(Strict):
    """Passages of the language reference that ships with CPython (PSF licence). Needs no network."""

    kind: Literal["python_reference"]
    cut: str | None = Field(default="context", description="Column that is cut to fill a bin; null: never cut.")


class FileSource(Strict):
    """A file of records: JSON lines, JSON, CSV, TSV, Parquet or text. Its keys are the columns that the template can name; a
    record's prompt is also in the column `text`, whatever its key.
    """

    kind: Literal["file", "jsonl", "longbench"]
    path: str = Field(
        description="Local path, s3:// URI, or (not jsonl) a file of a Hugging Face dataset `owner/name:file`."
    )
    cut: str | None = Field(default=None, description="Column that is cut to fill a bin; null: never cut.")
    answer: str | None = Field(default="answers", description="Column with the ground-truth answer, if any.")
    max_records: PositiveInt = 100_000


class ShareGPTSource(Strict):
    """A file of conversations: the first human turn is the prompt, the reply to it the answer."""

    kind: Literal["sharegpt"]
    path: str
    cut: None = None
    max_records: PositiveInt = 100_000


Source = Annotated[PythonReferenceSource | FileSource | ShareGPTSource, Field(discriminator="kind")]


class SharedPrefix(Strict):
    """A common beginning of prompts, such as a system prompt: what of it a prefix cache holds need not be computed again."""

    tokens: PositiveInt | None = Field(
        default=None,
        description="Length of the common beginning, with what the chat template puts first. Give this or hit_rate.",
    )
    hit_rate: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Share of a dataset's prompt tokens that are a common beginning, and so the share that a cache which holds "
        "the prefixes can serve; the length of the prefix follows from it. Give this or tokens.",
    )
    groups: PositiveInt = Field(
        default=1, description="Number of distinct prefixes of each dataset; its prompts take them in turn."
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> SharedPrefix:
        if (self.tokens is None) == (self.hit_rate is None):
            raise ValueError("give either tokens (the length of the prefix) or hit_rate, from which the length follows")
        return self


class ExponentialTime(Strict):
    """Times drawn from an exponential distribution."""

    mean: PositiveSeconds = Field(description="Seconds.")


ThinkTime = Annotated[
    Annotated[float, Tag("fixed"), Field(ge=0)] | Annotated[ExponentialTime, Tag("exponential")],
    Discriminator(lambda time: "exponential" if isinstance(time, dict | ExponentialTime) else "fixed"),
]
MOST_TURNS = 1000


class Conversations(Strict):
    """The records of the source are conversations: each is sent as a session, turn by turn, with its history."""

    think_time_s: ThinkTime = Field(
        description="Seconds from the end of an answer to the user's next turn, also that of the next session in a closed loop: "
        "a number, or {mean: x} for exponential times."
    )
    history: Literal["answered", "recorded"] = Field(
        default="answered",
        description="Assistant messages of the history: `answered`, as this server answered; `recorded`, those of the record.",
    )
    max_turns: Annotated[int, Field(gt=0, le=MOST_TURNS)] | None = Field(
        default=None, description="Most user turns of a session; null: all of the record's that fit."
    )

    @property
    def mean_think_s(self) -> float:
        """The mean think time."""
        return self.think_time_s.mean if isinstance(self.think_time_s, ExponentialTime) else self.think_time_s


class PromptsConfig(Strict):
    """Where prompts come from and how they are worded."""

    source: Source
    template: str = Field(
        default="user_turn",
        description="A file in data/prompt_templates (without .txt), or a path. `{column}` names source columns. Default "
        "for python_reference, longbench and where a column is cut: question_about_passage.",
    )
    chat_template: Literal["model", "none"] = Field(
        default="model", description="`model`: the tokenizer's chat template is applied; `none`: the bare text is sent."
    )
    prefix: SharedPrefix | None = Field(
        default=None,
        description="Prompts that share their beginnings, with a salt of each request behind it; null: they do not.",
    )
    conversations: Conversations | None = Field(
        default=None,
        description="Send whole conversations, turn by turn; null: each request is a text of its own. Needs api openai_chat, or "
        "target bedrock.",
    )

    @model_validator(mode="before")
    @classmethod
    def _usual_template(cls, data: object) -> object:
        source = data.get("source") if isinstance(data, dict) else None
        if not isinstance(source, dict) or "template" in data:
            return data
        about_a_passage = source.get("cut") or source.get("kind") in ("python_reference", "longbench")
        return {**data, "template": "question_about_passage"} if about_a_passage else data

    @model_validator(mode="after")
    def _conversations_are_sent_as_they_are(self) -> PromptsConfig:
        if self.conversations is None:
            return self
        if not (isinstance(self.source, ShareGPTSource) or self.source.kind in ("file", "jsonl")):
            raise ValueError(
                f"`conversations` needs a source of conversations, and {self.source.kind} has none. Expected kind sharegpt, file "
                "or jsonl. Next: change `source.kind`, or leave out `conversations`"
            )
        if self.source.cut is not None or self.template != "user_turn" or self.chat_template != "model":
            raise ValueError(
                "the turns of `conversations` are sent as they are, and counted with the model's chat template. Next: leave out "
                "`source.cut`, `template` and `chat_template`"
            )
        if self.prefix is not None:
            raise ValueError(
                "the turns of `conversations` are sent as they are, and share what their histories share. Next: leave out "
                "`prefix`"
            )
        return self


class Bin(Strict):
    """Named lengths of prompts."""

    name: Name
    prompt_tokens: tuple[PositiveInt, PositiveInt] = Field(description="[from, to): inclusive, exclusive.")

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        low, high = self.prompt_tokens
        if low >= high:
            raise ValueError(f"prompt_tokens [{low}, {high}] is empty: expected [from, to) with from < to")
        return self


def bin_of(tokens: int, bins: Sequence[Bin]) -> str:
    """The bin that a turn of so many prompt tokens is in; the last one where it is longer than was planned."""
    return next((each for each in bins if tokens < each.prompt_tokens[1]), bins[-1]).name


class Dataset(Bin):
    """A named set of prompts with lengths in a bin."""

    count: PositiveInt = Field(default=500, description="Prompts to make.")
    bins: Annotated[list[Bin], Field(min_length=2)] | None = Field(
        default=None,
        description="Of prompts.conversations: the turns by their prompt tokens, history included, one bin after the other from "
        "1 to the end of `prompt_tokens`. Each of them has to meet the SLO by itself.",
    )

    @model_validator(mode="after")
    def _bins_cover_every_turn(self) -> Self:
        starts = [1]
        for each in self.bins or ():
            if each.prompt_tokens[0] != starts[-1]:
                raise ValueError(
                    f"bin {each.name!r} begins at {each.prompt_tokens[0]} tokens. Expected {starts[-1]}: the first bin begins at "
                    "1, and each of the others where the one before it ends. Next: change its `prompt_tokens`"
                )
            starts.append(each.prompt_tokens[1])
        if self.bins and starts[-1] != self.prompt_tokens[1]:
            raise ValueError(
                f"the last bin, {self.bins[-1].name!r}, ends at {starts[-1]} tokens. Expected {self.prompt_tokens[1]}, where the "
                "dataset's `prompt_tokens` end, so that each turn is in a bin. Next: change one of the two"
            )
        return self


class Generation(Strict):
    """Generation settings of the requests."""

    max_output_tokens: PositiveInt
    fixed_output_length: bool = Field(
        default=True, description="Request exactly max_output_tokens where the server supports it."
    )
    temperature: float = Field(default=0.0, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: PositiveInt | None = None
    response_format: dict[str, Json] | None = Field(
        default=None,
        description="Structured output: {type: json_schema, json_schema: {name, schema}} or {type: json_object}. Sent as it is "
        "to OpenAI-compatible APIs, as `grammar` to TGI and as `outputConfig` to Bedrock (both: json_schema alone).",
    )
    guided_json: dict[str, Json] | None = Field(
        default=None,
        description="JSON schema of the answers, for vLLM before 0.12, and servers that took its key over.",
    )
    structured_outputs: dict[str, Json] | None = Field(
        default=None,
        description="Structured output of vLLM from 0.11 on, for example {json: <schema>} or {choice: [yes, no]}.",
    )

    @model_validator(mode="after")
    def _structured_as_a_server_can(self) -> Generation:
        check_structured(self)
        return self
