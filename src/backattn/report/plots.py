"""Draw line charts with bands over seeds as SVG; the style sheet of the page has the colours.

No plotting library is used: a page needs one kind of chart, as text that follows the page's light and dark
colours, and a report imports neither matplotlib nor a script.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from backattn.report.markup import element

# Colours of the lines of a plot, as templates/style.css.j2 has them.
SERIES_COLOURS = 6
# In units of the drawing; narrow, so that its text stays readable when a phone shrinks it.
WIDTH, HEIGHT = 440, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 12, 42
_DASHES = ("", "", "7 4", "2 4", "9 3 2 3", "4 2")
_Y_TICKS, _X_TICKS = 5, 6
_MOST_BANDS = 4  # lines of a plot whose bands can be distinguished; more lines have bars
_MOST_DOTS = 12  # points of a line that are marked: on a long curve dots and bars would hide it
_GAP = 30  # units between two labels below the axis
_NOTHING = Markup()


@dataclass(frozen=True)
class Point:
    """A mean and its band."""

    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True)
class Series:
    """One line.

    :param style: number of its colour and dashes; the same model has the same style in every plot.
    """

    name: str
    style: int
    points: tuple[Point, ...]


def line_chart(
    series: Sequence[Series], *, title: str, x_label: str, y_label: str, x_ticks: Sequence[float] = ()
) -> Markup:
    """Draw several lines.

    :param x_ticks: labels of a logarithmic axis (sizes of training samples); without them the axis is
        linear with round numbers.
    """
    axes = _Axes.of(series, tuple(x_ticks))
    draw = _band if spread_mark(series) == "band" else _bars
    parts = [
        element("title", title),
        *_grid(axes, x_label, y_label),
        *(draw(axes, line) for line in series),
        *(_line(axes, line) for line in series),
    ]
    attributes = {"viewBox": f"0 0 {WIDTH} {HEIGHT}", "class": "plot", "role": "img", "aria-label": title}
    return element("svg", _NOTHING.join(parts), attributes)


def spread_mark(series: Sequence[Series]) -> Literal["band", "bars", ""]:
    """Choose how a plot shows the spread of its lines: bands, bars at each point, or not at all."""
    if len(series) <= _MOST_BANDS:
        return "band"
    return "bars" if all(len(line.points) <= _MOST_DOTS for line in series) else ""


def legend_line(style: int) -> Markup:
    """Draw a short line of a style, for the legend."""
    dot = element("circle", "", {"cx": 13, "cy": 6, "r": 3, "class": f"d{style % SERIES_COLOURS}"})
    return element("svg", _path("M0 6H26", style) + dot, {"width": 26, "height": 12, "aria-hidden": "true"})


@dataclass(frozen=True)
class _Axes:
    x_low: float
    x_high: float
    y_low: float
    y_high: float
    x_ticks: tuple[float, ...]
    y_ticks: tuple[float, ...]
    logarithmic: bool

    @classmethod
    def of(cls, series: Sequence[Series], x_ticks: tuple[float, ...]) -> "_Axes":
        points = [point for line in series for point in line.points]
        y_ticks = round_ticks(min(p.low for p in points), max(p.high for p in points), _Y_TICKS)
        xs = [point.x for point in points]
        if x_ticks:
            margin = 1.12  # room beside the outermost points, on a logarithmic axis
            return cls(min(xs) / margin, max(xs) * margin, y_ticks[0], y_ticks[-1], x_ticks, y_ticks, True)
        if all(x == int(x) for x in xs):  # epochs: no ticks between them
            low, high = min(xs), max(max(xs), min(xs) + 1)
            ticks = [tick for tick in round_ticks(low, high, _X_TICKS) if tick == int(tick)]
        else:
            margin = 0.05 * (max(xs) - min(xs)) or 0.5
            low, high = min(xs) - margin, max(xs) + margin
            ticks = list(round_ticks(low, high, _X_TICKS))
        inside = tuple(tick for tick in ticks if low <= tick <= high)
        return cls(low, high, y_ticks[0], y_ticks[-1], inside, y_ticks, False)

    def x(self, value: float) -> float:
        scale = math.log if self.logarithmic else float
        share = (scale(value) - scale(self.x_low)) / (scale(self.x_high) - scale(self.x_low))
        return round(_LEFT + share * (WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return round(HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM), 1)


def round_ticks(low: float, high: float, wanted: int) -> tuple[float, ...]:
    """Choose about ``wanted`` round numbers, the first not above ``low``, the last not below ``high``."""
    span = max(high - low, 1e-3 * max(abs(low), abs(high), 1.0))
    raw = span / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return tuple(round(index * step, 10) for index in range(first, max(last, first + 1) + 1))


def _grid(axes: _Axes, x_label: str, y_label: str) -> list[Markup]:
    right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM
    parts = []
    for tick in axes.y_ticks:
        y = axes.y(tick)
        # The line of zero lift is dark.
        parts.append(element("path", "", {"d": f"M{_LEFT} {y}H{right}", "class": "grid" if tick else "axis"}))
        parts.append(_label(_LEFT - 7, y + 4, f"{tick:g}".replace("-", "−"), "end"))
    parts.append(element("path", "", {"d": f"M{_LEFT} {bottom}H{right}", "class": "axis"}))
    last = -math.inf
    for tick in axes.x_ticks:
        x = axes.x(tick)
        parts.append(element("path", "", {"d": f"M{x} {bottom}v5", "class": "axis"}))
        if x - last >= _GAP:
            shown = f"{tick:,.0f}" if tick == int(tick) else f"{tick:g}"
            parts.append(_label(x, bottom + 18, shown, "middle"))
            last = x
    parts.append(_label((_LEFT + right) / 2, HEIGHT - 6, x_label, "middle"))
    turned = {"transform": f"rotate(-90 11 {(_TOP + bottom) / 2})"}
    parts.append(_label(11, (_TOP + bottom) / 2 + 4, y_label, "middle", turned))
    return parts


def _band(axes: _Axes, series: Series) -> Markup:
    if len(series.points) < 2 or all(point.high <= point.low for point in series.points):
        return _NOTHING
    upper = [f"{axes.x(p.x)},{axes.y(p.high)}" for p in series.points]
    lower = [f"{axes.x(p.x)},{axes.y(p.low)}" for p in reversed(series.points)]
    place = {"points": " ".join(upper + lower), "class": f"b{series.style % SERIES_COLOURS}"}
    return element("polygon", "", place)


def _bars(axes: _Axes, series: Series) -> Markup:
    if len(series.points) > _MOST_DOTS:
        return _NOTHING
    strokes = "".join(f"M{axes.x(p.x)} {axes.y(p.low)}V{axes.y(p.high)}" for p in series.points)
    return element("path", "", {"d": strokes, "class": f"s{series.style % SERIES_COLOURS}"})


def _line(axes: _Axes, series: Series) -> Markup:
    colour = series.style % SERIES_COLOURS
    steps = "L".join(f"{axes.x(p.x)} {axes.y(p.y)}" for p in series.points)
    parts = [_path(f"M{steps}", series.style)]
    if len(series.points) <= _MOST_DOTS:
        for p in series.points:
            dot = {"cx": axes.x(p.x), "cy": axes.y(p.y), "r": 3.2, "class": f"d{colour}"}
            parts.append(element("circle", element("title", f"{series.name}: {p.y:.2f}"), dot))
    return _NOTHING.join(parts)


def _path(d: str, style: int) -> Markup:
    attributes = {
        "d": d,
        "class": f"s{style % SERIES_COLOURS}",
        "stroke-width": 2.2,
        "stroke-linejoin": "round",
    }
    # Colours repeat with other dashes.
    if dashes := _DASHES[(style + 2 * (style // SERIES_COLOURS)) % len(_DASHES)]:
        attributes["stroke-dasharray"] = dashes
    return element("path", "", attributes)


def _label(x: float, y: float, value: str, anchor: str, more: dict[str, str] | None = None) -> Markup:
    place = {"x": round(x, 1), "y": round(y, 1), "text-anchor": anchor, **(more or {})}
    return element("text", value, place)
