"""Charts as Vega-Lite specifications: data and encodings; colours come from the style sheet.

A specification names no colour of its own: `static/charts.js` fills in those of the scheme that the
reader's system prefers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfx_distill.pipeline.report.gather_lineage import Ancestry
from tfx_distill.pipeline.report.graph_layout import places

_DASHES = {"teacher": [1, 0], "student": [1, 0], "twin": [6, 3], "baseline": [2, 2]}
_DIGITS = ".4~f"
_FEW = 8
_LINE = 22
"""Height of a line of whiskers, in pixels."""
_ONLY_BOUNDED = {"transform": [{"filter": "isValid(datum.low) && isValid(datum.high)"}]}
_BOX = (158, 40)
_GAP = (14, 34)

Spec = dict[str, Any]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Chart:
    """A chart of a page.

    Attributes:
      title: Its heading.
      text: What it shows, in words: for people, and for those who cannot see it.
      spec: The Vega-Lite specification.
      tall: Whether it may be wider than the page and is scrolled.
    """

    title: str
    text: str
    spec: Spec
    tall: bool = False


def whiskers(title: str, text: str, rows: Sequence[Row], *, zero: bool = False) -> Chart:
    """Dots with intervals, one line for each.

    Args:
      title: Heading.
      text: Description.
      rows: With `model`, `value`, and where there is an interval `low` and `high`.
      zero: Whether to draw a line at 0: the values are differences.
    """
    x = {
        "type": "quantitative",
        "scale": {"zero": False, "padding": 8},
        "axis": {"tickCount": 4},
        "title": None,
    }
    y = {"field": "model", "type": "nominal", "sort": None, "title": None}
    # The axis names the models.
    colour = {"value": "var:--student"} if zero else {**_models(rows), "legend": None}
    shared = {
        "y": {**y, "axis": {"labelLimit": 200}},
        "color": colour,
        "tooltip": _tooltip(("model", "value"), rows),
    }
    layers: list[Spec] = [{"data": {"values": [{"zero": 0}]}, **_rule("x", "zero")}] if zero else []
    if _bounded(rows):
        layers.append(
            {
                **_ONLY_BOUNDED,
                "mark": {"type": "rule", "strokeWidth": 2},
                "encoding": {"x": {"field": "low", **x}, "x2": {"field": "high"}, **shared},
            }
        )
    layers.append(
        {
            "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
            "encoding": {"x": {"field": "value", **x}, **shared},
        }
    )
    return Chart(title, text, _spec(rows, {"height": _LINE * len(rows), "layer": layers}))


def over_spans(title: str, text: str, unit: str, rows: Sequence[Row]) -> Chart:
    """A metric of several models over the spans, with intervals, pushes and refusals.

    Args:
      title: Heading.
      text: Description.
      unit: Title of the vertical axis.
      rows: With `span`, `model`, `value`, where there is an interval `low` and `high`, and for the
        student `outcome` (`pushed` or `refused`).
    """
    x, y = _whole("span", rows), {"type": "quantitative", "scale": {"zero": False}}
    colour = _models(rows)
    layers: list[Spec] = []
    if _bounded(rows):
        layers.append(
            {
                **_ONLY_BOUNDED,
                "mark": {"type": "area", "opacity": 0.18},
                "encoding": {"y": {"field": "low", **y}, "y2": {"field": "high"}, "color": colour},
            }
        )
    layers.append(
        {
            "mark": {"type": "line", "strokeWidth": 2},
            "encoding": {
                "y": {"field": "value", **y, "title": unit},
                "color": colour,
                "strokeDash": {
                    "field": "model",
                    "type": "nominal",
                    "title": None,
                    "scale": {
                        "domain": colour["scale"]["domain"],
                        "range": [_DASHES[model] for model in colour["scale"]["domain"]],
                    },
                },
                "tooltip": _tooltip(("span", "model", "value"), rows),
            },
        }
    )
    if any(row.get("outcome") for row in rows):
        layers.append(
            {
                "transform": [{"filter": "isValid(datum.outcome)"}],
                "mark": {"type": "point", "size": 55, "opacity": 1, "strokeWidth": 2},
                "encoding": {
                    "y": {"field": "value", **y},
                    "shape": {
                        "field": "outcome",
                        "type": "nominal",
                        "title": "student",
                        "scale": {
                            "domain": ["pushed", "refused"],
                            "range": ["circle", "M-1,-1L1,1M1,-1L-1,1"],
                        },
                    },
                    "color": {
                        "condition": {
                            "test": "datum.outcome == 'refused'",
                            "value": "var:--bad",
                        },
                        "value": "var:--student",
                    },
                    "tooltip": _tooltip(("span", "outcome", "value"), rows),
                },
            }
        )
    return Chart(title, text, _spec(rows, {"height": 200, "encoding": {"x": x}, "layer": layers}))


def lines(
    title: str,
    text: str,
    rows: Sequence[Row],
    *,
    x: str,
    y: str,
    by: str,
    reference: float | None = None,
) -> Chart:
    """Lines of a number over another, one for each value of `by`.

    Args:
      title: Heading.
      text: Description.
      rows: With the fields named by the other arguments.
      x: Field of the horizontal axis, whole numbers.
      y: Field of the vertical axis, and its title.
      by: Field of the colours.
      reference: Where to draw a line across, if anywhere.
    """
    legend: Spec = {} if len({row[by] for row in rows}) > 1 else {"legend": None}
    encoding: Spec = {
        "x": _whole(x, rows),
        "y": {"field": y, "type": "quantitative", "scale": {"zero": False}, "title": y},
        "color": {"field": by, "type": "nominal", "sort": None, "title": None, **legend},
        "tooltip": _tooltip((x, by, y), rows),
    }
    one = len({row[x] for row in rows}) == 1
    mark = {"type": "point", "filled": True, "size": 70} if one else {"type": "line", "point": True}
    layers: list[Spec] = [{"mark": mark, "encoding": encoding}]
    if reference is not None:
        layers.insert(0, {"data": {"values": [{"at": reference}]}, **_rule("y", "at")})
    return Chart(title, text, _spec(rows, {"height": 200, "layer": layers}))


def bars(title: str, text: str, rows: Sequence[Row], *, x: str, y: str, by: str) -> Chart:
    """Stacked bars of `y` over whole numbers `x`, coloured `by`, in the order of the rows."""
    content: Spec = {
        "height": 220,
        "mark": {"type": "bar"},
        "encoding": {
            "x": {"field": x, "type": "ordinal", "title": x, "axis": {"labelOverlap": "greedy"}},
            "y": {"field": y, "type": "quantitative", "title": y},
            "color": {"field": by, "type": "nominal", "sort": None, "title": None},
            "tooltip": _tooltip((x, by, y), rows),
        },
    }
    return Chart(title, text, _spec(rows, content))


def sideways(title: str, text: str, rows: Sequence[Row], *, x: str, y: str, by: str) -> Chart:
    """Stacked bars of `x` to the right, one for each name `y`, coloured `by`.

    Names and colours are in the order of the rows.
    """
    names = list(dict.fromkeys(row[by] for row in rows))
    content: Spec = {
        "height": _LINE * len({row[y] for row in rows}),
        # Vega would stack them by the alphabet.
        "transform": [{"calculate": f"indexof({json.dumps(names)}, datum['{by}'])", "as": "at"}],
        # The edge tells neighbours apart for those who see no colours.
        "mark": {"type": "bar", "stroke": "var:--page", "strokeWidth": 1},
        "encoding": {
            "x": {"field": x, "type": "quantitative", "title": x},
            "y": {
                "field": y,
                "type": "nominal",
                "sort": None,
                "title": None,
                "axis": {"labelLimit": 200},
            },
            "color": {"field": by, "type": "nominal", "sort": None, "title": None},
            "order": {"field": "at", "type": "quantitative"},
            "tooltip": _tooltip((y, by, x), rows),
        },
    }
    return Chart(title, text, _spec(rows, content))


def lineage(found: Ancestry) -> Chart:
    """The ancestors of a pushed model in layers, the model on top; boxes can be clicked."""
    at = {
        place.node: (
            place.column * (_BOX[0] + _GAP[0]),
            place.layer * (_BOX[1] + _GAP[1]),
        )
        for place in places([node.id for node in found.nodes], found.edges)
    }
    boxes: list[dict[str, Any]] = [
        {
            "id": node.id,
            "kind": node.kind,
            "title": node.title,
            "left": at[node.id][0] - _BOX[0] / 2,
            "right": at[node.id][0] + _BOX[0] / 2,
            "middle": at[node.id][0],
            "top": at[node.id][1],
            "bottom": at[node.id][1] + _BOX[1],
            "first": at[node.id][1] + 14,
            "second": at[node.id][1] + 29,
            "ends": node.ends,
        }
        for node in found.nodes
    ]
    lines_ = [
        {
            "x": at[product][0],
            "y": at[product][1] + _BOX[1],
            "x2": at[source][0],
            "y2": at[source][1],
        }
        for product, source in found.edges
    ]
    left, right = min(b["left"] for b in boxes), max(b["right"] for b in boxes)
    bottom = max(b["bottom"] for b in boxes)
    plain = {"type": "quantitative", "axis": None}
    x = {**plain, "scale": {"domain": [left - 4, right + 4], "nice": False, "zero": False}}
    y = {**plain, "scale": {"domain": [bottom + 4, -4], "nice": False, "zero": False}}

    def text(field: str, row: str, **mark: Any) -> Spec:
        return {
            "mark": {"type": "text", "limit": _BOX[0] - 8, "cursor": "pointer", **mark},
            "encoding": {
                "x": {"field": "middle", **x},
                "y": {"field": row, **y},
                "text": {"field": field},
            },
        }

    def box(those: str, **mark: Any) -> Spec:
        mark |= {"type": "rect", "cornerRadius": 4, "strokeWidth": 1.5, "cursor": "pointer"}
        return {
            "transform": [{"filter": those}],
            "mark": {**mark, "fill": "var:--surface", "stroke": "var:--student"},
            "encoding": {
                "x": {"field": "left", **x},
                "x2": {"field": "right"},
                "y": {"field": "top", **y},
                "y2": {"field": "bottom"},
            },
        }

    spec = _spec(
        boxes,
        {
            "width": right - left + 8,
            "height": bottom + 8,
            "layer": [
                {
                    "data": {"values": lines_},
                    "mark": {"type": "rule", "opacity": 0.6, "color": "var:--muted"},
                    "encoding": {
                        "x": {"field": "x", **x},
                        "y": {"field": "y", **y},
                        "x2": {"field": "x2"},
                        "y2": {"field": "y2"},
                    },
                },
                box("!datum.ends"),
                box("datum.ends", strokeDash=[4, 3]),
                text("kind", "first", fontWeight="bold"),
                text("title", "second", fontSize=10),
            ],
        },
    )
    del spec["autosize"]
    told = "Each box is an artifact; what it was made from is below it, joined by a line."
    return Chart("Where it comes from", told, spec, tall=True)


def _spec(rows: Sequence[Row], content: Spec) -> Spec:
    return {
        "width": "container",
        "autosize": {"type": "fit-x", "contains": "padding"},
        "data": {"values": [_short(row) for row in rows]},
        **content,
    }


def _short(row: Row) -> dict[str, Any]:
    """Numbers with six digits: nobody sees more, and pages stay small."""
    return {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in row.items()}


def _bounded(rows: Sequence[Row]) -> bool:
    """Whether there are intervals to be drawn."""
    return any(row.get("low") is not None for row in rows)


def _models(rows: Sequence[Row]) -> Spec:
    """Each model has its colour on all pages."""
    there = {row["model"] for row in rows}
    models = [model for model in _DASHES if model in there]
    return {
        "field": "model",
        "type": "nominal",
        "title": None,
        "scale": {"domain": models, "range": [f"var:--{model}" for model in models]},
    }


def _whole(field: str, rows: Sequence[Row]) -> Spec:
    """An axis of whole numbers; where there are few, each has its tick."""
    there = sorted({row[field] for row in rows})
    ticks = {"values": there} if len(there) <= _FEW else {"tickMinStep": 1}
    axis = {"format": "d", **ticks}
    return {
        "field": field,
        "type": "quantitative",
        "title": field,
        "axis": axis,
        "scale": {"zero": False, "nice": False, "padding": 8},
    }


def _rule(channel: str, field: str) -> Spec:
    return {
        "mark": {"type": "rule", "strokeDash": [4, 3], "color": "var:--muted"},
        "encoding": {channel: {"field": field, "type": "quantitative"}},
    }


def _tooltip(fields: Sequence[str], rows: Sequence[Row]) -> list[Spec]:
    """The fields, and the interval where there is one."""
    more = [f for f in ("low", "high") if any(row.get(f) is not None for row in rows)]
    numbers = {f for f in (*fields, *more) if any(isinstance(row.get(f), float) for row in rows)}
    return [
        {"field": f, **({"type": "quantitative", "format": _DIGITS} if f in numbers else {})}
        for f in (*fields, *more)
    ]
