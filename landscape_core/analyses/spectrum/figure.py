"""The figure of a spectrum: density on a logarithmic count axis with the resolved eigenvalues on it, finished or growing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from ...drawing.axes import cartesian_axis, log_axis
from ...drawing.known import Known, chosen, has, scalar
from ...drawing.numbers import number, raised
from ...drawing.style import BESIDE, Theme, base_layout, cuts, faint, message_figure, theme
from ...drawing.tracks import tracks_figure
from ...specs import Array
from .data import OPERATORS, PER_DECADE, Spectrum, binned, merged, operator_words, read_spectrum, signed_log, stamp
from .layers import layers_figure

KINDS = ("density", "eigenvalues", "layers")
FLOOR = 0.4  # of an eigenvalue: the lower end of the count axis
APART = 0.02  # of the axis: how near to a stem the curve leaves the pointer to it


def figure(
    data: Known,
    *,
    kind: str = "density",
    log: bool = False,
    source: str = "",  # noqa: ARG001  # the title names it
    zero: float | None = None,
    color: str | None = None,
    dark: bool = False,
    title: str | None = None,
    compact: bool = False,
) -> go.Figure:
    """Draw a spectrum Result, or a partial mapping of its arrays; one over a run is drawn over the steps, whatever the kind.

    "density": how many eigenvalues lie within one kernel width of a value, so that a single one stands at height 1; stems are
    the resolved eigenvalues. `log` spreads the axis by the logarithm of |value| above `zero` on both sides, with counts in
    bins. "eigenvalues": value against rank, with residuals as error bars. "layers": the trace of every diagonal block.
    """
    chosen("kind of picture", kind, KINDS)
    heading = title or f"Spectrum of the {operator_words(data)}"
    if "steps" in data:
        return tracks_figure(data, color=color, dark=dark, title=heading, compact=compact)
    if kind == "layers":
        return layers_figure(data, color=color, dark=dark, title=heading, compact=compact)
    part = read_spectrum(data)
    if part is None:
        return message_figure("Waiting for the first eigenvalues…", dark=dark, title=heading, color=color)
    if not np.isfinite(part.top).any():
        return message_figure("No eigenvalue is finite here: the weights overflow.", dark=dark, title=heading, color=color)
    colors = theme(dark)
    tints = (color or cuts(dark)[0], cuts(dark)[1])
    remarks = [*part.remarks(), *stamp(data, part)]
    if log and kind == "density" and part.nodes is not None and not part.exact:
        remarks.append("Bars near zero are rough: Ritz values gather there where eigenvalues do, but not at the same places.")
    layout = base_layout(colors, heading, color=color, caption=remarks, compact=compact)
    if kind == "eigenvalues":
        traces, axes = _ranked(part, colors, tints, dark)
    elif log:
        traces, axes = _spread(part, colors, tints, dark, zero or part.zero)
    else:
        traces, axes = _dense(part, colors, tints, dark)
    legend = {"x": 1, "y": 1, "xanchor": "right", "yanchor": "top", "bgcolor": "rgba(0,0,0,0)", "traceorder": "normal"}
    layout |= axes | {"showlegend": True, "legend": legend, "hovermode": "closest", "uirevision": f"{kind} {log}"}
    return go.Figure(data=traces, layout=layout)


def shared(datas: Sequence[Known | None], _view: Mapping[str, Any]) -> dict[str, Any]:
    """What counts as zero in pictures beside each other: the largest of theirs, so that their axes are one."""
    zeros = [zero for data in datas if data is not None and (zero := scalar(data, "zero_threshold")) is not None]
    return {"zero": max(zeros)} if zeros else {}


# -- density ---------------------------------------------------------------------------------------------------------


def _dense(part: Spectrum, colors: Theme, tints: tuple[str, str], dark: bool) -> tuple[list[Any], dict[str, Any]]:
    traces: list[Any] = []
    unit = part.parameters * part.width * math.sqrt(2 * math.pi)
    high = float(max(part.parameters, 10))
    if part.grid is not None and part.density is not None:
        counts = part.density * unit
        error = None if part.density_error is None else part.density_error * unit
        traces += _area(part, counts, error, tints[0])
        high = float(max(high, counts.max(initial=0.0)))
        if has(part.beside, "density"):
            other = np.asarray(part.beside["density"], float) * unit
            name = _beside_name(part)
            line = {"color": BESIDE[dark], "width": 2, "dash": "dash"}
            lifted = np.where(other > FLOOR / 4, other, np.nan)
            traces.append(go.Scatter(x=part.grid, y=lifted, mode="lines", line=line, name=name, hoverinfo="skip"))
    traces += _stems(part, colors, tints, _linear)
    if part.beside:
        traces += _beside_marks(part, dark, _linear)
    ends = np.concatenate([part.top, part.bottom, np.asarray(part.beside.get("eigenvalues_top", []), float), [0.0]])
    ends = ends[np.isfinite(ends)]
    pad = 0.04 * (float(np.ptp(ends)) or 1.0)
    x = cartesian_axis(colors, "eigenvalue  (loss per unit length²)")
    x |= {"range": [float(ends.min()) - pad, float(ends.max()) + pad], "zeroline": True, "zerolinecolor": colors.muted}
    return traces, {"xaxis": x | {"showgrid": False}, "yaxis": _counts(colors, high, "eigenvalues within a kernel width")}


def _counts(colors: Theme, high: float, title: str) -> dict[str, Any]:
    top = math.log10(3 * max(high, 1.0))
    ticks = [10.0**power for power in range(0, math.floor(top) + 1)]
    words = [f"{tick:,.0f}" for tick in ticks]
    y = cartesian_axis(colors, title)
    return y | {"type": "log", "range": [math.log10(FLOOR), top], "tickvals": ticks, "ticktext": words}


def _area(part: Spectrum, counts: Array, error: Array | None, tint: str) -> list[Any]:
    """The density as a filled curve, with a band of one standard error where it is an estimate."""
    assert part.grid is not None
    grid = part.grid
    floor = FLOOR / 4  # below the axis: a log axis cannot show nothing
    traces: list[Any] = []
    if error is not None and not part.exact and float(error.max(initial=0.0)) > 0:
        edge = {"x": grid, "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
        traces.append(go.Scatter(y=np.maximum(counts - error, floor).astype(np.float32), showlegend=False, **edge))
        upper = np.maximum(counts + error, floor).astype(np.float32)
        fill = {"fill": "tonexty", "fillcolor": faint(tint, 0.3)}
        traces.append(go.Scatter(y=upper, name="± 1 standard error", **fill, **edge))
    line = {"color": tint, "width": 2}
    values = np.maximum(counts, floor).astype(np.float32)
    area = {"fill": "tozeroy", "fillcolor": faint(tint, 0.15)}
    traces.append(go.Scatter(x=grid, y=values, mode="lines", line=line, name="density", hoverinfo="skip", **area))
    # The curve answers to the pointer away from the stems only: it would be nearer than their marks.
    marks = np.concatenate([part.top, part.bottom])
    far = np.abs(grid[:, None] - marks).min(axis=1, initial=np.inf) > APART * float(np.ptp(grid))
    spots = np.flatnonzero(far & (counts > FLOOR))[::3]
    hover = "%{x:.4g}: about %{y:.3g} eigenvalues within a kernel width<extra></extra>"
    unseen = {"mode": "markers", "marker": {"opacity": 0, "color": tint}, "showlegend": False, "hovertemplate": hover}
    traces.append(go.Scatter(x=grid[spots], y=values[spots], **unseen))
    return traces


def _spread(part: Spectrum, colors: Theme, tints: tuple[str, str], dark: bool, zero: float) -> tuple[list[Any], dict[str, Any]]:
    """Counts in bins of a signed-log axis: decades of |value| above `zero` on both sides of what counts as zero."""
    place = signed_log(zero)
    traces: list[Any] = []
    ends = [*part.top, *part.bottom, zero]
    high = 10.0
    if part.nodes is not None and part.weights is not None:
        ends += [float(part.nodes.min()), float(part.nodes.max())]
        at, mean = binned(part.nodes, part.weights, part.parameters, place)
        high = float(max(high, mean.max(initial=0.0)))
        below, middle = at < -0.5, np.abs(at) <= 0.5
        for mask, tint, name in (
            (~below & ~middle, tints[0], "positive"),
            (middle, colors.muted, "zero"),
            (below, tints[1], "negative"),
        ):
            if not (mask & (mean > 0)).any():
                continue
            bars = {"x": at[mask], "y": mean[mask], "width": np.where(middle[mask], 1.0, 1 / PER_DECADE) * 0.94}
            hover = "about %{y:,.3g} eigenvalues<br>%{customdata}<extra></extra>"
            words = [_bin_words(a, zero) for a in at[mask]]
            traces.append(go.Bar(**bars, name=name, marker={"color": faint(tint, 0.65)}, hovertemplate=hover, customdata=words))
    if part.beside and has(part.beside, "nodes", "weights"):
        nodes, weights = (np.asarray(part.beside[name], float) for name in ("nodes", "weights"))
        ends += [float(nodes.min()), float(nodes.max())]
        at, mean = binned(nodes, weights, part.parameters, place)
        line = {"color": BESIDE[dark], "width": 2, "shape": "hvh"}
        outline = {"x": at, "y": np.maximum(mean, FLOOR / 4), "mode": "lines", "line": line, "hoverinfo": "skip"}
        traces.append(go.Scatter(**outline, name=_beside_name(part)))
    traces += _stems(part, colors, tints, place)
    if part.beside:
        traces += _beside_marks(part, dark, place)
    ends = [end for end in ends if math.isfinite(end)]
    low_end, high_end = (float(place(np.array([end]))[0]) for end in (min(ends), max(ends)))
    x = cartesian_axis(colors, "eigenvalue  (loss per unit length², signed logarithm)")
    x |= {"range": [low_end - 0.7, high_end + 0.5], "showgrid": False, "tickangle": 0} | _powers(low_end, high_end, zero)
    axes = {"xaxis": x, "yaxis": _counts(colors, high, "eigenvalues in a bar"), "bargap": 0, "barmode": "overlay"}
    return traces, axes


def _linear(values: Any) -> Array:
    return np.asarray(values, float)


def _powers(low: float, high: float, zero: float) -> dict[str, Any]:
    """Ticks at zero and at powers of ten on both sides, few enough to be read."""
    first = math.floor(math.log10(zero)) + 1
    stride = max(1, math.ceil((high - low) / 10))
    spots, words = [0.0], ["0"]
    for sign, end in ((1, high), (-1, -low)):
        last = math.floor(math.log10(zero) + end - 0.5 + 1e-9)
        for power in range(last, first, -stride):
            spots.append(sign * (0.5 + power - math.log10(zero)))
            size = {0: "1", 1: "10", -1: "0.1"}.get(power, raised(power))
            words.append(size if sign > 0 else f"−{size}")
    return {"tickvals": spots, "ticktext": words}


def _bin_words(at: float, zero: float) -> str:
    if abs(at) <= 0.5:
        return f"zero: within ± {number(zero, 2)}"
    half = 0.5 / PER_DECADE
    low, high = (zero * 10 ** (abs(at) - 0.5 + side * half) for side in (-1, 1))
    return f"{number(low, 2)} to {number(high, 2)}" if at > 0 else f"−{number(high, 2)} to −{number(low, 2)}"


# -- resolved eigenvalues ----------------------------------------------------------------------------------------------


def _stems(part: Spectrum, colors: Theme, tints: tuple[str, str], place: Any) -> list[Any]:
    """The resolved eigenvalues as stems of height 1, or higher where several are equal; top and bottom in two colours."""
    traces: list[Any] = []
    ends = (("largest", part.top, part.top_error, tints[0], "λ"), ("smallest", part.bottom, part.bottom_error, tints[1], "λ₋"))
    for name, values, errors, tint, letter in ends:
        if not values.size:
            continue
        groups = merged(values, errors)
        at = place([group.value for group in groups])
        heights = np.array([float(group.count) for group in groups])
        lines_x = np.repeat(at, 3)
        lines_y = np.column_stack([np.full(at.size, FLOOR / 4), heights, np.full(at.size, np.nan)]).reshape(-1)
        lines_x[2::3] = np.nan
        stem = {"color": tint, "width": 1.5}
        traces.append(go.Scatter(x=lines_x, y=lines_y, mode="lines", line=stem, hoverinfo="skip", showlegend=False))
        words = [group.words(letter) for group in groups]
        sizes = [9 if name == "largest" and (group.first < part.outliers or not part.outliers) else 7 for group in groups]
        marker = {"size": sizes, "color": tint, "line": {"width": 1, "color": colors.paper}}
        marker["symbol"] = "circle" if name == "largest" else "diamond"
        label = f"{values.size} {name} eigenvalues" if values.size > 1 else f"{name} eigenvalue"
        traces.append(go.Scatter(x=at, y=heights, mode="markers", marker=marker, name=label, hovertext=words, hoverinfo="text"))
    return traces


def _beside_name(part: Spectrum) -> str:
    return OPERATORS.get(str(np.asarray(part.beside.get("kind", ""))), "second operator")


def _beside_marks(part: Spectrum, dark: bool, place: Any) -> list[Any]:
    name = _beside_name(part)
    values = np.asarray(part.beside["eigenvalues_top"], float)
    groups = merged(values, np.zeros(values.size))
    words = [f"{name} {group.words('λ')}" for group in groups]
    marker = {"symbol": "circle-open", "size": 11, "color": BESIDE[dark], "line": {"width": 2}}
    spots = {"x": place([group.value for group in groups]), "y": [float(group.count) for group in groups]}
    return [go.Scatter(**spots, mode="markers", marker=marker, hovertext=words, hoverinfo="text", name=f"{name}, largest")]


def _ranked(part: Spectrum, colors: Theme, tints: tuple[str, str], dark: bool) -> tuple[list[Any], dict[str, Any]]:
    """Value against rank with residuals as error bars: positive ones of the top, negative ones of the bottom by size."""
    traces: list[Any] = []
    name = _beside_name(part)
    other = np.asarray(part.beside.get("eigenvalues_top", []), float)
    series = (
        (part.top, part.top_error, tints[0], "largest", "circle", 1.0),
        (part.bottom, part.bottom_error, tints[1], "smallest, as −λ", "diamond", -1.0),
        (other, np.zeros(other.size), BESIDE[dark], f"{name}, largest", "circle-open", 1.0),
    )
    seen: list[float] = []
    for values, errors, tint, label, symbol, sign in series:
        ranks = np.arange(1, values.size + 1)
        keep = sign * values > 0
        if not keep.any():
            continue
        seen += list(np.abs(values[keep]))
        words = [f"rank {r}: {number(v, 5)}, to within {number(e, 2)}" for r, v, e in zip(ranks, values, errors, strict=True)]
        style = {"marker": {"color": tint, "symbol": symbol, "size": 8}, "line": {"color": faint(tint, 0.5), "width": 1}}
        bars = {"array": errors[keep], "thickness": 1.5, "color": tint}
        kept = [word for word, inside in zip(words, keep, strict=True) if inside]
        spots = {"x": ranks[keep], "y": np.abs(values[keep]), "mode": "lines+markers", "error_y": bars}
        traces.append(go.Scatter(**spots, **style, name=label, hovertext=kept, hoverinfo="text"))
    x = cartesian_axis(colors, "rank") | {"range": [0.3, max(part.top.size, part.bottom.size, other.size) + 0.7]}
    y = log_axis(colors, "eigenvalue  (loss per unit length²)", np.array(seen or [1.0]))
    return traces, {"xaxis": x, "yaxis": y}


# -- the table ---------------------------------------------------------------------------------------------------------


def rows(data: Known) -> tuple[list[str], Iterable[tuple[Any, ...]]]:
    """Header and rows: `part,index,at,value,error`, or over a run `step,lambda_1,...`."""
    if "steps" in data:
        values = np.asarray(data["eigenvalues_top_steps"], float)
        columns = [("lambda_bottom", "eigenvalue_bottom_steps"), ("gradient_norm", "gradient_norm_steps")]
        more = [
            (name, np.asarray(data[key], float))
            for name, key in (*columns, ("stability_limit", "stability_limit_steps"))
            if has(data, key)
        ]
        header = ["step", *(f"lambda_{i + 1}" for i in range(values.shape[1])), *(name for name, _ in more)]
        steps = np.asarray(data["steps"]).tolist()
        return header, [(step, *values[i].tolist(), *(float(column[i]) for _, column in more)) for i, step in enumerate(steps)]
    found: list[tuple[Any, ...]] = []
    norm = scalar(data, "norm") or 0.0
    for prefix in ("", "beside_"):
        for end in ("top", "bottom"):
            values = np.asarray(data.get(f"{prefix}eigenvalues_{end}", []), float)
            residuals = np.asarray(data.get(f"{prefix}residuals_{end}", np.full(values.size, np.nan)), float)
            errors = residuals * (np.abs(values) if end == "top" else norm)
            found += [
                (f"{prefix}{end}", i + 1, "", float(v), float(e)) for i, (v, e) in enumerate(zip(values, errors, strict=True))
            ]
    for name, value, error in zip(
        data.get("layer_names", []), data.get("trace_layers", []), data.get("trace_layers_standard_error", []), strict=False
    ):
        found.append(("trace_layer", str(name), "", float(value), float(error)))
    if has(data, "density_grid", "density"):
        error = np.asarray(data.get("density_error", np.zeros(np.size(data["density"]))), float)
        for i, (x, y, e) in enumerate(zip(data["density_grid"], data["density"], error, strict=True)):
            found.append(("density", i + 1, float(x), float(y), float(e)))
    return ["part", "index", "at", "value", "error"], found
