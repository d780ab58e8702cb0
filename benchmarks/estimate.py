"""Does the error that a picture states while it fills in bound its true error? Twelve shapes, drawn at random.

    python -m benchmarks.estimate [--draws 100] [--json FILE]

Each draw is a grid of one shape, turned, shifted and stretched, at one of five resolutions. After each level, and in the
middle of the next one, the picture's largest deviation from the finished grid is held against the error that it states: of
the loss, and of its logarithm in the picture on a logarithmic scale. Printed: in how many of 100 pictures the stated error
bounds the true one, as a share of the range of the finished grid and (harder) of the points that were known by then; and the
median of stated / true.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from landscape_core.analyses.surface.grid import Estimate, levels

Array = np.ndarray
Shape = Callable[[np.random.Generator, Array, Array], Array]
RESOLUTIONS = ((41, 41), (21, 21), (51, 51), (31, 25), (101, 101))


def bowl(r: np.random.Generator, a: Array, b: Array) -> Array:
    return 10 ** r.uniform(-4, 0) + a**2 + 10 ** r.uniform(-2, 1) * b**2


def valley(r: np.random.Generator, a: Array, b: Array) -> Array:
    return 1e-4 + 10 ** r.uniform(-1, 2) * a**2 + 10 ** r.uniform(-6, -2) * b**2


def ridge(r: np.random.Generator, a: Array, b: Array) -> Array:
    return 0.01 + np.exp(-((a / r.uniform(0.1, 0.6)) ** 2)) * (1 + 0.3 * b)


def saddle(r: np.random.Generator, a: Array, b: Array) -> Array:
    return a**2 - r.uniform(0.2, 3) * b**2 + r.choice([0.0, 5.0])


def cliff(r: np.random.Generator, a: Array, b: Array) -> Array:
    return 0.05 + 1 / (1 + np.exp(-np.clip(10 ** r.uniform(1, 3) * (a - r.uniform(-0.5, 0.5)), -500, 500))) + 0.1 * b**2


def plateau(r: np.random.Generator, a: Array, b: Array) -> Array:
    return 1e-3 + 2.3 * (1 - np.exp(-(a**2 + b**2) / r.uniform(0.05, 0.5) ** 2))


def ravine(r: np.random.Generator, a: Array, b: Array) -> Array:
    return 1e-4 + np.minimum(1, (a / 10 ** r.uniform(-1.5, -0.5)) ** 2) + 0.05 * b**2


def ripples(r: np.random.Generator, a: Array, b: Array) -> Array:
    f, g = r.uniform(3, 25, 2)
    return 0.5 + a**2 + b**2 + r.uniform(0.05, 0.4) * np.sin(f * a) * np.cos(g * b)


def walls(r: np.random.Generator, a: Array, b: Array) -> Array:
    return 1e-3 * np.exp(r.uniform(2, 12) * np.hypot(a, b))


def kinks(r: np.random.Generator, a: Array, b: Array) -> Array:
    return 0.02 + np.abs(a) + 0.5 * np.maximum(0, b - r.uniform(-0.5, 0.5)) + np.maximum(0, 2 * (a + b) - 1)


def banana(r: np.random.Generator, a: Array, b: Array) -> Array:
    return 1e-4 + (b - r.uniform(0.5, 1.5) * a**2) ** 2 * 10 ** r.uniform(0, 2) + 0.1 * (a - 0.5) ** 2


def crossentropy(r: np.random.Generator, a: Array, b: Array) -> Array:
    """Of a random network of one hidden layer and three classes, along two random directions."""
    x = r.standard_normal((30, 4))
    base, da, db = (r.standard_normal((2, 4, 8)) for _ in range(3))
    y, loss = r.integers(0, 3, 30), np.empty_like(a)
    for k in np.ndindex(a.shape):
        first, second = (base[i] + a[k] * da[i] + b[k] * db[i] for i in (0, 1))
        z = np.maximum(x @ first, 0) @ second.T[:, :3]
        z -= z.max(1, keepdims=True)
        loss[k] = float(np.mean(np.log(np.exp(z).sum(1)) - z[np.arange(30), y]))
    return loss


SHAPES: dict[str, Shape] = {
    f.__name__: f for f in (bowl, valley, ridge, saddle, cliff, plateau, ravine, ripples, walls, kinks, banana, crossentropy)
}


def drawn(shape: Shape, seed: int) -> tuple[tuple[Array, Array], Array]:
    """The axes and the finished grid of one draw."""
    r = np.random.default_rng(seed)
    alphas, betas = (np.linspace(-1, 1, n) for n in RESOLUTIONS[seed % len(RESOLUTIONS)])
    x, y = np.meshgrid(alphas, betas, indexing="ij")
    turn = r.choice([0.0, r.uniform(0, np.pi)])
    shift = r.uniform(-0.3, 0.3, 2) * r.integers(0, 2)
    a = np.cos(turn) * x + np.sin(turn) * y - shift[0]
    b = np.cos(turn) * y - np.sin(turn) * x - shift[1]
    return (alphas, betas), shape(r, a, b)


def pictures(axes: tuple[Array, Array], grid: Array) -> Iterator[tuple[str, float, float, float]]:
    """("plain" or "log", stated error, true error in ranges of the grid, and of what was known) of each picture on the way."""
    estimate, evaluated = Estimate(axes), np.zeros(grid.shape, bool)
    seen = np.full(grid.shape, np.nan)
    for stride, cells in levels(grid.shape):
        for part, complete in ((cells[: len(cells) // 2], False), (cells, True)):
            evaluated[tuple(part.T)] = True
            seen[evaluated] = grid[evaluated]
            if complete:
                estimate.complete(seen, stride)
            if evaluated.all() or estimate.values is None:
                continue
            for name, stated, picture, change in (
                ("plain", estimate.error, estimate.picture, np.asarray),
                ("log", estimate.log_error, estimate.log_picture, np.log10),
            ):
                if np.isfinite(stated) and (name == "plain" or grid.min() > 0):
                    drawn, exact = change(picture(seen, evaluated)), change(grid)
                    wrong = float(np.abs(drawn - exact).max())
                    spans = (float(np.ptp(exact)) or 1.0, float(np.ptp(exact[evaluated])) or 1.0)
                    yield name, stated, wrong / spans[0], wrong / spans[1]


def table(draws: int) -> dict[str, dict[str, Any]]:
    """By shape and scale: how many pictures, how many in 100 are bounded (and of the known range), median of stated / true."""
    found: dict[str, dict[str, Any]] = {}
    for name, shape in SHAPES.items():
        rows: dict[str, list[tuple[float, float, float]]] = {"plain": [], "log": []}
        for seed in range(draws if name != "crossentropy" else max(1, draws // 5)):
            for kind, *numbers in pictures(*drawn(shape, seed)):
                rows[kind].append(tuple(numbers))
        for kind, pairs in rows.items():
            if pairs:
                stated, true, harder = np.array(pairs).T
                held, of_known = (100 * float((stated >= wrong).mean()) for wrong in (true, harder))
                ratio = float(np.median(stated / np.maximum(true, 1e-12)))
                found[f"{name} {kind}"] = {"pictures": len(pairs), "held": held, "of_known": of_known, "ratio": ratio}
    return found


def pooled(found: dict[str, dict[str, Any]], kind: str, what: str = "held") -> float:
    """`what` over all shapes of one scale, by pictures."""
    rows = [row for name, row in found.items() if name.endswith(kind)]
    return float(np.average([row[what] for row in rows], weights=[row["pictures"] for row in rows]))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found = table(given.draws)
    print(f"{'':<20} pictures  bounded in 100  (known range)  stated / true")
    for name, row in found.items():
        numbers = f"{row['pictures']:>8} {row['held']:>15.1f} {row['of_known']:>14.1f} {row['ratio']:>14.3g}"
        print(f"{name:<20} {numbers}")
    for kind in ("plain", "log"):
        print(f"all, {kind:<15} {'':>8} {pooled(found, kind):>15.1f} {pooled(found, kind, 'of_known'):>14.1f}")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
