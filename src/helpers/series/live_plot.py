"""A small picture of the load point in progress, redrawn in place about once a second, with the same facts as text.

The SVG is generated directly: a redraw takes about a millisecond, and the history is bounded, so it costs the notebook's
kernel next to nothing. The kernel does not send load itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from helpers import number_text as text
from helpers.load.attempt_progress import AttemptProgress
from helpers.report.display import in_html

REDRAW_S = 1.0
HISTORY = 240
"""Samples that are kept: at one per second, the last four minutes."""
STRIP_PX = (220, 56)
GAP_PX = 24
HEAD_PX = 16
BLUE, ORANGE = "#0072B2", "#D55E00"


@dataclass(frozen=True)
class Sample:
    """What was known at one moment; unknown values are None."""

    at_s: float
    rate_per_s: float | None
    in_flight: float
    ttft_p50_ms: float | None
    ttft_p95_ms: float | None
    failures: float
    """New since the previous sample."""
    begins: bool
    """True for the first sample of a load point."""


STRIPS: list[tuple[str, Callable[[float | None], str], list[tuple[str, Callable[[Sample], float | None]]]]] = [
    ("answers/s", text.significant, [(BLUE, lambda s: s.rate_per_s)]),
    ("in flight", text.number, [(BLUE, lambda s: s.in_flight)]),
    ("TTFT p50, p95, ms", text.significant, [(BLUE, lambda s: s.ttft_p50_ms), (ORANGE, lambda s: s.ttft_p95_ms)]),
    ("new failures", text.number, [(ORANGE, lambda s: s.failures)]),
]
"""Title, number format, and lines: colour and value."""


class LivePlot:
    """Rate, requests in flight, TTFT and failures over the last minutes, in an `ipywidgets.HTML`."""

    def __init__(self) -> None:
        from ipywidgets import HTML

        self.widget = HTML()
        self._samples: deque[Sample] = deque(maxlen=HISTORY)
        self._failed = 0
        self._attempt: int | None = None
        self._drawn_s = float("-inf")

    def show(self, progress: AttemptProgress, attempt: int, now_s: float) -> bool:
        """Draw, unless it was drawn less than a second ago; returns whether it drew.

        `attempt` numbers the attempts, so that the first sample of each is known; `now_s` is a monotonic time.
        """
        if now_s - self._drawn_s < REDRAW_S:
            return False
        self._drawn_s = now_s
        begins = attempt != self._attempt
        self._samples.append(
            Sample(
                at_s=now_s,
                rate_per_s=progress.rate_per_s,
                in_flight=progress.in_flight,
                ttft_p50_ms=_ms(progress.ttft_p50_s),
                ttft_p95_ms=_ms(progress.ttft_p95_s),
                failures=progress.failed - (0 if begins else self._failed),
                begins=begins,
            )
        )
        self._attempt, self._failed = attempt, progress.failed
        self.widget.value = draw(list(self._samples), progress_words(progress))
        return True

    def finish(self, words: str) -> None:
        """Keep the picture, with these words in place of the progress."""
        if self._samples:
            self.widget.value = draw(list(self._samples), words)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def progress_words(progress: AttemptProgress) -> str:
    """A load point under way in one line; what is not known is left out."""
    words = [progress.phase]
    if progress.wanted:
        words.append(f"{progress.steady:,} of {progress.wanted:,} requests")
    if progress.rate_per_s is not None:
        words.append(f"{text.significant(progress.rate_per_s)} answers/s")
    words.append(f"{progress.in_flight:,} in flight")
    if progress.ttft_p50_s is not None and progress.ttft_p95_s is not None:
        words.append(f"TTFT p50 {text.duration(progress.ttft_p50_s)}, p95 {text.duration(progress.ttft_p95_s)}")
    if progress.failed:
        words.append(f"{progress.failed:,} failed")
    if progress.seconds_left is not None:
        words.append(f"about {max(progress.seconds_left, 0):,.0f} s left")
    return ", ".join(words)


def draw(samples: Sequence[Sample], words: str) -> str:
    """The four strips as one SVG, the newest sample at the right; `words` is its alternative text."""
    width, height = STRIP_PX
    parts = []
    for i, (title, write, lines) in enumerate(STRIPS):
        values = [[of(sample) for sample in samples] for _, of in lines]
        top = max((v for line in values for v in line if v is not None), default=0) or 1
        latest = " and ".join(write(line[-1]) for line in values)
        left = i * (width + GAP_PX)
        parts.append(
            f'<g transform="translate({left},0)" font-size="11"><text y="11" fill="currentColor">{title}: {latest}</text>'
            f'<text x="{width}" y="11" text-anchor="end" fill="currentColor" opacity="0.6">up to '
            f"{write(top)}</text>"
            f'<path d="M0 {HEAD_PX + height}H{width}" stroke="currentColor" opacity="0.3"/>'
        )
        parts += [
            f'<path d="M{_x(samples, j):.1f} {HEAD_PX}v{height}" stroke="currentColor" opacity="0.3" '
            'stroke-dasharray="2 2"/>'
            for j, sample in enumerate(samples)
            if sample.begins and j
        ]
        parts += [
            f'<path d="{_path(samples, line, top)}" fill="none" stroke="{colour}" stroke-width="1.5" '
            'stroke-linecap="round"/>'
            for (colour, _), line in zip(lines, values, strict=True)
        ]
        parts.append("</g>")
    across = len(STRIPS) * (width + GAP_PX) - GAP_PX
    return (
        f'<svg role="img" aria-label="{in_html(words)}" viewBox="0 0 {across} {HEAD_PX + height + 2}" '
        f'style="width:100%;max-width:{across}px" xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
        f"<div>{in_html(words)}</div>"
    )


def _x(samples: Sequence[Sample], index: int) -> float:
    """The newest sample at the right edge, the oldest at the left."""
    span = samples[-1].at_s - samples[0].at_s
    return STRIP_PX[0] * (1.0 if span <= 0 else (samples[index].at_s - samples[0].at_s) / span)


def _path(samples: Sequence[Sample], values: Sequence[float | None], top: float) -> str:
    """A line through the known values, with gaps where a value is unknown."""
    steps, pen_is_down = [], False
    for i, value in enumerate(values):
        if value is not None:
            y = HEAD_PX + STRIP_PX[1] * (1 - value / top)
            steps.append(f"{'L' if pen_is_down else 'M'}{_x(samples, i):.1f} {y:.1f}")
            if not pen_is_down:
                steps.append("h0")
        pen_is_down = value is not None
    return "".join(steps)
