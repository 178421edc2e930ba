"""What the clocks of several load machines leave of a measurement: their times are put together by offsets that may be wrong."""

from __future__ import annotations

from collections.abc import Sequence

from helpers.run.records import NodeFacts


def clocks_moved(nodes: Sequence[NodeFacts]) -> list[str]:
    """Times of load machines cannot be put together where their clocks moved against each other while they were taken."""
    return [
        f"the clock of {node.words} moved by {node.clock_moved_ns / 1e6:.2f} ms more than can be an error of measuring it"
        for node in nodes
        if node.clock_moved_ns
    ]


def clocks_uncertain(nodes: Sequence[NodeFacts], most_ms: float) -> list[str]:
    """Load machines whose clock may be wrong by more than `most_ms`."""
    errors_ms = {node.words: max(node.clock_before.error_ns, node.clock_after.error_ns) / 1e6 for node in nodes}
    return [
        f"the clock of {words} is known to {error_ms:.1f} ms only, and more than {most_ms:.1f} ms would change the load"
        for words, error_ms in errors_ms.items()
        if error_ms > most_ms
    ]
