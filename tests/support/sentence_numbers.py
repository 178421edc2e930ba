"""Where each number in a computed sentence comes from: one claim for each kind of sentence, worked out from the files of a run.

A claim is a pattern and a function that works every number of it out again from verdict.json, metrics/, changes.json and the
facts of the load points. What no claim accounts for is a number that nobody has stated the origin of.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from helpers.verdict.limits import has_server_side

HOURS = 730
NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?"
PHRASES = {
    "#": ("n", NUMBER),
    "“o”": ("o", "“[^”]+”"),
    "<U>": ("u", r"per (?:1,000|1M) (?:requests|output tokens)"),
    "<T>": ("t", rf"{NUMBER} (?:ms|s|min)\b"),
    "<L>": ("l", rf"concurrency {NUMBER}|{NUMBER} (?:requests/s|sessions/s|users?)"),
    "<R>": (
        "r",
        rf"{NUMBER}% (?:more expensive|cheaper|more|fewer|less)|{NUMBER} times as (?:expensive|many|much)"
        r"|as (?:expensive|many|much)(?: to within 0\.5%)?",
    ),
}
"""Sign in a pattern -> kind of value and its expression."""
CLAIMS: list[tuple[str, Callable[[Known, Found], None]]] = []
BASES = {"usd_per_1k_requests": 1e3, "usd_per_1m_output_tokens": 1e6}


@dataclass
class Known:
    """What the files of a run hold."""

    verdict: dict
    points: pd.DataFrame
    changes: dict
    config: dict
    """The resolved config: sections slo and traffic, and the names of the datasets."""
    facts: list = field(default_factory=list)
    samples: pd.DataFrame = field(default_factory=pd.DataFrame)
    endpoints: list = field(default_factory=list)
    calibration: dict = field(default_factory=dict)
    moves: list = field(default_factory=list)
    of_turns: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Requests of conversations at the lowest load: option, dataset, load, turn, ttft_s (failures: inf) and prompt_tokens."""
    of_parts: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Of each part of a mix, alone and beside the others: option, load, part, is_alone, and its percentile with its interval."""
    sessions: list = field(default_factory=list)
    """How each session ended: a key of ENDS."""
    right: dict[str, dict[str, bool]] = field(default_factory=dict)
    """Option -> prompt -> whether its answer is the sum of the numbers in the prompt."""
    scored: dict[str, int] = field(default_factory=dict)
    """Prompts to score, and most output tokens of an answer."""
    judgements: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Judgements of all options: prompt_tokens, output_tokens and usd of each, as far as they are known."""

    @property
    def slo(self) -> dict:
        return self.config["slo"]

    @property
    def traffic(self) -> dict:
        return self.config["traffic"]

    def option(self, name: str) -> dict:
        return next(option for option in self.verdict["options"] if option["option"] == name)

    @property
    def named(self) -> dict:
        return self.option(self.verdict["recommended"] or self.verdict["best_estimate"])

    @property
    def winner(self) -> dict:
        return self.option(self.verdict["recommended"])

    @property
    def second(self) -> dict:
        others = [o for o in self.verdict["options"] if o["status"] in ("tied", "feasible")]
        return min(others, key=cost)

    def scale(self, unit: str) -> float:
        """From a cost of the verdict to one in the unit of a sentence."""
        of = {"1,000": 1e3, "1M": 1e6}[unit.split()[1]]
        assert unit.endswith("requests" if self.verdict["cost_basis"] == "usd_per_1k_requests" else "output tokens")
        return of / BASES[self.verdict["cost_basis"]]

    def carries(self, option: dict) -> float:
        """Requests a minute of the instances that serve together, with headroom."""
        return rate(option) * option["instance_count"] * (1 - self.traffic["headroom"])

    def bill(self, option: dict, traffic: float) -> float:
        """$ an hour, in whole replicas."""
        return math.ceil(traffic / self.carries(option) - 1e-9) * hourly(option)

    def lowest(self, traffic: float) -> str:
        feasible = [o for o in self.verdict["options"] if o["status"] in ("recommended", "tied", "feasible")]
        return min(feasible, key=lambda o: (self.bill(o, traffic), cost(o)))["option"]

    def turns(self) -> list[float]:
        """Traffic at which another option has the lowest bill."""
        feasible = [o for o in self.verdict["options"] if o["status"] in ("recommended", "tied", "feasible")]
        steps = sorted({k * self.carries(o) for o in feasible for k in range(1, math.ceil(1e4 / self.carries(o)))})
        return [at for at in steps if 1 < at < 1e4 and self.lowest(at * (1 - 1e-7)) != self.lowest(at * (1 + 1e-7))]

    def at(self, option: str, dataset: str, load: str) -> pd.Series:
        here = self.points[["option", "dataset", "load"]].eq([option, dataset, load]).all(axis=1)
        return self.points[here].iloc[0]

    def of_server(self, option: str, dataset: str) -> pd.DataFrame:
        """The load points of an option that its server, not the load generator, limited."""
        here = self.points[(self.points["option"] == option) & (self.points["dataset"] == dataset)]
        return here[here["slo"] != "client_limited"]


def cost(option: dict) -> float:
    return option["cost"]["value"]


def rate(option: dict) -> float:
    return option["capacity"]["requests_per_minute_per_instance"]["value"]


def hourly(option: dict) -> float:
    return option["prices"][0]["usd_per_instance_hour"] * option["instance_count"]


def is_written(printed: str, value: float) -> bool:
    """Is a number the value, in the precision in which it is printed?"""
    decimals = len(printed.partition(".")[2])
    return f"{value:,.{decimals}f}" == printed


class Found:
    """One match of a claim, of which every value is to be checked."""

    def __init__(self, match: re.Match[str]) -> None:
        self.words, self.line, self.before = match[0], match.string, match.string[: match.start()]
        self.left = {name: said for name, said in match.groupdict().items() if said is not None and name[0] in "nultr"}
        self.names = [said[1:-1] for name, said in match.groupdict().items() if said and name[0] == "o"]
        self.datasets = [said for name, said in match.groupdict().items() if said and name[0] == "d"]

    def _next(self, kind: str) -> str:
        return self.left.pop(next(name for name in self.left if name[0] == kind))

    def has(self, kind: str) -> bool:
        return any(name[0] == kind for name in self.left)

    def number(self, *values: float) -> None:
        for value in values:
            printed = self._next("n")
            assert is_written(printed, value), f"{self.words!r}: {printed} is said, {value} is true"

    def time(self, *seconds: float) -> None:
        for value in seconds:
            printed, unit = self._next("t").split()
            scaled = value * {"ms": 1e3, "s": 1, "min": 1 / 60}[unit]
            assert is_written(printed, scaled), f"{self.words!r}: {printed} {unit} is said, {value} s is true"

    def ratio(self, value: float) -> None:
        said = self._next("r")
        printed = re.match(NUMBER, said)
        if printed is None:
            assert abs(value - 1) < 0.005, f"{self.words!r}: {said} is said of {value} times"
            return
        percent = 100 * (value - 1 if "more" in said else 1 - value)
        true = value if "times" in said else percent
        assert is_written(printed[0], true), f"{self.words!r}: {said} is said, {value} times is true"

    def unit(self) -> str:
        return self._next("u")

    def load(self, *allowed: str) -> str:
        said = self._next("l")
        assert not allowed or said in allowed, f"{self.words!r}: {said} is said, {allowed} is true"
        return said


def claim(pattern: str) -> Callable:
    """A kind of sentence. `#` a number, `“o”` an option, `<D>` a dataset, `<L>` a load, `<U>` a unit of price, `<T>` a time,
    `<R>` how two amounts compare; the rest is a regular expression.
    """

    def named(check: Callable[[Known, Found], None]) -> Callable:
        CLAIMS.append((pattern, check))
        return check

    return named


@functools.cache
def _compiled(pattern: str, datasets: tuple[str, ...]) -> re.Pattern[str]:
    phrases = PHRASES | {"<D>": ("d", "|".join(map(re.escape, sorted(datasets, key=len, reverse=True))))}
    number = itertools.count()
    signs = "|".join(map(re.escape, phrases))

    def group(sign: re.Match[str]) -> str:
        kind, expression = phrases[sign[0]]
        return f"(?P<{kind}{next(number)}>{expression})"

    return re.compile(re.sub(signs, group, pattern))


def unaccounted(line: str, known: Known) -> list[str]:
    """The numbers of a sentence of which no claim says where they come from; AssertionError where one is wrong."""
    datasets = tuple(known.config["datasets"])
    covered = np.zeros(len(line), dtype=bool)
    for pattern, check in CLAIMS:
        for match in _compiled(pattern, datasets).finditer(line):
            found = Found(match)
            check(known, found)
            assert not found.left, f"the claim {pattern!r} leaves {found.left} unchecked"
            covered[match.start() : match.end()] = True
    for name in (*_texts(known.verdict), *datasets, *_reasons(known)):
        for match in re.finditer(re.escape(name), line):
            covered[match.start() : match.end()] = True
    for match in re.finditer(r"“[^”]+”|`[^`]+`|\]\([^)]*\)", line):
        covered[match.start() : match.end()] = True
    return [match[0] for match in re.finditer(NUMBER, line) if not covered[match.start() : match.end()].all()]


def _reasons(known: Known) -> list[str]:
    """What the facts say in words, each behind what it is said of: the reason of another one is wrong there."""
    reasons = [f"{fact.words} ({'; '.join(fact.client_limited)})" for fact in known.facts]
    if "server_trouble" in known.points:
        troubled = known.points.dropna(subset=["server_trouble"])
        reasons += [
            f"“{row.option}” says of itself was not read throughout: {row.server_trouble}"
            for row in troubled.itertuples()
        ]
    return reasons


def _texts(verdict: dict) -> list[str]:
    """Names and reasons, which stand in verdict.json word by word."""
    texts = [verdict["model"], verdict["nearest_reason"]]
    texts += [warning["message"] for warning in verdict["warnings"]]
    for option in verdict["options"]:
        effort = option["to_settle"] or {}
        texts += [option[key] for key in ("option", "instance_type", "reason", "may_be_cheaper_because")]
        texts.append(effort.get("how"))
    return [text for text in texts if text]


# --- the bottom line ----------------------------------------------------------------------------------------------


@claim(r"p# (?:latency|TTFT|TTFA|TPOT) within # s, at most #% errors, with #% confidence")
def slo(k: Known, f: Found) -> None:
    f.number(k.slo["percentile"], k.slo["latency_s"], 100 * k.slo["error_rate"], 100 * k.slo["confidence"])


@claim(r"at the lowest price, \$# \(95% interval # to #\) <U>")
def lowest_price(k: Known, f: Found) -> None:
    scale = k.scale(f.unit())
    f.number(*(k.winner["cost"][end] * scale for end in ("value", "low", "high")))


@claim(r"<U>, at <L>(?: \(or .*?, not shown to meet the SLO\))?\.\*\*")
def load_of_the_winner(k: Known, f: Found) -> None:
    k.scale(f.unit())
    f.load(*{point["load"] for point in k.winner["points"]})


@claim(r"or <L>, not shown to meet the SLO")
def perhaps_at(k: Known, f: Found) -> None:
    f.load(*(load for point in k.winner["points"] for load in point["or_at"]))


@claim(r"<L> (?:\([^)]*\) )?\(<D>")
def loads_of_datasets(k: Known, f: Found) -> None:
    f.load(*(point["load"] for point in k.named["points"] if point["dataset"] == f.datasets[0]))


@claim(r"#% of the prompt tokens(?: on <D>)?")
def found_in_the_cache(k: Known, f: Found) -> None:
    f.number(100 * _chosen(k, f)["found_hit_rate"])


@claim(r"(?: on <D>)? \(#% asked\)")
def asked_of_the_cache(k: Known, f: Found) -> None:
    f.number(100 * _chosen(k, f)["asked_hit_rate"])


def _chosen(k: Known, f: Found) -> dict:
    return next(p for p in k.named["points"] if not f.datasets or p["dataset"] == f.datasets[0])


@claim(r"The prefix cache of “o” found #% of its prompt tokens(?:, that of “o” #%)?")
def most_and_least_found(k: Known, f: Found) -> None:
    here = k.points.dropna(subset=["found_hit_rate"])
    cached, tokens = (
        (here["n"] - here["failures"]) * here["prompt_tokens_mean"] * share for share in (here["found_hit_rate"], 1)
    )
    rates = cached.groupby(here["option"]).sum() / tokens.groupby(here["option"]).sum()
    assert f.names == [rates.idxmax(), rates.idxmin()][: len(f.names)]
    f.number(*(100 * rates[name] for name in f.names))


@claim(r"For # requests a minute")
def planned(k: Known, f: Found) -> None:
    f.number(k.traffic["requests_per_minute"])


@claim(r"[( ]#% <D>(?=[,) ])")
def share(k: Known, f: Found) -> None:
    parts = k.traffic.get("mix") or {}  # of a mix, whose point is all of them together
    points = {p["dataset"]: p["share"] for p in k.winner["points"]}
    f.number(100 * (parts | points)[f.datasets[0]])


@claim(r"with #% headroom it takes # instances?, \$# a month")
def need(k: Known, f: Found) -> None:
    wanted = k.traffic["requests_per_minute"]
    f.number(
        100 * k.traffic["headroom"], math.ceil(wanted / k.carries(k.winner) - 1e-9), HOURS * k.bill(k.winner, wanted)
    )


@claim(r"\(the same at both ends of the 95% interval of what an instance serves\)")
def need_in_any_case(k: Known, f: Found) -> None:
    assert set(needs(k)) == {k.winner["capacity"]["instances"]}


@claim(r"\(95% interval: # to # instances, \$# to \$#\)")
def need_within(k: Known, f: Found) -> None:
    f.number(*needs(k), *(HOURS * each * hourly(k.winner) / k.winner["instance_count"] for each in needs(k)))


def needs(k: Known) -> list[int]:
    """Instances at either end of the interval of what one serves, in whole replicas."""
    bounds, together = k.winner["capacity"]["requests_per_minute_per_instance"], k.winner["instance_count"]
    full = [together * bounds[end] * (1 - k.traffic["headroom"]) for end in ("high", "low")]
    return [together * math.ceil(k.traffic["requests_per_minute"] / each) for each in full]


@claim(r"At # requests a minute “o” has the lower bill, \$# a month")
def lower_bill(k: Known, f: Found) -> None:
    f.number(k.traffic["requests_per_minute"], HOURS * k.bill(k.option(f.names[0]), k.traffic["requests_per_minute"]))


@claim(r"serves at least # requests a minute")
def lower_bound(k: Known, f: Found) -> None:
    f.number(rate(k.winner))


@claim(r"“o”, by the best estimate, at \$# <U>(?:, at <L>)?")
def best_estimate(k: Known, f: Found) -> None:
    assert f.names == [k.verdict["best_estimate"]]
    f.number(cost(k.named) * k.scale(f.unit()))
    if f.has("l"):
        f.load(*(point["load"] for point in k.named["points"]))


@claim(r"(?:before|,|and) “o” \(\$#\)(?: and # more)?")
def ranked_behind(k: Known, f: Found) -> None:
    unit = re.search(r"by the best estimate, at \$[\d.,]+ (per \S+ (?:requests|output tokens))", f.line)[1]
    f.number(cost(k.option(f.names[0])) * k.scale(unit))
    if f.has("n"):
        f.number(sum(o["is_estimate"] and o["cost"] is not None for o in k.verdict["options"]) - 3)


@claim(r"the p# latency is not shown to stay within # s")
def open_limit(k: Known, f: Found) -> None:
    f.number(k.slo["percentile"], k.slo["latency_s"])


@claim(r"(?:unknown|<T>) on <D> at <L>")
def open_point(k: Known, f: Found) -> None:
    load = f.load()
    limit = next(o for o in k.named["open_limits"] if (o["dataset"], o["load"]) == (f.datasets[0], load))
    assert ("unknown" in f.words) == (limit["measured"] is None)
    if limit["measured"] is not None:
        f.time(limit["measured"])


@claim(r"on <D> at <L> and # more\)\.")
def more_open_points(k: Known, f: Found) -> None:
    f.load()
    f.number(sum(o["limit"] == "latency_s" for o in k.named["open_limits"]) - 2)


@claim(
    r"To settle it: # more requests? like these at the same loads \((?:about # minutes?|less than a minute) of load(?:, \$#)?\)"
)
def settle(k: Known, f: Found) -> None:
    effort = k.named["to_settle"]
    f.number(effort["requests"])
    if "about" in f.words:
        f.number(effort["minutes"])
    if f.has("n"):
        f.number(effort["usd"])


@claim(r"are compared <U>")
def compared_by(k: Known, f: Found) -> None:
    k.scale(f.unit())


# --- what would change --------------------------------------------------------------------------------------------


@claim(r"that “o” meets each limit of the SLO is shown with #% confidence")
def sure_of_the_slo(k: Known, f: Found) -> None:
    assert f.names[0] == k.winner["option"]
    f.number(100 * k.slo["confidence"])


@claim(r"and with 95% that “o”, the next cheapest, costs more")
def sure_of_the_price(k: Known, f: Found) -> None:
    assert (f.names[0], k.second["status"]) == (k.second["option"], "feasible")


@claim(r"how good # other options? would be is not known")
def unknown_others(k: Known, f: Found) -> None:
    known = ("recommended", "tied", "feasible", "infeasible", "eliminated")
    f.number(sum(option["status"] not in known for option in k.verdict["options"]))


@claim(r"Above # requests a minute “o” takes # instances?")
def next_instance(k: Known, f: Found) -> None:
    instances, together = k.winner["capacity"]["instances"], k.winner["instance_count"]
    f.number(instances * k.carries(k.winner) / together, instances + together)


@claim(r"the runner-up, “o”, runs on the same and is <R>")
def same_instance(k: Known, f: Found) -> None:
    assert f.names[0] == k.second["option"] and hourly(k.second) == hourly(k.winner)
    f.ratio(cost(k.second) / cost(k.winner))


@claim(r"At this traffic # instances? (?:is|are) #% used(?:, so its requests cost \$# <U>)?")
def used(k: Known, f: Found) -> None:
    wanted = k.traffic["requests_per_minute"]
    instances = k.winner["capacity"]["instances"]
    f.number(instances, 100 * wanted / (instances * rate(k.winner)))
    if f.has("u"):
        f.number(k.bill(k.winner, wanted) / (60 * wanted) * 1e3 * k.scale(f.unit()))


@claim(r"(?:of the other bills that|the bill) of “o” is (?:lowest, )?\$# a month \(<R>\)")
def other_bill(k: Known, f: Found) -> None:
    mine, other = (k.bill(o, k.traffic["requests_per_minute"]) for o in (k.winner, k.option(f.names[0])))
    f.number(HOURS * other)
    f.ratio(other / mine)


@claim(r"(?:of the other bills that|the bill) of “o” is as high, \$# a month")
def as_high_a_bill(k: Known, f: Found) -> None:
    mine, other = (k.bill(o, k.traffic["requests_per_minute"]) for o in (k.winner, k.option(f.names[0])))
    assert abs(other / mine - 1) < 0.005
    f.number(HOURS * other)


@claim(r"[Ww]ith a limit of <T> or less")
def stricter(k: Known, f: Found) -> None:
    f.time(k.changes["stricter"]["limit_s"])


@claim(r"[Ww]ith a limit of <T> or more")
def laxer(k: Known, f: Found) -> None:
    f.time(k.changes["laxer"]["limit_s"])


@claim(r"stays recommended from a quarter of # s to four times as much")
def unchanged(k: Known, f: Found) -> None:
    assert k.changes["stricter"] is k.changes["laxer"] is None
    f.number(k.slo["latency_s"])


@claim(r"below # requests a minute that of “o”")
def below(k: Known, f: Found) -> None:
    at = max(turn for turn in k.turns() if turn < k.traffic["requests_per_minute"])
    assert f.names == [k.lowest(at * 0.999999)]
    f.number(at)


@claim(r"above # requests a minute that of “o”")
def above(k: Known, f: Found) -> None:
    at = min(turn for turn in k.turns() if turn >= k.traffic["requests_per_minute"])
    assert f.names == [k.lowest(at * 1.000001)]
    f.number(at)


@claim(r"from 1 to 10,000 requests a minute|up to 10,000 requests a minute")
def one_everywhere(k: Known, f: Found) -> None:
    assert k.turns() == []


@claim(r"“o” is tied \(<R>\)")
def tied(k: Known, f: Found) -> None:
    assert f.names[0] in k.verdict["tied"]
    f.ratio(cost(k.option(f.names[0])) / cost(k.winner))


@claim(
    r"the runner-up, “o”, is <R> at full load; it would win if its price fell by more than #%(?:, from \$# to \$# per instance)?"
)
def discount(k: Known, f: Found) -> None:
    assert f.names == [k.second["option"]]
    to = cost(k.winner) / cost(k.second)
    f.ratio(1 / to)
    f.number(100 * (1 - to))
    if f.has("n"):
        each = k.second["prices"][0]["usd_per_instance_hour"]
        f.number(each, each * to)


@claim(r"for a lower bill than “o” at this traffic, by more than #%")
def discount_for_the_bill(k: Known, f: Found) -> None:
    mine, other = (k.bill(o, k.traffic["requests_per_minute"]) for o in (k.winner, k.second))
    f.number(100 * (1 - mine / other))


# --- readings -----------------------------------------------------------------------------------------------------


@claim(r"“o” is the runner-up: it serves <R> requests a minute (?:at the same price|and costs <R>) an hour")
def runner_up(k: Known, f: Found) -> None:
    assert f.names == [k.second["option"]]
    f.ratio(rate(k.second) * k.second["instance_count"] / (rate(k.winner) * k.winner["instance_count"]))
    if f.has("r"):
        f.ratio(hourly(k.second) / hourly(k.winner))
    else:
        assert abs(hourly(k.second) / hourly(k.winner) - 1) < 0.005


@claim(r"The SLO costs nothing: no load at which “o” could be judged is cheaper by 1% or more")
def slo_is_free(k: Known, f: Found) -> None:
    assert cheapest_of_all(k) >= 0.99 * cost(k.named)


@claim(r"The SLO costs: without it “o” would take \$# <U>")
def slo_costs(k: Known, f: Found) -> None:
    f.number(cheapest_of_all(k) * k.scale(f.unit()))


@claim(r"(?<!calibration at )<L>(?: on <D>)?(?: and|, #% less)")
def slo_saves(k: Known, f: Found) -> None:
    f.load(*k.points.loc[k.points["option"] == k.named["option"], "load"])
    if f.has("n"):
        f.number(100 * (1 - cheapest_of_all(k) / cost(k.named)))


def cheapest_of_all(k: Known) -> float:
    """What the named option would take at its cheapest loads, whatever their latency."""
    mine = k.points[(k.points["option"] == k.named["option"]) & (k.points["slo"] != "client_limited")]
    lowest = mine.groupby("dataset")[k.verdict["cost_basis"]].min()
    return sum(point["share"] * lowest[point["dataset"]] for point in k.named["points"])


@claim(r"<D> makes #% of its price with #% of the requests")
def deciding(k: Known, f: Found) -> None:
    point = next(p for p in k.named["points"] if p["dataset"] == f.datasets[0])
    f.number(100 * point["share"] * point["cost"]["value"] / cost(k.named), 100 * point["share"])


@claim(r"The price of “o” is known to within #%(?:, from # requests? at <L>)?")
def within(k: Known, f: Found) -> None:
    price = k.named["cost"]
    f.number(100 * max(price["high"] - price["value"], price["value"] - price["low"]) / price["value"])
    if f.has("n"):
        f.number(k.named["points"][0]["n"])
        f.load(k.named["points"][0]["load"])


@claim(r"#% of that \(of the variance\) comes from <D> at <L>, where # requests? count")
def widest(k: Known, f: Found) -> None:
    squares = {p["dataset"]: (p["share"] * (p["cost"]["high"] - p["cost"]["low"])) ** 2 for p in k.named["points"]}
    point = next(p for p in k.named["points"] if p["dataset"] == f.datasets[0])
    assert squares[point["dataset"]] == max(squares.values())
    f.number(100 * squares[point["dataset"]] / sum(squares.values()), point["n"])
    f.load(point["load"])


STANDINGS = {
    "meet": ("recommended", "tied", "feasible"),
    "miss": ("infeasible",),
    "fail": ("below_quality",),
    "left": ("eliminated",),
    "decided": ("undecided", "not_judged"),
    "price": ("unpriced",),
    "measured": ("failed", "incomplete"),
}
STATES = {"meet": ("met",), "miss": ("missed",), "undecided": ("undecided",), "client": ("client_limited",)}


@claim(r"(?:(?:Of|All) [\d,]+|Both) options [^.]*\.")
def options_counted(k: Known, f: Found) -> None:
    count_each(f.words, STANDINGS, [option["status"] for option in k.verdict["options"]])


@claim(r"(?:(?:Of|All) [\d,]+|Both) load points [^.]*\.")
def points_counted(k: Known, f: Found) -> None:
    count_each(f.words, STATES, k.points["slo"].tolist())


def count_each(words: str, kinds: dict[str, tuple[str, ...]], states: list[str]) -> None:
    """`Of n .., .. and ..` or `All n ..`: the total, and what is not 0, in order, with the words that stand for it."""
    counts = {word: sum(state in of for state in states) for word, of in kinds.items()}
    there = {word: count for word, count in counts.items() if count}
    numbers = [int(number.replace(",", "")) for number in re.findall(NUMBER, words)]
    if words.startswith("Of"):
        assert numbers == [len(states), *there.values()], (words, counts)
    else:
        assert numbers == ([len(states)] if words.startswith("All") else []), (words, counts)
        assert len(there) == 1 and (len(states) == 2 or numbers), (words, counts)
    assert re.search(".*".join(there), words), (words, counts)


@claim(r"(?:requests a minute: |, then )“o” up to #")
def cheapest_up_to(k: Known, f: Found) -> None:
    ends = [*k.turns(), 1e4]
    printed = next(iter(f.left.values()))
    at = next((end for end in ends if is_written(printed, end)), math.nan)
    assert k.lowest(at * 0.999999) == f.names[0], f.words
    f.number(at)


@claim(r"\(# ranges in all\)")
def ranges_in_all(k: Known, f: Found) -> None:
    f.number(len(k.turns()) + 1)


# --- figures ------------------------------------------------------------------------------------------------------


@claim(r"“o” is cheapest within # s; “o” is <R>")
def price_figure(k: Known, f: Found) -> None:
    assert f.names == [k.winner["option"], k.second["option"]]
    f.number(k.slo["latency_s"])
    f.ratio(cost(k.second) / cost(k.winner))


@claim(r"cost the same within # s|is shown to meet the limit of # s")
def limit_of_the_figure(k: Known, f: Found) -> None:
    f.number(k.slo["latency_s"])


@claim(r"At # requests a minute “o” has the lowest bill; the lowest changes # times?")
def bill_figure(k: Known, f: Found) -> None:
    assert f.names == [k.lowest(k.traffic["requests_per_minute"])]
    f.number(k.traffic["requests_per_minute"], len(k.turns()))


@claim(r"(?:P# [^:]*|Mean [^:]*)stays within # s(?:, the limit of the p#)?:")
def load_figure(k: Known, f: Found) -> None:
    if f.words.startswith("P"):
        f.number(k.slo["percentile"])
    f.number(k.slo["latency_s"])
    if f.has("n"):
        f.number(k.slo["percentile"])


@claim(r"“o” (?:even at|up to) <L>")
def load_within(k: Known, f: Found) -> None:
    column = f"latency_s_p{k.slo['percentile']:g}"
    known = k.points[column].notna().all()
    mine = k.points[k.points["option"] == f.names[0]].assign(
        within=lambda p: p[column if known else "latency_s_mean_ok"]
    )
    levels = [
        max(
            r.level
            for r in rows.itertuples()
            if (rows.loc[rows["level"] <= r.level, "within"] <= k.slo["latency_s"]).all()
        )
        for _, rows in mine.groupby("dataset")
    ]
    f.load(mine.loc[mine["level"] == min(levels), "load"].iloc[0])
    assert ("even at" in f.words) == (min(levels) == mine["level"].max())


@claim(r"“o” (?:is|are) full at <L>")
def full(k: Known, f: Found) -> None:
    mine = k.points[k.points["option"] == f.names[0]]
    levels = [
        r.loc[r["requests_per_s"] >= 0.95 * r["requests_per_s"].max(), "level"].min()
        for _, r in mine.groupby("dataset")
    ]
    f.load(mine.loc[mine["level"] == max(levels), "load"].iloc[0])


@claim(r"The longest third of the prompts takes # times as long as the shortest(?: on “o”, # times on “o”)?")
def prompts_figure(k: Known, f: Found) -> None:
    ok = k.samples[k.samples["ok"].astype(bool)]
    ok = ok[ok["level"] == ok.groupby(["option", "dataset"])["level"].transform("min")]
    ratios = {}
    for option, mine in ok.groupby("option"):
        tokens = mine["prompt_tokens"].astype(float)
        short, long = (mine[tokens <= tokens.quantile(1 / 3)], mine[tokens >= tokens.quantile(2 / 3)])
        ratios[option] = long["latency_s"].median() / short["latency_s"].median()
    f.number(ratios[f.names[0]] if f.names else max(ratios.values()))
    if f.names:
        f.number(ratios[f.names[1]])


@claim(r"<D> takes # times as long as <D>(?: on “o”, # times on “o”)?")
def mean_prompts_figure(k: Known, f: Found) -> None:
    lowest = k.points[k.points["level"] == k.points.groupby(["option", "dataset"])["level"].transform("min")]
    means = lowest.pivot(index="option", columns="dataset", values="latency_s_mean_ok")
    ratios = means[f.datasets[0]] / means[f.datasets[1]]
    f.number(*([ratios[name] for name in f.names] or [ratios.max()]))


@claim(r"(?:The first token|Each further token) takes <T> on (?:“o”(?:, <T> on “o”: <R>)?|each option)")
def medians(k: Known, f: Found) -> None:
    column = "ttft_s" if f.words.startswith("The") else "tpot_s"
    shared = k.samples[k.samples["level"] == k.samples["level"].max()]  # all options were measured there
    found = shared[shared[column].notna()].groupby("option")[column].median()
    f.time(*(found[name] for name in f.names or found.index[:1]))
    if f.has("r"):
        f.ratio(found[f.names[1]] / found[f.names[0]])
    elif not f.names:
        assert found.nunique() == 1


@claim(r"“o” failed most: #% on <D> at <L>, where #% may")
def error_figure(k: Known, f: Found) -> None:
    load = f.load()
    assert k.at(f.names[0], f.datasets[0], load)["error_rate"] == k.points["error_rate"].max()
    f.number(100 * k.points["error_rate"].max(), 100 * k.slo["error_rate"])


# --- tables -------------------------------------------------------------------------------------------------------


@claim(r"(?:serving .* )?on # datasets?")
def datasets_counted(k: Known, f: Found) -> None:
    f.number(len(k.config["datasets"]))


@claim(r"\) at concurrency [\d, ]+\.")
def loads_measured(k: Known, f: Found) -> None:
    assert [float(level) for level in re.findall(r"\d+", f.words)] == sorted(k.points["level"].unique()), f.words


@claim(r"(?:started|imported) \d{4}-\d\d-\d\d \d\d:\d\d UTC")
def started(k: Known, f: Found) -> None:
    day, minute = re.sub("[-:]", "", f.words).split()[1:3]
    assert f"-{day}-{minute}" in k.verdict["run_id"], f.words


@claim(r"# instances? of “o” (?:carries|carry) (?:at least|up to) # requests a minute")
def carries(k: Known, f: Found) -> None:
    option = k.option(f.names[0])
    instances = option["capacity"]["instances"]
    f.number(instances, instances * rate(option) * (1 - k.traffic["headroom"]))


@claim(r"n instance of “o” serves (?:most, )?<R> requests a minute")
def instances_compared(k: Known, f: Found) -> None:
    f.ratio(rate(k.option(f.names[0])) / rate(k.named))


@claim(r"(?:Each of the #|# of #) pairs of dataset and option (?:has|have)")
def pairs_counted(k: Known, f: Found) -> None:
    met = k.points[k.points["slo"] == "met"].drop_duplicates(["option", "dataset"])
    every = len(k.config["datasets"]) * len(k.verdict["options"])
    f.number(*([len(met)] if "Each" in f.words else [len(met), every]))
    assert "Each" not in f.words or len(met) == every


@claim(r"says least is that of “o” on <D> at <L>: # requests?(?: counts? as # independent ones)?")
def least_telling(k: Known, f: Found) -> None:
    point = k.at(f.names[0], f.datasets[0], f.load())
    assert point["latency_s_effective_n"] == k.points["latency_s_effective_n"].min()
    f.number(point["n"])
    if f.has("n"):
        f.number(point["latency_s_effective_n"])


@claim(r"The load moves the price most for “o” on <D>: from \$# <U> at <L> to \$# at <L>, which is <R>")
def load_and_price(k: Known, f: Found) -> None:
    column = k.verdict["cost_basis"]
    scale = k.scale(f.unit())
    low, high = (k.at(f.names[0], f.datasets[0], f.load())[column] for _ in range(2))
    judged = k.points[k.points["slo"] != "client_limited"]
    spans = judged.groupby(["option", "dataset"])[column].agg(lambda prices: prices.max() / prices.min())
    assert math.isclose(high / low, spans.max())
    f.number(low * scale, high * scale)
    f.ratio(high / low)


@claim(r"(?:All #|Both) prices are of \d{4}-\d\d-\d\d")
def prices_dated(k: Known, f: Found) -> None:
    dates = [str(price["as_of"]) for option in k.verdict["options"] for price in option["prices"]]
    assert set(dates) == {f.words[-10:]}
    f.number(*([len(dates)] if f.has("n") else []))


@claim(r"The # options are alike in")
def alike(k: Known, f: Found) -> None:
    f.number(len(k.verdict["options"]))


@claim(r"“o” took longest to start, <T>; “o” <T>")
def start_ups(k: Known, f: Found) -> None:
    took = {record.option: record.startup_s() for record in k.endpoints}
    assert [took[name] for name in f.names] == [max(took.values()), min(took.values())]
    f.time(*(took[name] for name in f.names))


@claim(r"No change of (?:any of # options|“o”) by 2% or more is shown")
def no_change(k: Known, f: Found) -> None:
    if f.has("n"):
        f.number(len({fact.option for fact in k.facts}))


@claim(r"Late in its measurement “o” was #% (?:slower|faster) than early; of the other no change is shown")
def change(k: Known, f: Found) -> None:
    f.number(abs(next(m for m in k.moves if m.option == f.names[0]).change.value) * 100)


# --- recommendations ----------------------------------------------------------------------------------------------


@claim(
    r"\| <D> \| [^|]+ \| [^|]+ \| Concurrency #: (?:p# latency(?: of its part <D>)? <T>|mean latency <T> "
    r"\(p# is not in the file\)) and # requests/min for a mean of # prompt and # output tokens, \$# <U>"
)
def recommended_load(k: Known, f: Found) -> None:
    _, option, instance_type, *_ = f.words.split(" | ")
    assert k.option(option)["instance_type"] == instance_type
    here = k.points[
        (k.points["option"] == option) & (k.points["dataset"] == f.datasets[0]) & (k.points["slo"] == "met")
    ]
    point = here.loc[here[k.verdict["cost_basis"]].idxmin()]
    assert all(part == point["part_latency_s"] for part in f.datasets[1:])
    f.number(point["level"], k.slo["percentile"])
    f.time(point["latency_s_mean_ok" if "mean latency" in f.words else f"latency_s_p{k.slo['percentile']:g}"])
    f.number(point["requests_per_s"] * 60, point["prompt_tokens_mean"], point["output_tokens_mean"])
    f.number(point[k.verdict["cost_basis"]] * k.scale(f.unit()))


@claim(
    r"No load is shown to meet the SLO; at <L>, latency not shown to be within the limit \(p# latency unknown, at most # s\): "
    r"# more requests? like these would show it"
)
def unknown_everywhere(k: Known, f: Found) -> None:
    dataset, option = f.line.split(" | ")[0].strip("| "), f.line.split(" | ")[1]
    here = k.of_server(option, dataset)
    lowest = here.loc[here["level"].idxmin()]
    f.load(lowest["load"])
    f.number(k.slo["percentile"], k.slo["latency_s"], lowest["lacking_latency_s"])


@claim(r"the nearest is <L>: p# latency(?: of its part <D>)? <T>, (?:at most # s|but )")
def nearest_load(k: Known, f: Found) -> None:
    dataset, option = f.line.split(" | ")[0].strip("| "), f.line.split(" | ")[1]
    column = f"latency_s_p{k.slo['percentile']:g}"
    point = k.at(option, dataset, f.load())
    assert point[column] == k.of_server(option, dataset)[column].min()
    f.number(k.slo["percentile"])
    f.time(point[column])
    if f.has("n"):
        f.number(k.slo["latency_s"])


@claim(r"the nearest is <L>: latency not shown")
def nearest_open_load(k: Known, f: Found) -> None:
    dataset, option = f.line.split(" | ")[0].strip("| "), f.line.split(" | ")[1]
    here = k.of_server(option, dataset)
    f.load(here.loc[here[f"latency_s_p{k.slo['percentile']:g}"].idxmin(), "load"])


@claim(
    r"not shown to be within the limit \(p# latency(?: of its part <D>)? <T>, at most # s\): "
    r"# more requests? like these would show it"
)
def lacking(k: Known, f: Found) -> None:
    """In the recommendations, of the load with the lowest latency; in a reason, of the load that is named just before."""
    column, here = f"latency_s_p{k.slo['percentile']:g}", k.points
    if f.line.startswith("|"):
        dataset, option = f.line.split(" | ")[0].strip("| "), f.line.split(" | ")[1]
        here = k.of_server(option, dataset)
        point = here.loc[here[column].idxmin()]
    else:
        loads = re.findall(PHRASES["<L>"][1], f.before)
        here = here[(here["load"] == loads[-1]) & here["lacking_latency_s"].notna()]
        said = float(re.search(NUMBER, f.words.partition("limit (p")[2].partition(" ")[2])[0])
        point = here.loc[(here[column] - said / (1e3 if " ms," in f.words else 1)).abs().idxmin()]
    f.number(k.slo["percentile"])
    f.time(point[column])
    f.number(k.slo["latency_s"], point["lacking_latency_s"])


# --- conversations ------------------------------------------------------------------------------------------------

WITH_TOKENS = r"<T> at turn #(?: and later)? \(# prompt tokens on average\)"
ENDS = {"completed": ("completed",), "failed": ("failed",), "context": ("too_long",), "cut off": ("unfinished",)}


@claim(rf"Of “o” on <D>, at <L>, the median TTFT is {WITH_TOKENS} and {WITH_TOKENS}: <R>")
def median_by_turn(k: Known, f: Found) -> None:
    mine = k.of_turns[(k.of_turns["option"] == f.names[0]) & (k.of_turns["dataset"] == f.datasets[0])]
    f.load(*mine["load"].unique())
    medians = []
    for turn in re.findall(r"turn (\d+)", f.words):
        here = mine[mine["turn"] == int(turn)]
        medians.append(float(here["ttft_s"].median()))
        f.time(medians[-1])
        f.number(int(turn), float(here["prompt_tokens"].mean()))
    f.ratio(medians[1] / medians[0])


@claim(r"(?:(?:Of|All) [\d,]+|Both) sessions [^.]*\.")
def sessions_counted(k: Known, f: Found) -> None:
    count_each(f.words, ENDS, k.sessions)


@claim(r"Users sent a turn within # ms \(p99\) of the end of its think time")
def lateness_of_users(k: Known, f: Found) -> None:
    f.number(max(fact.turnaround_ms["p99"] for fact in k.facts))


# --- the load generator on itself ---------------------------------------------------------------------------------


@claim(
    r"kept up at # of # load points: it served its timers at most # ms late \(p99\), and none of its processes used more than #%"
)
def kept_up(k: Known, f: Found) -> None:
    f.number(len(k.facts), len(k.facts), max(fact.loop_lag_ms["p99"] for fact in k.facts))
    f.number(100 * max(process.cpu_share for fact in k.facts for process in fact.processes))


@claim(r"# of # load points held the concurrency that was asked for: on average #%(?: to #%)? of it was in flight")
def held(k: Known, f: Found) -> None:
    shares = 100 * k.points["achieved_concurrency"] / k.points["level"]
    f.number(len(k.facts), len(k.facts), shares.min())
    if f.has("n"):
        f.number(shares.max())


@claim(r"The load generator limited # of # load points, which the verdict leaves out:")
def limited(k: Known, f: Found) -> None:
    f.number(sum(bool(fact.client_limited) for fact in k.facts), len(k.facts))


@claim(r"; and # more(?=[.)])")
def further(k: Known, f: Found) -> None:
    """Of the number that stands before the list, those that the list does not name."""
    listed = re.sub(r"\([^()]*\)", "", f.before)
    f.number(int(re.findall(r"(\d+) of \d+ load points", listed)[-1]) - listed.rpartition(":")[2].count(";") - 1)


@claim(r"\. It served its timers at most # ms late \(p99\), and none of its processes used more than #%")
def late_and_busy(k: Known, f: Found) -> None:
    f.number(max(fact.loop_lag_ms["p99"] for fact in k.facts))
    f.number(100 * max(process.cpu_share for fact in k.facts for process in fact.processes))


@claim(r"# of # load points did not hold the concurrency that was asked for:")
def not_held(k: Known, f: Found) -> None:
    shares = k.points["achieved_concurrency"] / k.points["level"]
    f.number(int((shares < 0.98).sum() + (shares > 1 / 0.98).sum()), len(k.facts))


@claim(r", <D>, <L> \(#% of it\)")
def share_in_flight(k: Known, f: Found) -> None:
    point = k.at(option_before(k, f), f.datasets[0], f.load())
    f.number(100 * point["achieved_concurrency"] / point["level"])


@claim(r"A worker sent again within # ms \(p99\)")
def turnaround(k: Known, f: Found) -> None:
    f.number(max(fact.turnaround_ms["p99"] for fact in k.facts))


@claim(r"# TCP connects? took at most # ms each")
def connects(k: Known, f: Found) -> None:
    f.number(sum(fact.connect_ms["n"] for fact in k.facts), max(fact.connect_ms["max"] for fact in k.facts))


@claim(r"# of # load points reached a steady state")
def steady(k: Known, f: Found) -> None:
    f.number(sum(bool(fact.steady) for fact in k.facts), len(k.facts))


@claim(r"# of # load points did not, and cannot show that the SLO is met")
def unsteady(k: Known, f: Found) -> None:
    f.number(sum(fact.steady is False for fact in k.facts), len(k.facts))


@claim(r"# of # load points received more requests than were served")
def overloaded(k: Known, f: Found) -> None:
    f.number(sum(fact.ended_because.startswith("overload") for fact in k.facts), len(k.facts))


@claim(r", <D>, <L>")
def named_load_point(k: Known, f: Found) -> None:
    option, load = option_before(k, f), f.load()
    fact = next(t for t in k.facts if (t.option, t.dataset, t.load.label) == (option, f.datasets[0], load))
    wrong = {
        "limited": bool(fact.client_limited),
        "did not, and": fact.steady is False,
        "did not hold": is_off(k, f, load),
        "received more": fact.ended_because.startswith("overload"),
    }
    assert wrong[next(words for words in wrong if words in f.line)], f.words
    assert f.line.count(f"{option}{f.words}") == 1, f.words


def option_before(k: Known, f: Found) -> str:
    """The option whose name stands before what was found, without quotes."""
    return max((o["option"] for o in k.verdict["options"] if f.before.endswith(o["option"])), key=len)


def is_off(k: Known, f: Found, load: str) -> bool:
    point = k.at(option_before(k, f), f.datasets[0], load)
    return not 0.98 <= point["achieved_concurrency"] / point["level"] <= 1 / 0.98


@claim(
    r"By its calibration at concurrency [\d and]+, the load generator adds at most # ms to a TTFT and # ms to a latency "
    r"on average \(p99: # and # ms\)"
)
def calibrated(k: Known, f: Found) -> None:
    levels = k.calibration["levels"]
    tried = re.findall(r"\d+", f.words.partition(",")[0])
    assert [float(level) for level in tried] == [level["concurrency"] for level in levels]
    for part in ("mean", "p99"):
        f.number(*(max(level[f"{of}_overhead_ms"][part] for level in levels) for of in ("ttft", "latency")))


# --- a mix --------------------------------------------------------------------------------------------------------


@claim(
    r"Of “o” at <L>, the p# latency of <D> is <T> alone and <T> beside [^:]+: # times as long"
    r"(?:, which may be chance)? \(95% interval # to #\)"
)
def beside_the_others(k: Known, f: Found) -> None:
    of_it = k.of_parts[(k.of_parts["option"] == f.names[0]) & (k.of_parts["part"] == f.datasets[0])]
    of_it = of_it[of_it["load"] == f.load(max(of_it["load"]))]
    name = f"latency_s_p{k.slo['percentile']:g}"
    alone, mixed = (of_it[of_it["is_alone"] == which].iloc[0] for which in (True, False))
    f.time(alone[name], mixed[name])
    ratio = mixed[name] / alone[name]
    low, high = (
        math.log(ratio)
        + sign * math.hypot(math.log(mixed[name] / mixed[name + one]), math.log(alone[name] / alone[name + other]))
        for sign, one, other in ((-1, "_low", "_high"), (1, "_high", "_low"))
    )
    f.number(k.slo["percentile"], ratio, math.exp(low), math.exp(high))
    assert ("chance" in f.words) == (low <= 0 <= high)


@claim(r"Of “o” on <D>, at <L>, the p# latency is(?= .* in )")
def bins_at(k: Known, f: Found) -> None:
    mine = k.of_parts[(k.of_parts["option"] == f.names[0]) & (k.of_parts["dataset"] == f.datasets[0])]
    f.load(mine.loc[mine["level"].idxmax(), "load"])
    f.number(k.slo["percentile"])


@claim(r"(?:<T>|unknown|infinite) in [^()]+ \(n = #\)")
def bin_reached(k: Known, f: Found) -> None:
    of_it = k.of_parts[k.of_parts["part"] == re.search(r" in ([^()]+) \(n", f.words)[1]]
    row = of_it.loc[of_it["level"].idxmax()]
    reached = row[f"latency_s_p{k.slo['percentile']:g}"]
    assert (pd.isna(reached), reached == math.inf) == ("unknown" in f.words, "infinite" in f.words)
    if f.has("t"):
        f.time(reached)
    f.number(row["n"])


# --- what limits an option ------------------------------------------------------------------------------------------


def _limited(k: Known, f: Found) -> pd.Series:
    """The load point of the sentence that a clause is in."""
    *_, (name, dataset, load) = re.findall(r"“([^”]+)” on (.+?) at (.+?) is ", f.before + f.words)
    return k.at(name, dataset, load)


@claim(r"“o” on <D> at <L> is (?:client|memory|queue|compute)-bound|What limits “o” on <D> at <L> is unknown")
def highest_load(k: Known, f: Found) -> None:
    mine = k.points[k.points["option"] == f.names[0]]
    f.load(mine.loc[mine["level"].idxmax(), "load"])


@claim(r"KV cache(?: was|, which was)? #% full(?: on average)?(?: # times?)?")
def of_the_cache(k: Known, f: Found) -> None:
    row = _limited(k, f)
    f.number(100 * row["server_kv_cache"])
    if f.has("n"):
        f.number(row["server_preemptions"])


@claim(r"(?:GPUs were|CPU was) busy #% of the time")
def of_processors(k: Known, f: Found) -> None:
    f.number(100 * _limited(k, f)["server_gpu" if "GPU" in f.words else "server_cpu"])


@claim(r"# requests waited on average(?: while # ran, and never more than # requests? ran at once)?")
def of_the_queue(k: Known, f: Found) -> None:
    row = _limited(k, f)
    f.number(row["server_waiting"])
    if f.has("n"):
        f.number(row["server_running"], k.points.loc[k.points["option"] == row["option"], "server_running_max"].max())


@claim(r"with # requests running and # waiting on average")
def of_both(k: Known, f: Found) -> None:
    f.number(*_limited(k, f)[["server_running", "server_waiting"]])


@claim(r"# requests ran at once, against # at <L>, and together they served # output tokens/s, against #")
def of_growth(k: Known, f: Found) -> None:
    row = _limited(k, f)
    last = k.at(row["option"], row["dataset"], f.load())
    f.number(*(each["server_running"] for each in (row, last)), *(each["output_tokens_per_s"] for each in (row, last)))


@claim(r"Of # options (?:\d+ (?:is|are|has|have) (?:\w+-bound|no known limit)(?:, | and )?)+ at the highest load")
@claim(r"All # options (?:are|have) (?:\w+-bound|no known limit) at the highest load")
def limits_counted(k: Known, f: Found) -> None:
    counts = [int(count) for count in re.findall(r"(\d+) (?:is|are|has|have) ", f.words)]
    total = has_server_side(k.points)["option"].nunique()
    f.number(total)
    assert not counts or sum(counts) == total


# --- the judge ----------------------------------------------------------------------------------------------------


@claim(r"The judge “o” gave # judgements?(?: for \$#)?")
def cost_of_the_judge(k: Known, f: Found) -> None:
    f.number(len(k.judgements))
    if f.has("n"):
        f.number(k.judgements["usd"].sum(skipna=False))


@claim(r"its server counted no tokens of # of them")
def uncounted_judgements(k: Known, f: Found) -> None:
    f.number(k.judgements["output_tokens"].isna().sum())


# --- thinking -----------------------------------------------------------------------------------------------------


@claim(r"“o” spent #%(?: to #%)? of its output tokens on thinking")
def thinking(k: Known, f: Found) -> None:
    shares = 100 * k.points.loc[(k.points["option"] == f.names[0]) & (k.points["reasoned"] > 0), "thinking_share"]
    f.number(shares.min())
    if f.has("n"):
        f.number(shares.max())


@claim(r"# of its # answers? ended before the thinking did")
def never_answered(k: Known, f: Found) -> None:
    mine = k.points[(k.points["option"] == re.findall("“([^”]+)”", f.before)[-1]) & (k.points["reasoned"] > 0)]
    f.number(mine["never_answered"].sum(), (mine["n"] - mine["failures"]).sum())


# --- what the settings of a matrix bought -------------------------------------------------------------------------


@claim(
    r"change the price, (?P<setting>\S+) does most: (?P<value>.+?) instead of (?P<against>.+?) changes it by [+-]#% "
)
def effect_of_a_setting(k: Known, f: Found) -> None:
    f.number(abs(100 * (math.exp(_log_ratio(k, f.line)) - 1)))


@claim(r"changes it by \S+ \((?:95% interval|interval at every look) [+-]#% to [+-]#%\)")
def interval_of_an_effect(k: Known, f: Found) -> None:
    """The distances to the ends add as squares (Zou and Donner 2008)."""
    ratio, (below, above) = _log_ratio(k, f.line), _ends_of_log_ratio(k, f.line)
    f.number(abs(100 * math.expm1(ratio - below)), abs(100 * math.expm1(ratio + above)))


@claim(r"Single pairs go both ways, from [+-]#% to [+-]#%")
def range_of_an_effect(k: Known, f: Found) -> None:
    changes = [100 * (other["value"] / one["value"] - 1) for one, other in _pairs_of_options(k, f.line)]
    f.number(abs(min(changes)), abs(max(changes)))


def _pairs_of_options(known: Known, line: str) -> list[tuple[dict, dict]]:
    """(cost, cost) of the options that differ only in the setting of the sentence."""
    label, value, against = re.search(
        r"change the price, (\S+) does most: (.+?) instead of (.+?) changes", line
    ).groups()
    settings = {o["name"]: o["from_matrix"]["settings"] for o in known.config["options"] if o.get("from_matrix")}
    costs = {name: known.option(name)["cost"] for name in settings}
    key = next(key for key in next(iter(settings.values())) if key.endswith(label))
    return [
        (costs[one], costs[other])
        for one, other in itertools.permutations(settings, 2)
        if settings[one] == settings[other] | {key: against}
        and settings[other][key] == value
        and costs[one]
        and costs[other]
    ]


def _log_ratio(known: Known, line: str) -> float:
    return float(np.mean([math.log(other["value"] / one["value"]) for one, other in _pairs_of_options(known, line)]))


def _ends_of_log_ratio(known: Known, line: str) -> tuple[float, float]:
    pairs = _pairs_of_options(known, line)
    far = {
        (side, end): sum(math.log(pair[side][end] / pair[side]["value"]) ** 2 for pair in pairs)
        for side, end in itertools.product((0, 1), ("low", "high"))
    }
    below, above = far[1, "low"] + far[0, "high"], far[1, "high"] + far[0, "low"]
    return math.sqrt(below) / len(pairs), math.sqrt(above) / len(pairs)


# --- on how many endpoints ----------------------------------------------------------------------------------------


@claim(r"GPUs of five computing centres differed by #% on average, and by up to #% \(Sinha et al., SC #\)")
def published_differences(k: Known, f: Found) -> None:
    """arXiv:2208.11035, abstract."""
    f.number(8, 22)
    assert f._next("n") == "2022"


@claim(r"on at least # endpoints? each")
def endpoints_of_each_option(k: Known, f: Found) -> None:
    f.number(min(point["endpoints"] for option in k.verdict["options"] for point in option["points"]))


# --- how right the answers are --------------------------------------------------------------------------------------


@claim(r"Its answers score # \(95% interval \[#, #\], numeric, # prompts\)\.")
def score_of_the_recommended(k: Known, f: Found) -> None:
    """Wilson's interval of a share."""
    right = list(k.right[k.verdict["recommended"]].values())
    n, share, z = len(right), sum(right) / len(right), 1.959964
    middle, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    f.number(share, *((middle + side * half) / (1 + z * z / n) for side in (-1, 1)), n)


@claim(r"“o” \(\$# <U>\): over # prompts its answers score −# against “o”, which is shown to be more than # lower")
def refused_by_the_gate(k: Known, f: Found) -> None:
    mine, other = (k.right[name] for name in f.names)
    both = mine.keys() & other.keys()
    f.number(cost(k.option(f.names[0])) * k.scale(f.unit()), len(both))
    f.number(sum(other[prompt] - mine[prompt] for prompt in both) / len(both), k.scored["by"])


@claim(r"was asked the same prompts, # at most, with temperature # and no smallest length: .* or after # tokens")
def how_answers_were_collected(k: Known, f: Found) -> None:
    f.number(k.scored["samples"], 0, k.scored["max_output_tokens"])
