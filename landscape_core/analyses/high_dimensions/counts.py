"""Pictures of a run's gradients by layer and of its eigenvalues by size and sign."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from ...drawing.axes import cartesian_axis, log_axis
from ...drawing.known import Known, scalar
from ...drawing.numbers import number
from ...drawing.steps import place, step_axis
from ...drawing.style import Theme
from ...specs import Array
from . import laws

CURVES = 4  # checkpoints whose layers are drawn
VAGUE = 0.25  # error of an estimated share from which on it says nothing
SHARES = (
    ("flat_share", "flat eigenvalues"),
    ("negative_share", "negative eigenvalues"),
    ("top_trace_share", "trace in the largest"),
)


def layers_picture(data: Known, colors: Theme, tints: tuple[str, ...]) -> tuple[list[Any], dict[str, Any], list[str]]:
    """Gradient norms from layer to layer at a few checkpoints, beside the law of random layers at the first."""
    norms, steps = np.asarray(data["layer_gradient_norms"], float), np.asarray(data["steps"])
    known = np.flatnonzero((norms > 0).all(axis=1))
    if not known.size or norms.shape[1] < 2:
        return [], {}, ["Fewer than two layers with a gradient: there is no profile."]
    chosen = known[np.unique(np.linspace(0, known.size - 1, CURVES).round().astype(int))]
    names = [str(name) for name in np.asarray(data["layer_names"])]
    spots = np.arange(len(names))
    traces: list[Any] = []
    for i, tint in zip(chosen, tints, strict=False):
        hover = "%{text}: %{y:.3g}<extra></extra>"
        style = {"mode": "lines+markers", "line": {"color": tint, "width": 2}, "marker": {"size": 5}}
        traces.append(go.Scatter(x=spots, y=norms[i], text=names, name=f"step {steps[i]:,}", hovertemplate=hover, **style))
    law, seen = np.asarray(data["layer_law"], float), [norms[chosen].reshape(-1)]
    first = norms[0]
    said = "No law is drawn: it is of plain chains of ReLU layers."
    if np.isfinite(law).all() and (law > 0).all() and (first > 0).all():
        # The law gives a profile, not a level: it is laid through the measured one.
        scaled = law * float(np.exp(np.mean(np.log(first) - np.log(law))))
        seen.append(scaled)
        line = {"color": colors.muted, "width": 2, "dash": "dash"}
        traces.append(go.Scatter(x=spots, y=scaled, mode="lines", line=line, name="law of random layers", hoverinfo="skip"))
        said = (
            "Dashed: the mean-field law of random ReLU layers with weights as large as those of the first step, at its level."
        )
    stride = max(1, -(-len(names) // 12))
    ticks = {"tickvals": spots[::stride], "ticktext": [name.removesuffix(".weight")[-14:] for name in names[::stride]]}
    x = cartesian_axis(colors, "layer, from the input to the output") | ticks | {"showgrid": False}
    y = log_axis(colors, "gradient norm", np.concatenate(seen))
    return traces, {"xaxis": x, "yaxis": y}, ["How the gradient fades, or grows, on its way back to the input.", said]


def flat_picture(data: Known, colors: Theme, tints: tuple[str, ...]) -> tuple[list[Any], dict[str, Any], list[str]]:
    """Shares of flat and negative eigenvalues and of the trace in the largest, over the steps, with errors where estimated."""
    steps = np.asarray(data["steps"], float)
    traces: list[Any] = []
    for (name, words), tint in zip(SHARES, tints, strict=False):
        values = 100 * np.asarray(data[name], float)
        known = np.isfinite(values)
        if not known.any():
            continue
        errors = 100 * np.nan_to_num(np.asarray(data.get(f"{name}_error", 0 * steps), float))[known]
        style: dict[str, Any] = {"mode": "lines+markers", "line": {"color": tint, "width": 2}, "marker": {"size": 7}}
        if errors.any():
            style["error_y"] = {"array": errors, "thickness": 1.2, "color": tint}
        hover = f"%{{y:.3g}} % at step %{{customdata:,}}<extra>{words}</extra>"
        traces.append(
            go.Scatter(
                x=place(steps[known]), y=values[known], customdata=steps[known], name=words, hovertemplate=hover, **style
            )
        )
    if not traces:
        wanted = np.size(data.get("curvature_steps", []))
        return (
            [],
            {},
            [
                "Eigenvalues come after the gradients; none counted yet."
                if wanted
                else "No eigenvalues were asked for: set curvature."
            ],
        )
    dash = {"color": colors.muted, "width": 1.5, "dash": "dot"}
    ends = [-0.06, 1.02 * float(place(steps).max()) + 0.04]
    traces.append(go.Scatter(x=ends, y=[50, 50], mode="lines", line=dash, name="negative of a random matrix", hoverinfo="skip"))
    flat, zero = scalar(data, "flat_tolerance") or 0.0, scalar(data, "zero_tolerance") or 0.0
    highest = max(100.0, *(float(np.nanmax(trace.y)) for trace in traces))  # of a trace, the largest may hold more than all
    y = cartesian_axis(colors, "share  (%)") | {"range": [-2, 1.04 * highest]}
    said = [
        f"Flat: |λ| below {number(flat, 1)} of the largest; of a random symmetric matrix "
        f"{number(100 * laws.semicircle_share(flat), 2)} % would be.",
        f"Negative: λ below −{number(zero, 1)} of it. Trace: what the {scalar(data, 'outliers') or 0:.0f} largest of "
        f"{scalar(data, 'parameters') or 0:,.0f} hold.",
    ]
    return traces, {"xaxis": step_axis(colors, steps), "yaxis": y}, said


def resolved(data: Known, name: str) -> Array:
    """A share by checkpoint, NaN where its error says that it is not known."""
    values = np.asarray(data[name], float)
    errors = np.asarray(data.get(f"{name}_error", np.zeros(values.shape)), float)
    found: Array = np.where(np.nan_to_num(errors) <= VAGUE, values, np.nan)
    return found


def index_picture(data: Known, colors: Theme, tints: tuple[str, ...]) -> tuple[list[Any], dict[str, Any], list[str]]:
    """The share of negative eigenvalues against the loss: of critical points it grows with the loss."""
    loss, share, steps = np.asarray(data["loss"], float), resolved(data, "negative_share"), np.asarray(data["steps"])
    known = np.isfinite(loss) & np.isfinite(share) & (loss > 0)
    if not known.any():
        return [], {}, ["No share of negative eigenvalues is known well enough yet."]
    errors = 100 * np.nan_to_num(np.asarray(data["negative_share_error"], float))[known]
    style: dict[str, Any] = {"mode": "lines+markers+text", "line": {"color": tints[0], "width": 1}, "marker": {"size": 9}}
    if errors.any():
        style["error_y"] = {"array": errors, "thickness": 1.2}
    words = [f"step {step:,}" for step in steps[known]]
    texts = [words[0], *[""] * (len(words) - 2), words[-1]] if len(words) > 1 else words  # the ends are named, all answer
    hover = "%{customdata}: loss %{x:.3g}, %{y:.3g} % negative<extra></extra>"
    values = 100 * share[known]
    sides = np.where(loss[known] > np.median(loss[known]), "top left", "top right")  # the names stay within the picture
    style |= {"text": texts, "textposition": sides, "customdata": words, "showlegend": False}
    dots = go.Scatter(x=loss[known], y=values, hovertemplate=hover, **style)
    x = log_axis(colors, "loss", loss[known])
    y = cartesian_axis(colors, "negative eigenvalues  (%)") | {"range": [0, max(5.0, 1.25 * float(values.max()))]}
    correlation = laws.rank_correlation(loss, share)
    said = ["The share of directions that bend downwards, from checkpoint to checkpoint."]
    if np.isfinite(correlation) and known.sum() >= laws.FEWEST:
        chance = number(laws.rank_correlation_bound(int(known.sum())), 2)
        said.append(
            f"Rank correlation with the loss {number(correlation, 2)}; a share that drifts by chance has up to ±{chance}."
        )
    return [dots], {"xaxis": x, "yaxis": y}, said
