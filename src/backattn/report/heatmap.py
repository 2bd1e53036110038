"""A matrix as a heat map: SVG text with a label for every row and column."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backattn.report.markup import element, text
from backattn.report.terminal_text import width

_CELL, _LETTER, _PAD = 22, 7.8, 8
_TURN = -55  # degrees of the labels above the columns
_RISE, _RUN = 0.82, 0.58  # what a letter of such a label takes upwards and to the right


@dataclass(frozen=True)
class Label:
    """What stands beside a row or above a column.

    :param notes: short texts after the name (tags), each with its style.
    """

    name: str
    notes: tuple[tuple[str, str], ...] = ()

    @property
    def length(self) -> float:
        """In the drawing's units."""
        return _LETTER * (width(self.name) + sum(1 + width(note) for note, _ in self.notes))


def heat_map(
    rows: Sequence[Label], columns: Sequence[Label], values: NDArray[np.floating], title: str
) -> str:
    """Draw values in [0, 1]; the last row and the last column (the sentence's end) stand apart.

    :param values: *Shape:* (rows, columns)
    """
    left = max(label.length for label in rows) + 2 * _PAD
    top = max(label.length for label in columns) * _RISE + 2 * _PAD
    right = max(_CELL * index + label.length * _RUN for index, label in enumerate(columns)) + 3 * _PAD
    across = left + max(right, _CELL * len(columns) + 3 * _PAD)
    down = top + _CELL * len(rows) + 3 * _PAD
    xs = [left + _place(index, len(columns)) for index in range(len(columns))]
    ys = [top + _place(index, len(rows)) for index in range(len(rows))]
    parts = [element("title", text(title))]
    parts += [_text(label, left - _PAD, y + _CELL * 0.7, "end") for label, y in zip(rows, ys, strict=True)]
    parts += [_column(label, x + _CELL * 0.6, top - _PAD) for label, x in zip(columns, xs, strict=True)]
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            parts.append(_cell(xs[j], ys[i], float(values[i, j]), f"{row.name} ← {column.name}"))
    size = {"width": round(across), "height": round(down), "viewBox": f"0 0 {across:.0f} {down:.0f}"}
    return element("svg", "".join(parts), {**size, "role": "img", "aria-label": title})


def _place(index: int, count: int) -> int:
    return _CELL * index + (_PAD if index == count - 1 and count > 1 else 0)


def _cell(x: float, y: float, value: float, name: str) -> str:
    box = {"x": round(x, 1), "y": round(y, 1), "width": _CELL - 1, "height": _CELL - 1}
    shade = min(max(value, 0.0), 1.0)
    filled = (
        element("rect", "", {**box, "class": "cell", "fill-opacity": f"{shade:.3f}"})
        if shade >= 0.005
        else ""
    )
    told = element("title", text(f"{name}: {value:.3f}"))
    return element("g", told + filled + element("rect", "", {**box, "class": "frame"}))


def _column(label: Label, x: float, y: float) -> str:
    return element(
        "g", _text(label, 0, 0, "start"), {"transform": f"translate({x:.1f} {y:.1f}) rotate({_TURN})"}
    )


def _text(label: Label, x: float, y: float, anchor: str) -> str:
    parts = [element("tspan", text(label.name), {"class": "strong"})]
    parts += [element("tspan", text(f" {note}"), {"class": style}) for note, style in label.notes]
    place = {"x": round(x, 1), "y": round(y, 1), "text-anchor": anchor, "xml:space": "preserve"}
    return element("text", "".join(parts), place)
