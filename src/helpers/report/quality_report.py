"""How right the answers are, beside the price: scores, the gate, what a right answer costs, and where two options differ most."""

from __future__ import annotations

import pandas as pd

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig
from helpers.errors import cut
from helpers.metrics.judgements import UNUSABLE, JudgeCounts
from helpers.metrics.quality import AnswerQuality, read_all_scores
from helpers.report.columns import Column, numeric
from helpers.report.comparing import listed, quoted
from helpers.report.display import Markdown, Prose, Table
from helpers.report.price_unit import PriceUnit, price_unit, scaled
from helpers.run.folder import RunFolder
from helpers.run.ledger import EndpointRecord
from helpers.verdict.checks import same_model, served_models
from helpers.verdict.verdict import OptionVerdict, Verdict

SCORER_WORDS = {
    "exact_match": "share of answers that equal a reference (lower case, without punctuation and articles)",
    "token_f1": "mean F1 of the words that answer and reference share (lower case, without punctuation and articles)",
    "rouge_l": "mean ROUGE-L: F1 of the longest common subsequence of words of answer and reference",
    "numeric": "share of answers whose last number is that of the reference",
    "multiple_choice": "share of answers that choose the letter of the reference",
    "judge": "how often a judge prefers the answer to the reference (1: answer, 0: reference, 0.5: equal), mean of both orders",
}
JUDGE_COLUMNS = (
    numeric("judged", "judged", decimals=0),
    numeric("contradicted", "contradicted", decimals=0),
    numeric("unknown", "no verdict", decimals=0),
    numeric("usd", "the judge's cost, $", decimals=2),
)
GATE_WORDS = {"passed": "passed", "failed": "failed", "open": "not decided"}
MOST_DIFFERING = 10
"""Prompts in the table of those on which options differ."""
MOST_CHARACTERS = 300
MOST_CUT = 0.05
"""Share of answers that may be cut off before that is said."""


def score_words(option: OptionVerdict) -> str:
    """The score of an option's answers with its interval, as a sentence."""
    quality = option.quality
    if quality.score is None:
        return "Its answers were not scored."
    bounds = text.Interval(quality.low, quality.high, 3)
    over = text.plural(quality.prompts, "prompt")
    return f"Its answers score {text.number(quality.score, 3)} (95% interval {bounds}, {quality.scorer}, {over})."


def served_by(option: str, verdict: Verdict, config: BenchmarkConfig) -> str:
    """The model that an option serves, where answers are scored and models may differ; else that of the run."""
    stated = next(one.model for one in config.options if one.name == option)
    return (stated if config.quality is not None else None) or verdict.model


def quality_section(
    verdict: Verdict, endpoints: list[EndpointRecord], run: RunFolder, config: BenchmarkConfig
) -> list[Prose | Table | None]:
    """Scores, how they were found, and the prompts on which options differ most; empty where answers are not scored."""
    if config.quality is None:
        return []
    return [_how(endpoints, config), _scores(verdict, config), _differing(verdict, run, config)]


def _how(endpoints: list[EndpointRecord], config: BenchmarkConfig) -> Prose:
    """What was asked, and whether options serve different models."""
    quality, most = config.quality, config.quality.max_output_tokens or config.generation.max_output_tokens
    said = (
        f"After its load each option was asked the same prompts, {quality.samples:,} at most, with temperature 0 and no smallest "
        f"length: answers ended by themselves, or after {most:,} tokens. Score: {SCORER_WORDS[quality.scorer]}. A failed "
        "request counts as wrong."
    )
    if quality.judge is not None:
        said += f" The judge is {quoted(quality.judge.model.name)}, asked when all load was over."
    if not same_model(config, endpoints):
        models = Markdown(", ").join(
            Markdown("{} {}").format(quoted(name), model or "an unknown model")
            for name, model in served_models(config, endpoints).items()
        )
        words = "{} The options serve different models ({}), so a request is what is priced, and its score what it is worth."
        return Prose(Markdown(words).format(said, models))
    return Prose(said)


def _scores(verdict: Verdict, config: BenchmarkConfig) -> Table:
    options = [option for option in verdict.options if option.quality is not None]
    unit = price_unit(verdict)
    rows = [_row(option.quality, option, unit) for option in options]
    shows_price = any(option.usd_per_1k_correct for option in options)
    gate = config.quality.gate
    columns = [
        "option",
        numeric("score", "score", best="highest", decimals=3),
        Column("score_interval", "95% interval"),
        numeric("prompts", "prompts scored", decimals=0),
        *([numeric("correct", "right", decimals=0)] if any(row["correct"] is not None for row in rows) else []),
        *([numeric("correct_usd", f"$ {_of_right(unit.words)}", best="lowest")] if shows_price else []),
        *([Column("correct_interval", "95% interval")] if shows_price else []),
        numeric("failures", "failures", decimals=0),
        numeric("cut_off", "cut off", decimals=0),
        numeric("output_tokens_mean", "output tokens, mean", decimals=1),
        *(JUDGE_COLUMNS if config.quality.judge else []),
        *([Column("gate", "gate"), Column("because", "why", wraps=True)] if gate else []),
    ]
    caption = (
        "Answers by option. Cut off: answers that reached the largest number of output tokens. Interval of the score: Wilson's "
        "of a share, else the bootstrap's over the prompts."
    )
    if config.quality.judge:
        caption += " Contradicted: answers of which the judge preferred the same place in both orders."
        caption += _cost_words(config)
    if shows_price:
        caption += (
            " The price of right answers is the price of requests in the verdict ÷ the share of right answers. It stands on the "
            "requests of the load, whose answers may be longer or shorter than those that are scored."
        )
    return Table(pd.DataFrame(rows), columns, caption, _reading(verdict, config))


def _of_right(words: str) -> str:
    """`per 1M requests` -> `per 1M right answers`."""
    return words.replace("requests", "right answers")


def _cost_words(config: BenchmarkConfig) -> str:
    """On what the judge's cost stands, for a caption."""
    price = config.quality.judge.as_price()
    if price is None:
        return " What the judge cost is not known: quality.judge.model has no price."
    if not price.is_per_token:
        return " The judge's server is billed by the hour and runs anyway: its answers add nothing to the bill."
    return " The judge's cost is that of the tokens that its server counted, by its price in the config; no other price has it."


def _row(quality: AnswerQuality, option: OptionVerdict, unit: PriceUnit) -> dict[str, object]:
    price, judge = scaled(option.usd_per_1k_correct, unit), quality.judge
    return {
        **(dict.fromkeys(JudgeCounts.model_fields) if judge is None else judge.model_dump()),
        "option": option.option,
        **quality.model_dump(include={"score", "prompts", "correct", "failures", "cut_off", "output_tokens_mean"}),
        "score_interval": text.Interval(quality.low, quality.high, 3),
        "gate": GATE_WORDS.get(quality.gate, "–"),
        "because": quality.because,
        "correct_usd": price and price.value,
        "correct_interval": text.Interval(price.low, price.high, text.decimals_for([price.value]))
        if price
        else text.NO_INTERVAL,
    }


def _reading(verdict: Verdict, config: BenchmarkConfig) -> str:
    """Who scores highest, what the gate decided, and what is missing."""
    scored = {o.option: o.quality for o in verdict.options if o.quality is not None and o.quality.score is not None}
    said = []
    if len(scored) > 1:
        best = max(scored, key=lambda name: scored[name].score)
        least = min(scored, key=lambda name: scored[name].score)
        apart = scored[best].score > scored[least].score
        said.append(f"{quoted(best)} scores highest and {quoted(least)} lowest." if apart else "All score the same.")
    if scored and not any(one.score for one in scored.values()):
        said.append("No answer scores above 0: check quality.reference, quality.scorer and the template.")
    if cut_off := [quoted(name) for name, one in scored.items() if one.cut_off > MOST_CUT * one.prompts]:
        said.append(
            f"Many answers of {listed(cut_off)} were cut off, which may make them wrong: raise quality.max_output_tokens."
        )
    judges = {
        o.option: o.quality.judge for o in verdict.options if o.quality is not None and o.quality.judge is not None
    }
    if unusable := [quoted(name) for name, judge in judges.items() if not judge.is_usable]:
        said.append(f"The judge's scores of {listed(unusable)} are not used: {UNUSABLE}.")
    if config.quality.gate is None:
        said.append("No gate is set (quality.gate), so the scores exclude no option.")
    if partial := [quoted(name) for name, one in scored.items() if one.prompts < one.chosen]:
        said.append(f"Of {listed(partial)} not all prompts were asked within quality.max_duration_s.")
    unjudged = ", or not judged" if config.quality.judge else ""
    if missing := [quoted(o.option) for o in verdict.options if o.option not in {*scored, *judges}]:
        said.append(
            f"The answers of {listed(missing)} were not scored: not loaded, without a chance to win, lost on the way{unjudged}."
        )
    return " ".join(said)


def _differing(verdict: Verdict, run: RunFolder, config: BenchmarkConfig) -> Table | None:
    """The prompts on which two options differ most: that of the gate, or the one that scores highest, and the lowest."""
    scores = {name: mine for name, mine in read_all_scores(config, run).items() if len(mine)}
    if len(scores) < 2:
        return None
    means = {name: mine["score"].mean() for name, mine in scores.items()}
    gate = config.quality.gate and config.quality.gate.not_worse_than
    one = gate.option if gate and gate.option in scores else max(means, key=means.get)
    other = min((name for name in means if name != one), key=means.get)
    both = scores[one].merge(scores[other], on=["dataset", "prompt_id"], suffixes=("", "_other"))
    both = both.assign(apart=(both["score"] - both["score_other"]).abs())
    most = both[both["apart"] > 0].sort_values("apart", ascending=False, kind="stable").head(MOST_DIFFERING)
    if most.empty:
        return None
    rows = pd.DataFrame(
        {
            "prompt": [
                words if len(words) <= MOST_CHARACTERS else f"…{words[-MOST_CHARACTERS:]}" for words in most["text"]
            ],
            "reference": [cut(" / ".join(each), MOST_CHARACTERS) for each in most["references"]],
            "score": most["score"],
            "answer": [_answer(*each) for each in zip(most["answer"], most["error"], strict=True)],
            "score_other": most["score_other"],
            "answer_other": [_answer(*each) for each in zip(most["answer_other"], most["error_other"], strict=True)],
        }
    )
    columns = [
        Column("prompt", "prompt, its end", wraps=True),
        Column("reference", "reference", wraps=True),
        numeric("score", f"score, {one}", decimals=2),
        Column("answer", f"answer, {one}", wraps=True),
        numeric("score_other", f"score, {other}", decimals=2),
        Column("answer_other", f"answer, {other}", wraps=True),
    ]
    differ = int((both["apart"] > 0).sum())
    caption = (
        f"Prompts on which {quoted(one)} and {quoted(other)} differ most: {len(rows)} of the {differ:,} on which their scores "
        f"differ, of {text.plural(len(both), 'prompt')} that both were asked."
    )
    return Table(rows, columns, caption)


def _answer(answer: str | None, error: str | None) -> str:
    """An answer as far as it fits, or why there is none."""
    return cut(f"failed: {error}" if not isinstance(answer, str) else answer or "(empty)", MOST_CHARACTERS)
