"""How right an answer is, from 0 to 1, against the references of its prompt. Pure functions of texts.

Where a prompt has several references, the one that fits best counts.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

from helpers.config.quality import Scorer

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_NUMBER = re.compile(
    r"(?<![\w.])[-+−]?(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?|(?<!\w)[-+−]?\.\d+"
)
_SAID = re.compile(r"\b[Aa]nswer(?:\s+is|\s*:|\s*=)?[\s:*(\[\"'`]*([A-Z])(?![\w'’])")
_LEADING = re.compile(r"\W*([A-Z])(?:\W*$|\W*[\n).:,\]]|\s*[-–—]\s)")
_ALONE = re.compile(r"(?<![\w'’])(A(?!\s+[a-z])|[B-HJ-Z])(?![\w'’])")
"""Neither the article nor the pronoun."""


def score(answer: str, references: Sequence[str], scorer: Scorer) -> float:
    """The score of an answer, 0 to 1; 0 without references."""
    return max((SCORERS[scorer](answer, reference) for reference in references), default=0.0)


def can_score(reference: str, scorer: Scorer) -> bool:
    """Does a reference hold what the scorer compares: a number, a letter, or some text?"""
    if scorer == "numeric":
        return _last_number(reference) is not None
    if scorer == "multiple_choice":
        return bool(re.fullmatch(r"\W*[A-Z]\W*", reference.upper()))
    return bool(reference.strip())


def _normalised(text: str) -> str:
    """As the evaluation of SQuAD compares answers (Rajpurkar et al., 2016): lower case, without punctuation and articles."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def _exact_match(answer: str, reference: str) -> float:
    return float(_normalised(answer) == _normalised(reference))


def _token_f1(answer: str, reference: str) -> float:
    mine, theirs = _normalised(answer).split(), _normalised(reference).split()
    if not (mine and theirs):
        return float(mine == theirs)
    return _f1(sum((Counter(mine) & Counter(theirs)).values()), len(mine), len(theirs))


def _rouge_l(answer: str, reference: str) -> float:
    """F1 of the longest common subsequence of words (Lin, "ROUGE", 2004): lower case, no punctuation, words unstemmed."""
    from rapidfuzz.distance import LCSseq

    mine, theirs = (re.findall(r"\w+", text.lower()) for text in (answer, reference))
    return _f1(LCSseq.similarity(mine, theirs), len(mine), len(theirs)) if mine and theirs else float(mine == theirs)


def _f1(common: int, mine: int, theirs: int) -> float:
    return 2 * common / (mine + theirs)


def _numeric(answer: str, reference: str) -> float:
    """The last numbers of both are equal."""
    mine, theirs = _last_number(answer), _last_number(reference)
    return float(None not in (mine, theirs) and math.isclose(mine, theirs, rel_tol=1e-6, abs_tol=1e-9))


def _last_number(text: str) -> float | None:
    found = _NUMBER.findall(text)
    return float(found[-1].replace(",", "").replace("−", "-")) if found else None


def _multiple_choice(answer: str, reference: str) -> float:
    return float(_letter(answer) == re.sub(r"\W", "", reference).upper())


def _letter(answer: str) -> str | None:
    """The letter that an answer chooses: the last behind the word answer, else the one that it begins with, else the only one."""
    if said := _SAID.findall(answer):
        return said[-1]
    if leading := _LEADING.match(answer):
        return leading[1]
    alone = set(_ALONE.findall(answer))
    return alone.pop() if len(alone) == 1 else None


SCORERS: dict[Scorer, Callable[[str, str], float]] = {
    "exact_match": _exact_match,
    "token_f1": _token_f1,
    "rouge_l": _rouge_l,
    "numeric": _numeric,
    "multiple_choice": _multiple_choice,
}
"""Scorer -> (answer, reference) -> score."""
