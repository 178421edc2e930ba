"""The `quality` section of a config: how right the answers of the options are, and how right they must be."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from helpers.config.options import BedrockOption, OpenAIOption, SageMakerOption
from helpers.config.strict import Name, PositiveInt, PositiveSeconds, Strict
from helpers.price import Price

Scorer = Literal["exact_match", "token_f1", "rouge_l", "numeric", "multiple_choice", "judge"]
RIGHT_OR_WRONG: tuple[Scorer, ...] = ("exact_match", "numeric", "multiple_choice")
"""Scorers of which an answer is right or wrong; the others give it a share of what is right."""


class NotWorse(Strict):
    """Another option, and by how much the score may be lower than its score."""

    option: Name
    by: float = Field(gt=0, lt=1, description="In points of the score, which goes from 0 to 1, for example 0.05.")


class QualityGate(Strict):
    """What an option's answers must be shown to be, with `slo.confidence`, before it can be recommended."""

    min_score: float | None = Field(default=None, gt=0, lt=1, description="Lowest mean score, from 0 to 1.")
    not_worse_than: NotWorse | None = Field(
        default=None,
        description="The score may be lower than that of this option by no more than `by`, prompt by prompt.",
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> QualityGate:
        if (self.min_score is None) == (self.not_worse_than is None):
            raise ValueError("give either min_score or not_worse_than: {option, by}")
        return self


class Judge(Strict):
    """A model that compares each answer with its reference, once in either order."""

    model: Annotated[SageMakerOption | BedrockOption | OpenAIOption, Field(discriminator="target")] = Field(
        description="A model that runs already, with the keys of an option; it takes part in no comparison."
    )
    rubric: str = Field(min_length=1, description="What makes one answer better than another, in your words.")
    max_output_tokens: PositiveInt = Field(default=500, description="Most output tokens of a judgement.")

    @field_validator("model")
    @classmethod
    def _runs_already(cls, model: SageMakerOption | BedrockOption | OpenAIOption):
        if isinstance(model, SageMakerOption) and model.deploy:
            raise ValueError("a judge is not deployed. Expected an endpoint that is there. Next: write `deploy: false`")
        return model

    def as_price(self) -> Price | None:
        """Its price as the config states it; without an amount where it is billed by the hour, and runs anyway; None: unknown."""
        if self.model.price is not None:
            return self.model.price.as_price(machine_vcpus=1)
        runs_anyway = isinstance(self.model, SageMakerOption) or getattr(self.model, "provisioned", False)
        return Price(name="by the hour") if runs_anyway else None


class Quality(Strict):
    """Scores of the answers to some of the prompts, asked after the load, one answer with natural length for each."""

    scorer: Scorer = Field(
        description="exact_match, token_f1: of text, normalised as for SQuAD. rouge_l: F1 of the longest common subsequence of "
        "words. numeric: the last number. multiple_choice: the letter. judge: what a model prefers, answer or reference."
    )
    judge: Judge | None = Field(default=None, description="The model behind scorer judge, and what it goes by.")
    reference: str | None = Field(
        default=None,
        min_length=1,
        description="Column of the source with the right answer (text, or a list of acceptable texts); `a.b` is b in a. Default: "
        "prompts.source.answer, or the reply of a conversation.",
    )
    samples: PositiveInt = Field(
        default=200, description="Prompts to ask, over the datasets in their shares of the traffic."
    )
    max_output_tokens: PositiveInt | None = Field(
        default=None, description="Most output tokens of an answer; default generation.max_output_tokens."
    )
    max_duration_s: PositiveSeconds = Field(
        default=900, description="Time after which no more prompts are asked of an option."
    )
    gate: QualityGate | None = Field(
        default=None, description="Null: scores stand beside the prices, and exclude no option."
    )

    @model_validator(mode="after")
    def _judge_for_its_scorer(self) -> Quality:
        if (self.scorer == "judge") != (self.judge is not None):
            raise ValueError(
                "`judge` belongs to scorer judge. Expected both or neither. Next: add one, or delete the other"
            )
        return self
