"""Failures of an option over all its load points: where these do not differ, they speak of the same error rate together.

Whether a server drops one request in 200 has little to do with how many are in flight, until it is overloaded. A load point that
fails otherwise than the rest of them is found by Fisher's exact test (1935) and is judged by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from helpers.config.mix import MIXED
from helpers.metrics.formulas import MET, MISSED, UNDECIDED, share_is_met
from helpers.metrics.looks import AS_ASKED, AsAsked, surely
from helpers.metrics.room import highest_asked, rejudge, show_room, state_columns, with_changes
from helpers.metrics.sample_size import requests_lacking

if TYPE_CHECKING:
    import pandas as pd

    from helpers.config.benchmark import BenchmarkConfig, ServiceLevel

DIFFERS_P = 0.05
"""A load point whose failures differ from those of the others at this level is not pooled with them: rather too often than
too seldom, since pooling what differs would hide the worse one.
"""


def pool_failures(points: pd.DataFrame, slo: ServiceLevel, sure: AsAsked = AS_ASKED) -> pd.DataFrame:
    """The table of load points (`summary.summarise`) with the state of the error rate from the failures of all load points of
    an option that do not differ, `failures_pooled_over` of them, and the states that follow from it.

    Requests that fail in bursts count for as many as are independent: `failure_effect`. Load points that were overloaded or
    limited by the client, and those whose failures are unknown, neither give nor take. Unsteady ones never help to show that the
    limit is met; that it is missed, they do: requests that hang may be what keeps a server from being steady. `sure`: of the
    confidences of the bounds.
    """
    if points.empty:
        return points
    rows = points.to_dict("index")
    can = points["error_rate"].notna() & ~points["overloaded"] & ~points["client_limited"]
    if "part_error_rate" in points:
        can &= points["part_error_rate"].isna()  # a part of a mix fails otherwise than the rest of it
    for among, states in ((can & ~points["steady"].eq(False), {MET, MISSED, UNDECIDED}), (can, {MISSED})):
        for _, mine in points.loc[among, ["option", "failures", "n", "failure_effect"]].groupby("option", sort=False):
            alike = mine[_alike(mine)]
            failures, n = int(alike["failures"].sum()), int(alike["n"].sum())
            effect = n / float((alike["n"] / alike["failure_effect"]).sum())
            of_errors = failures, n, slo.error_rate, sure.of_failures(slo.confidence, n), effect
            state = share_is_met(*of_errors)
            if len(alike) < 2 or state not in states:
                continue
            lacking = requests_lacking(*of_errors) if state == UNDECIDED else 0
            for at in alike.index:
                rows[at]["slo_error_rate"] = state
                rows[at]["lacking_error_rate"] = np.nan if lacking is None else lacking
                rows[at]["failures_pooled_over"] = len(alike)
                rejudge(rows[at], slo)
    return with_changes(points, rows, [*state_columns(slo), "failures_pooled_over"])


def judge_across_loads(points: pd.DataFrame, config: BenchmarkConfig) -> pd.DataFrame:
    """The table of load points with what the loads of an option say of each other: room below capacity, and failures."""
    sure = surely(config)
    import pandas as pd  # not by load processes

    points = show_room(points, config.slo, highest_asked(config))
    if config.load.mix is None or points.empty:
        return pool_failures(points, config.slo, sure)
    is_mixed = points["dataset"] == MIXED  # what fails alone takes no part in the verdict
    apart = [pool_failures(points[which], config.slo, sure) for which in (is_mixed, ~is_mixed) if which.any()]
    return pd.concat(apart).loc[points.index]


def _alike(mine: pd.DataFrame) -> np.ndarray:
    """Which load points do not differ: the one that differs most from the rest together is taken out until none does."""
    effects = mine["failure_effect"].to_numpy(float)
    failures, n = (np.round(mine[name].to_numpy(float) / effects) for name in ("failures", "n"))
    kept = np.ones(len(mine), dtype=bool)
    while kept.sum() > 1:
        all_failures, all_n = failures[kept].sum(), n[kept].sum()
        p = [
            fisher_p(failures[i], n[i], all_failures - failures[i], all_n - n[i]) if kept[i] else 1.0
            for i in range(len(kept))
        ]
        if min(p) >= DIFFERS_P:
            break
        kept[int(np.argmin(p))] = False
    return kept


def fisher_p(failures: float, n: float, others: float, n_others: float) -> float:
    """Two-sided p of Fisher's exact test that two error rates are the same: the probability, given how many failed in all,
    of what is no likelier than what was found.
    """
    from scipy.special import gammaln

    total, found = n + n_others, failures + others
    each = np.arange(max(0.0, found - n_others), min(found, n) + 1)

    def log_choose(top: float | np.ndarray, k: float | np.ndarray) -> np.ndarray:
        return gammaln(np.asarray(top) + 1) - gammaln(np.asarray(k) + 1) - gammaln(np.asarray(top) - k + 1)

    p = np.exp(log_choose(n, each) + log_choose(n_others, found - each) - log_choose(total, found))
    return float(min(1.0, p[p <= p[int(failures - each[0])] * (1 + 1e-7)].sum()))
