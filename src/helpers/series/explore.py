"""The panel of notebook 04: move the SLO, the traffic or the price, and see the verdict change. Times in seconds.

The panel reacts to every change at once. While a control is dragged, the page sends its next value only after the kernel has
processed the previous one, so values are skipped rather than queued, and the last one is always drawn.

Only the user changes a control: no control sets another's value or range, because page and kernel would then both set it and
might disagree. So each latency has its own limit slider, and one of them is visible.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, get_args

from markupsafe import Markup

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig
from helpers.report.bottom_line_text import bottom_line
from helpers.report.charts.price import draw
from helpers.report.charts.style import LATENCY_WORDS, LETTERS
from helpers.report.conclusions import price_title
from helpers.report.display import Html, Markdown
from helpers.report.feasible_report import feasible_set
from helpers.report.figures import read_figures
from helpers.report.load_report import LATENCY_NAME
from helpers.report.price_unit import PRICES, price_unit
from helpers.report.readings import price_reading
from helpers.run.folder import RunFolder
from helpers.verdict.analysis import Measurements
from helpers.verdict.capacity import HIGHEST_TRAFFIC, LOWEST_TRAFFIC
from helpers.verdict.judging import judge
from helpers.verdict.verdict import CostBasis
from helpers.verdict.what_if import MONTH, Outcome, Settings, WhatIf, settings_of

if TYPE_CHECKING:
    from ipywidgets import VBox, Widget

PERCENTILES = range(50, 100)
WIDEST_ERROR_PERCENT = 20.0
MOST_HEADROOM_PERCENT = 90.0
LOG_STEP = 0.01
"""Step of a logarithmic slider, in powers of ten: 2.3%."""
DIGITS = 3
"""Significant digits of a limit or a traffic that a slider gives."""
ALL = ""
"""All datasets in the traffic's mix; the price that the run used."""
UNITS = {
    **{column: f"per {PRICES[column][1].removesuffix('s')}" for column in get_args(CostBasis)},
    MONTH: "a month at this traffic",
}
LOOK = (
    f"""<style>
{" ".join(f".what-if .panels {what} {{{rule}}}" for what, rule in LETTERS.items())}
"""
    + """
.what-if {line-height: 1.45; font-size: 13px; color: var(--jp-content-font-color1, inherit)} .what-if p {margin: .3em 0}
.what-if .answer {font-size: 15px}
.what-if .answer p, .what-if figure {margin: 0}
.what-if .legend {display: flex; flex-wrap: wrap; gap: .2em 1.2em}
.what-if .legend svg {width: 14px; height: 14px; margin-right: .35em; vertical-align: -2px}
.what-if .panels {display: flex; flex-wrap: wrap; gap: 8px} .what-if .panels svg {flex: 1 1 320px; min-width: 0; max-width: 520px}
.what-if figcaption, .what-if caption {font-size: 12px; opacity: .8; text-align: left; max-width: 75em}
.what-if .table {overflow-x: auto} .what-if-still {display: none}
.what-if table {border-collapse: collapse; font-size: 12.5px; margin: .6em 0}
.what-if td, .what-if th {padding: .25em .5em; border-bottom: 1px solid #8886; vertical-align: top}
</style>"""
)


def panel(config: BenchmarkConfig, run: RunFolder, measured: Measurements, shown: bool = True) -> VBox | Html:
    """The panel as a widget, with a still picture that is shown where the notebook is opened without a kernel.

    In a batch run, where no control can be moved, only the picture; nothing if nothing was measured.
    """
    if measured.points.empty:
        return Html(Markup(""))
    still = _still(config, run, measured)
    if not shown:
        return still
    from IPython.display import display

    display(still)
    return Panel(config, run, measured).widget


def _still(config: BenchmarkConfig, run: RunFolder, measured: Measurements) -> Html:
    """What the panel shows at the config's settings. LOOK hides it while the panel is displayed."""
    verdict = judge(measured.points, measured.endpoints, measured.warnings, config, run.run_id, measured.quality)
    outcome, given = Outcome(config, measured.points, measured.endpoints, verdict), settings_of(config)
    chart = read_figures(run).get("price_performance")
    hint = Markdown("This is a still picture of the panel. Next: run this notebook in Jupyter to move its controls.")
    return Html(
        Markup('<div class="what-if-still">{}{}{}{}{}</div>').format(
            Markup(_answer(outcome, given, given).as_html()),
            Markup(chart._repr_html_() if chart else ""),
            _reading(outcome),
            Markup(feasible_set(outcome, given.metric, verdict.cost_basis)._repr_html_()),
            Markup(hint.as_html()),
        )
    )


class Panel:
    """Controls and their result: `widget` contains everything, `outcome` is the verdict that is shown."""

    outcome: Outcome

    def __init__(self, config: BenchmarkConfig, run: RunFolder, measured: Measurements) -> None:
        import ipywidgets as widgets

        self._what_if = WhatIf(config, run, measured)
        self._given = settings_of(config)
        self.controls = _controls(self._what_if, self._given)
        self.limits = {metric: _limit_slider(metric, self._what_if) for metric in self._what_if.measured_latencies}
        self.reset = widgets.Button(description="Back to the config's settings", layout={"width": "auto"})
        self.answer, self.chart, self.table = (widgets.HTML() for _ in range(3))
        self._drawing = False
        self._set_to_config()
        for control in (*self.controls.values(), *self.limits.values()):
            control.observe(self._moved, names="value")
        self.reset.on_click(lambda _: self._set_to_config())
        rows = list(self.controls.values())
        place = 1 + list(self.controls).index("percentile")
        rows[place:place] = self.limits.values()
        left = widgets.VBox([*rows, self.reset], layout={"flex": "0 1 390px", "min_width": "0"})
        self.answer.layout.flex, self.answer.layout.min_width = "1 1 320px", "0"
        top = widgets.HBox([left, self.answer], layout={"flex_flow": "row wrap", "grid_gap": "8px 20px"})
        self.widget = widgets.VBox([top, self.chart, self.table])

    @property
    def settings(self) -> Settings:
        """The controls' settings; a control that was not moved has exactly the config's value."""
        given, at = self._given, {name: control.value for name, control in self.controls.items()}
        return Settings(
            dataset=at["dataset"] or None,
            metric=at["metric"],
            percentile=at["percentile"],
            limit_s=_said(self.limits[at["metric"]].value, self._what_if.config.slo.limits_s().get(at["metric"])),
            keeps_other_limits=at["keeps_other_limits"],
            error_rate=_said(at["error_percent"], given.error_rate, 100),
            requests_per_minute=_said(at["requests_per_minute"], given.requests_per_minute),
            headroom=_said(at["headroom_percent"], given.headroom, 100),
            price=at["price"] or None,
        )

    def _moved(self, _change: object) -> None:
        if not self._drawing:
            self._draw()

    def _set_to_config(self) -> None:
        given = self._given
        values = {
            "dataset": ALL,
            "metric": given.metric,
            "percentile": given.percentile,
            "keeps_other_limits": True,
            "error_percent": given.error_rate * 100,
            "requests_per_minute": given.requests_per_minute,
            "headroom_percent": given.headroom * 100,
            "unit": self._what_if.at(given).verdict.cost_basis,
            "price": ALL,
        }
        self._drawing = True
        try:
            for name, value in values.items():
                self.controls[name].value = value
            for metric, slider in self.limits.items():
                slider.value = _first_limit(metric, self._what_if)
        finally:
            self._drawing = False
        self._draw()

    def _draw(self) -> None:
        settings, unit = self.settings, self.controls["unit"].value
        self._show_limits_of(settings.metric)
        drawn = ("", "", "")  # if drawing fails, no sentence about earlier settings remains
        try:
            self.outcome = self._what_if.at(settings)
            table = feasible_set(self.outcome, settings.metric, unit)._repr_html_()
            chart = draw(self.outcome, settings.metric, price_unit(self.outcome.verdict, self.outcome.points, unit))
            answer = f'<div class="answer" role="status">{_answer(self.outcome, settings, self._given).as_html()}</div>'
            title = Markup("<p><strong>{}</strong></p>").format(price_title(self.outcome.verdict, self.outcome.config))
            drawn = (_page(table), _page(f"{title}{chart}{_reading(self.outcome)}"), _page(answer))
        finally:
            self.table.value, self.chart.value, self.answer.value = drawn

    def _show_limits_of(self, metric: str) -> None:
        self.limits[metric].layout.display = None
        for name, slider in self.limits.items():
            if name != metric:
                slider.layout.display = "none"
        others = {name: limit for name, limit in self._what_if.config.slo.limits_s().items() if name != metric}
        control = self.controls["keeps_other_limits"]
        control.description = "also " + " and ".join(
            f"{LATENCY_NAME[c]} within {limit:g} s" for c, limit in others.items()
        )
        control.layout.display = None if others else "none"


# --- controls -----------------------------------------------------------------------------------------------------


def _controls(what_if: WhatIf, given: Settings) -> dict[str, Widget]:
    """The controls in display order, not yet set to values."""
    import ipywidgets as widgets

    config = what_if.config
    names = [dataset.name for dataset in config.judged_datasets]
    datasets = [("all, in the traffic's mix", ALL), *((n, n) for n in names)] if len(names) > 1 else [(names[0], ALL)]
    percents = sorted({*map(float, PERCENTILES), given.percentile})
    traffic = (min(LOWEST_TRAFFIC, given.requests_per_minute), max(HIGHEST_TRAFFIC, given.requests_per_minute * 10))
    prices = [("as measured", ALL), *((name, name) for name in what_if.price_names)]
    look = _look()
    controls = {
        "dataset": widgets.Dropdown(description="Dataset", options=datasets, **look),
        "metric": widgets.Dropdown(
            description="Latency", options=[(LATENCY_WORDS[c], c) for c in what_if.measured_latencies], **look
        ),
        "percentile": widgets.SelectionSlider(
            description="Percentile", options=[(f"p{percent:g}", percent) for percent in percents], **look
        ),
        "keeps_other_limits": widgets.Checkbox(value=True, style=look["style"], layout={"width": "auto"}),
        "error_percent": widgets.FloatSlider(
            description="Error limit, %",
            max=max(WIDEST_ERROR_PERCENT, given.error_rate * 100),
            step=_step(given.error_rate * 100, 0.5),
            readout_format=".1f",
            **look,
        ),
        "requests_per_minute": widgets.FloatLogSlider(
            description="Requests/min", step=LOG_STEP, readout_format=",.0f", **look
        ),
        "headroom_percent": widgets.FloatSlider(
            description="Headroom, %",
            max=max(MOST_HEADROOM_PERCENT, given.headroom * 100),
            step=_step(given.headroom * 100, 1),
            readout_format=".0f",
            **look,
        ),
        "unit": widgets.Dropdown(description="Price", options=[(words, unit) for unit, words in UNITS.items()], **look),
        "price": widgets.Dropdown(description="Instance price", options=prices, **look),
    }
    _set_range(controls["requests_per_minute"], *traffic, given.requests_per_minute)
    controls["price"].layout.display = None if len(prices) > 1 else "none"
    return controls


def _look() -> dict[str, dict[str, str]]:
    """Label style and width of a control; a new object for each, because a widget keeps it."""
    return {"style": {"description_width": "7.5em"}, "layout": {"width": "auto"}}


def _limit_slider(metric: str, what_if: WhatIf) -> Widget:
    """The slider for a latency's limit, which covers the measured range."""
    import ipywidgets as widgets

    first, measured = _first_limit(metric, what_if), what_if.latency_range_s(metric)
    low, high = (measured[0] / 2, measured[1] * 2) if measured else (first / 10, first * 10)
    if metric in what_if.config.slo.limits_s():
        low, high = min(low, first / 2), max(high, first * 2)
    slider = widgets.FloatLogSlider(description="Limit, s", step=LOG_STEP, readout_format=f".{DIGITS}r", **_look())
    _set_range(slider, low, high, first)
    return slider


def _first_limit(metric: str, what_if: WhatIf) -> float:
    """The config's limit for a latency in seconds, else one that excludes nothing."""
    limit, measured = what_if.config.slo.limits_s().get(metric), what_if.latency_range_s(metric)
    return limit if limit is not None else measured[1] * 2 if measured else 1.0


def _set_range(control: Widget, low: float, high: float, value: float) -> None:
    """Set a logarithmic slider's range to `low` to `high`, and a little beyond so that `value` is one of its steps: a page
    moves a slider to the nearest step as soon as it shows it.
    """
    at = math.log10(value)
    below, above = (math.ceil(round(span / LOG_STEP, 6)) for span in (at - math.log10(low), math.log10(high) - at))
    with control.hold_trait_notifications():
        control.min, control.max, control.value = at - below * LOG_STEP, at + above * LOG_STEP, value


def _step(value: float, widest: float) -> float:
    """The largest of the default step and its tenth, hundredth and thousandth that divides `value`."""
    steps = [widest / 10**i for i in range(4)]
    return next((step for step in steps if math.isclose(value, round(value / step) * step)), steps[-1])


def _said(value: float, given: float | None, scale: float = 1) -> float:
    """A slider's value: the config's if the slider is there, else its own with the few digits that it shows.

    `scale` is how many units of the slider make one of the config's. A page rounds, so a thousandth makes no difference.
    """
    if given is not None and math.isclose(value, given * scale, rel_tol=1e-3):
        return given
    return float(f"{value / scale:.{DIGITS}g}")


# --- what is shown ------------------------------------------------------------------------------------------------


def _page(content: str) -> str:
    return f'{LOOK}<div class="what-if">{content}</div>'


def _answer(outcome: Outcome, settings: Settings, given: Settings) -> Markdown:
    """The bottom line, what came nearest, and what differs from the config."""
    verdict = outcome.verdict
    said = bottom_line(verdict, outcome.config).markdown.split("\n\n")[0]
    if verdict.nearest and "came nearest" not in said:
        said += f" “{verdict.nearest}” came nearest: {verdict.nearest_reason}."
    return Markdown("{}\n\n{}").format(said, _changes(settings, given))


def _reading(outcome: Outcome) -> Markup:
    """What to see in the chart, as in the report."""
    reading = price_reading(outcome.points, outcome.verdict, outcome.config)
    return Markup(reading.markdown.as_html() if reading else "")


def _changes(settings: Settings, given: Settings) -> str:
    is_limit_moved = (settings.metric, settings.limit_s) != (given.metric, given.limit_s)
    changes = {
        f"only {settings.dataset}": settings.dataset is not None,
        f"p{settings.percentile:g}": settings.percentile != given.percentile,
        f"{LATENCY_NAME[settings.metric]} within {settings.limit_s:g} s": is_limit_moved,
        "no other limits": not settings.keeps_other_limits,
        f"at most {text.percent(settings.error_rate, 1)} errors": settings.error_rate != given.error_rate,
        f"{text.number(settings.requests_per_minute)} requests a minute": (
            settings.requests_per_minute != given.requests_per_minute
        ),
        f"{text.percent(settings.headroom)} headroom": settings.headroom != given.headroom,
        f"price of {settings.price}": settings.price is not None,
    }
    changed = [words for words, is_changed in changes.items() if is_changed]
    if not changed:
        return "These are the config's settings: the verdict is the report's."
    return f"Changed from the config: {', '.join(changed)}."
