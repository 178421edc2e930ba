"""Where the labels of a hand-written picture stand: beside what they name, and on nothing else.

Places are pixels, y downwards. A label that finds no free place is left out: a picture that cannot be read says less.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

ASCENT, DESCENT = 0.76, 0.22
"""Of letters above and below their line, as shares of their size."""
GAPS_PX = (1.5, 5.0, 10.0)
"""Between a label and what it names: the smallest at which there is room."""
APART_PX = 3.0
"""By how much further away a label stands from marks that it could be taken to name."""
STEP_PX = 3.0
"""Between the points by which a line is known."""
TURNS = ((1, -1), (1, 0), (-1, -1), (1, 1), (-1, 1), (-1, 0), (0, -1), (0, 1))
"""Sides on which a label may stand, the best first: right of its mark and above it."""


@dataclass(frozen=True)
class Box:
    """A rectangle."""

    left: float
    top: float
    right: float
    bottom: float

    @classmethod
    def around(cls, at: tuple[float, float], half: float) -> Box:
        """A square about a place."""
        return cls(at[0] - half, at[1] - half, at[0] + half, at[1] + half)

    def grown(self, by: float) -> Box:
        """The same, with so much more on each side."""
        return Box(self.left - by, self.top - by, self.right + by, self.bottom + by)


class Labels:
    """The labels of one panel. None of them leaves the frame, or touches a mark or another label; as few lines as can be pass
    behind them.
    """

    def __init__(self, frame: Box, marks: Iterable[Box], lines: Sequence[tuple[tuple[float, float], ...]]) -> None:
        self._frame = frame
        self._taken = [_row(box) for box in marks]
        pieces = [_steps(a, b) for line in lines for a, b in pairwise(line)]
        self._lines = np.concatenate(pieces) if pieces else np.empty((0, 2))

    def place(
        self, width: float, size: float, marks: Sequence[Box], apart: Sequence[Box] = ()
    ) -> tuple[float, float] | None:
        """Left end and line of a label of this width and size of letters beside one of `marks`, the first at which there is
        room; None where there is none. It is nearer to its mark than to any of `apart`.
        """
        for gap in GAPS_PX:
            taken = np.array([*self._taken, *(_row(box.grown(gap + APART_PX)) for box in apart)]).reshape(-1, 4)
            free = [box for mark in marks for box in _beside(mark, width, size, gap) if self._is_free(box, taken)]
            if free:
                found = min(free, key=self._lines_behind)  # the first of equals
                self._taken.append(_row(found.grown(GAPS_PX[0])))
                return found.left, found.bottom - DESCENT * size
        return None

    def _is_free(self, box: Box, taken: np.ndarray) -> bool:
        frame = self._frame
        if box.left < frame.left or box.right > frame.right or box.top < frame.top or box.bottom > frame.bottom:
            return False
        left, top, right, bottom = taken.T
        return not np.any((left < box.right) & (right > box.left) & (top < box.bottom) & (bottom > box.top))

    def _lines_behind(self, box: Box) -> int:
        x, y = self._lines.T
        return int(np.sum((x > box.left) & (x < box.right) & (y > box.top) & (y < box.bottom)))


def _beside(mark: Box, width: float, size: float, gap: float) -> list[Box]:
    """A label's box on each side of a mark."""
    height, near = (ASCENT + DESCENT) * size, mark.grown(gap)
    lefts = {1: near.right, -1: near.left - width, 0: (mark.left + mark.right - width) / 2}
    tops = {1: near.bottom, -1: near.top - height, 0: (mark.top + mark.bottom - height) / 2}
    corners = {(1, -1), (-1, -1), (1, 1), (-1, 1)}
    boxes = []
    for dx, dy in TURNS:
        tuck = 2.0 if (dx, dy) in corners else 0.0  # a mark fills none of its corners
        left, top = lefts[dx] - dx * tuck, tops[dy] - dy * tuck
        boxes.append(Box(left, top, left + width, top + height))
    return boxes


def _row(box: Box) -> tuple[float, float, float, float]:
    return box.left, box.top, box.right, box.bottom


def _steps(a: tuple[float, float], b: tuple[float, float]) -> np.ndarray:
    """Points along a straight line, shape (n, 2)."""
    ends = np.array([a, b], dtype=float)
    count = 2 + int(np.hypot(*(ends[1] - ends[0])) / STEP_PX)
    return np.linspace(ends[0], ends[1], count)
