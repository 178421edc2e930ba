"""What answers score, by rules that people can check by eye."""

from __future__ import annotations

import pytest

from helpers.metrics.scorers import can_score, score


@pytest.mark.parametrize(
    ("scorer", "answer", "references", "expected"),
    [
        ("exact_match", "The Eiffel  Tower.", ["eiffel tower"], 1),
        ("exact_match", "It is the Eiffel Tower", ["Eiffel Tower"], 0),
        ("exact_match", "42", ["41", "42"], 1),
        ("exact_match", "another", ["other"], 0),
        ("token_f1", "the cat sat", ["a cat sat down"], 0.8),
        ("token_f1", "cat cat", ["cat"], 2 / 3),
        ("token_f1", "dog", ["cat", "a dog"], 1),
        ("token_f1", "", ["cat"], 0),
        ("rouge_l", "the cat is on the mat", ["The cat sat on the mat!"], 2 * 5 / 12),
        ("rouge_l", "mat the on", ["on the mat"], 2 * 1 / 6),
        ("rouge_l", "über größe", ["Über Größe"], 1),
        ("rouge_l", "", ["cat"], 0),
        ("numeric", "First 3, then 4, so 1,234.50 dollars.", ["#### 1234.5"], 1),
        ("numeric", "It is −7", ["-7"], 1),
        ("numeric", "in the years 10-20", ["20"], 1),
        ("numeric", "1e3", ["1000"], 1),
        ("numeric", ".5", ["0.50"], 1),
        ("numeric", "H2O is 12", ["12"], 1),
        ("numeric", "12 or 13", ["12"], 0),
        ("numeric", "no idea", ["12"], 0),
        ("numeric", "12, of 2", ["12"], 0),
        ("multiple_choice", "B", ["B"], 1),
        ("multiple_choice", "(b) Paris", ["B"], 0),
        ("multiple_choice", "**B) Paris**", ["(B)"], 1),
        ("multiple_choice", "A cat is none of them. The answer is (C).", ["C"], 1),
        ("multiple_choice", "Answer: A, not B", ["a"], 1),
        ("multiple_choice", "I think B", ["B"], 1),
        ("multiple_choice", "it must be D then", ["D"], 1),
        ("multiple_choice", "A cat", ["A"], 0),
        ("multiple_choice", "B or C", ["B"], 0),
        ("multiple_choice", "", ["A"], 0),
    ],
)
def test_an_answer_scores(scorer, answer, references, expected):
    assert score(answer, references, scorer) == pytest.approx(expected)


def test_without_references_nothing_is_right():
    assert score("anything", [], "exact_match") == 0


@pytest.mark.parametrize(
    ("scorer", "reference", "expected"),
    [
        ("numeric", "about 7", True),
        ("numeric", "seven", False),
        ("multiple_choice", "(C)", True),
        ("multiple_choice", "2", False),
        ("multiple_choice", "Paris", False),
        ("token_f1", " \n", False),
    ],
)
def test_a_reference_holds_what_the_scorer_compares(scorer, reference, expected):
    assert can_score(reference, scorer) is expected
