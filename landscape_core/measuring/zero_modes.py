"""Why eigenvalues of a curvature are zero: directions along which the loss cannot change, found by trying them.

Every cause is a space of directions. Those that a network's build makes flat at every theta are counted for any network; at one
point, with the matrix at hand, each is held to it: only directions v with |H v| within what counts as zero are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from ..objective import Entry, Objective
from ..objective.foreign import pass_over
from ..objective.trees import tensors
from .elsewhere import SAME, Elsewhere
from .flat import (
    Pair,
    alike,
    flat,
    gram_of,
    mixed,
    neurons,
    null_space,
    patches,
    plain,
    reads,
    scales,
    unit_vectors,
    units,
)

FAINT = 1e-13  # of the largest slope in float64: what rounding leaves of none
PATIENCE = 4  # slopes at further weights that must leave what is silent as it is
TRIES = 600  # losses that the search for pairs of tensors may take
ROWS = 256  # of a layer's inputs that are looked at together


@dataclass(frozen=True)
class ZeroModes:
    """Directions along which the loss is flat: how many at least, and why."""

    count: int
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cause:
    """Why some directions are flat, `directions()` that span their space as columns `(p, m)`, and how many it adds for sure."""

    words: str
    directions: Callable[[], Tensor]
    count: int = 0


class ZeroModeSearch:
    """The causes of zero eigenvalues of the curvature `kind` over the parameter tensors `members`.

    At every theta, for L(theta) does not change along straight lines:
    - the same vector added to all slices of a tensor: to all rows of the last linear layer under a softmax, before a LayerNorm;
    - parameters that the loss does not feel: of inputs that never occur, a bias before BatchNorm on the batch's statistics;
    - inputs that do not span their space: with X (N, d) the inputs of a linear layer or the patches of a convolution that sees
      data alone, each of its neurons has d + 1 - rank [X 1] directions that no sample sees (constant or collinear pixels).

    At this theta, where the matrix shows them: units that are silent on every sample, h^2 directions between two linear maps
    (factorisation), the scale of each unit between two layers (ReLU), the scale that a normalisation removes. Of the Hessian
    the last three are zero only where the gradient vanishes; of Gauss-Newton and Fisher matrices everywhere.

    Found by what it does: the losses at random weights, before and after. A lower bound; any model will do.
    """

    def __init__(self, objective: Objective, kind: str, members: Sequence[int]):
        self.kind, self.members = kind, list(members)
        self.given = objective
        self.space = objective.space
        self.entries = [self.space.entries[i] for i in self.members]
        self.sizes = {entry.name: entry.size for entry in self.entries}
        self.size = sum(self.sizes.values())

    # -- the two answers ------------------------------------------------------------------------------------------------

    def always(self) -> ZeroModes:
        """Zero eigenvalues at every theta, at least; `kind` may bound the rank besides: at most one a sample and output."""
        causes = self.translations
        found = ZeroModes(sum(cause.count for cause in causes), tuple(f"{c.count:,} {c.words}" for c in causes if c.count))
        return self._by_rank(found)

    def here(self, matrix: Tensor, zero: float) -> ZeroModes:
        """Zero eigenvalues of `matrix` `(m, m)` over the members whose cause is known; within `zero` counts as none.

        Directions v are held to |H v| <= zero, or where no eigenvalue lies below -zero to v'Hv <= zero: either proves as many
        eigenvalues within zero as there are such v.
        """
        coordinates = torch.cat([torch.arange(e.offset, e.offset + e.size) for e in self.entries])
        dense = matrix.double().cpu()
        definite = bool(torch.linalg.eigvalsh(dense)[0] >= -zero)
        basis = torch.zeros(self.size, 0, dtype=torch.float64)
        reasons = []
        for cause in self._causes():
            found = flat(dense, cause.directions()[coordinates], basis, zero, definite=definite)
            if found.shape[1]:
                basis = torch.cat([basis, found], 1)
                reasons.append(f"{found.shape[1]:,} {cause.words}")
        return self._by_rank(ZeroModes(basis.shape[1], tuple(reasons)))

    def _causes(self) -> Iterator[Cause]:
        yield from self.translations
        try:
            yield from self._silent()
            yield from self._pairs()
            yield from self._normalised()
        except Exception as error:  # whatever a model may raise at weights that are not its own
            pass_over(error)
            return

    def _by_rank(self, found: ZeroModes) -> ZeroModes:
        """With what the rank of a matrix made of few samples adds."""
        rank = self._rank()
        rest = 0 if rank is None else self.size - rank - found.count
        if rest <= 0:
            return found
        size = self.given.size()
        samples = "1 sample makes" if size == 1 else f"{size:,} samples make"
        words = f"{rest:,}{' more' if found.count else ''} since {samples} no rank above {rank:,}"
        return ZeroModes(found.count + rest, (*found.reasons, words))

    def _rank(self) -> int | None:
        """The largest rank that a matrix made of the samples' gradients can have; None for the Hessian."""
        if self.kind == "hessian":
            return None
        if self.kind == "empirical_fisher":
            return self.given.size()
        try:
            outputs = self.given.logits()
        except Exception as error:  # whatever a model may raise at weights that are not its own
            pass_over(error)
            return None
        if not isinstance(outputs, Tensor) or outputs.dim() != 2:
            return None
        return len(outputs) * (outputs.shape[1] - (1 if self._shift_invariant() else 0))

    def _shift_invariant(self) -> bool:
        """Whether the loss stays the same when a constant is added to all outputs `(n, c)` of a sample."""
        batch = self._tried.objective.batches()[0]
        self._tried.network.set(self._tried.theta)
        try:
            with torch.no_grad():
                outputs = self._tried.network(batch.inputs)
                if outputs.shape[1] < 2:
                    return False
                shift = torch.linspace(-1, 1, len(outputs)).to(outputs)[:, None]
                one, two = (float(self._tried.objective.term(o, batch)) for o in (outputs, outputs + shift))
        except Exception as error:  # whatever a model may raise at weights that are not its own
            pass_over(error)
            return False
        return abs(one - two) <= SAME * abs(one)

    @cached_property
    def _tried(self) -> Elsewhere:
        return Elsewhere(self.given)

    def _at(self, directions: Callable[[Tensor], Tensor]) -> Callable[[], Tensor]:
        """The directions at this theta."""
        return lambda: directions(self._tried.theta.double().cpu())

    # -- flat at every theta ------------------------------------------------------------------------------------------------

    @cached_property
    def translations(self) -> list[Cause]:
        """Directions along which the loss is constant on straight lines, at every theta; independent of one another."""
        try:
            unseen = list(self._unseen_inputs())
            unfelt = self._unfelt({names[0] for _, names in unseen})
            shifts, shifted = self._shifts(unfelt)
        except Exception as error:  # whatever a model may raise at weights that are not its own
            pass_over(error)
            return []
        causes = [cause for cause, _ in shifts]
        if bool(unfelt.any()):
            where = ", ".join(e.name for e in self.entries if bool(unfelt[e.offset : e.offset + e.size].any()))
            words = f"from parameters that the loss does not feel at all ({where})"
            causes.append(Cause(words, partial(unit_vectors, unfelt), int(unfelt.sum())))
        for cause, names in unseen:
            # What a shift of all rows shares with inputs that no sample sees is counted once: one row of each.
            rows = next(e.shape[0] for e in self.entries if e.name == names[0])
            shared = cause.count // rows if names[0] in shifted else 0
            causes.append(replace(cause, count=cause.count - shared))
        return causes

    def _unfelt(self, seen: set[str]) -> Tensor:
        """Which coordinates `(p,)` no loss has a slope along; tensors whose inputs were looked at are left to that."""
        silent = torch.zeros(self.space.size, dtype=torch.bool, device=self._tried.theta.device)
        for entry in self.entries:
            if entry.name not in seen:
                silent[entry.offset : entry.offset + entry.size] = True
        # A unit that is silent at some weights speaks at others: tried until nothing more speaks up.
        unchanged, before = 0, int(silent.sum())
        for slope in self._tried.slopes():
            silent &= slope.abs() <= FAINT * slope.abs().max()
            count = int(silent.sum())
            unchanged, before = (unchanged + 1 if count == before else 0), count
            if not count or unchanged == PATIENCE:
                break
        if bool(silent.any()) and not self._tried.same(torch.where(silent, self._tried.drawn(7), self._tried.point)):
            silent[:] = False
        return silent

    def _shifts(self, unfelt: Tensor) -> tuple[list[tuple[Cause, str]], set[str]]:
        """Tensors to whose slices one vector may be added, all alike; one cause for the tensors of a layer."""
        found: dict[tuple[str, str], list[tuple[Entry, int, int]]] = {}
        for entry in self.entries:
            for dim in range(len(entry.shape)):
                if entry.shape[dim] < 2 or not self._sums_to_nothing(entry, dim):
                    continue
                noise = self._tried.drawn(11 + dim)[entry.offset : entry.offset + entry.size].view(entry.shape)
                moved = self._tried.point.clone()
                moved[entry.offset : entry.offset + entry.size] += noise.narrow(dim, 0, 1).expand(entry.shape).reshape(-1)
                if self._tried.same(moved):
                    free = ~unfelt[entry.offset : entry.offset + entry.size].view(entry.shape).all(dim)
                    layer = entry.name.rpartition(".")[0]
                    why = self._why_shifted(moved)
                    found.setdefault((layer, why), []).append((entry, dim, int(free.sum())))
                    break
        causes = []
        for (_, why), parts in found.items():
            names = " and ".join(entry.name for entry, _, _ in parts)
            rows = "all rows" if all(dim == 0 for _, dim, _ in parts) else "all slices"
            words = f"from adding the same vector to {rows} of {names} ({why})"
            directions = partial(alike, [(entry, dim) for entry, dim, _ in parts], len(unfelt))
            causes.append((Cause(words, directions, sum(n for *_, n in parts)), names))
        return causes, {entry.name for parts in found.values() for entry, dim, _ in parts if dim == 0}

    def _sums_to_nothing(self, entry: Entry, dim: int) -> bool:
        """Whether the slopes along a dimension of a tensor add up to nothing, and are not nothing themselves."""
        part = self._tried.first_slope[entry.offset : entry.offset + entry.size].view(entry.shape)
        size = float(part.abs().sum(dim).max())
        return size > 0 and float(part.sum(dim).abs().max()) <= SAME * size

    def _why_shifted(self, theta: Tensor) -> str:
        """Whether it is the loss that does not see the shift, or the network behind the layer."""
        batch = self._tried.objective.batches()[0]
        targets = next(tensors(batch.targets), None)
        outputs = []
        with torch.no_grad():
            for at in (self._tried.point, theta):
                self._tried.network.set(at)
                outputs.append(torch.cat([part.reshape(-1).double() for part in tensors(self._tried.network(batch.inputs))]))
        if not float((outputs[1] - outputs[0]).abs().max()) > 1e-6 * float(outputs[0].abs().max()):
            return "the network removes their mean further on"
        classes = targets is not None and not targets.is_floating_point()
        return "softmax shift" if classes else "the loss does not see a shift of all outputs"

    def _unseen_inputs(self) -> Iterator[tuple[Cause, list[str]]]:
        """Layers that see the data alone, with what of (w, b) of each neuron no sample sees; the names of their parameters."""
        for name, module, gram in self._layers_of_data():
            prefix = f"{name}." if name else ""
            names = [n for n in (f"{prefix}weight", f"{prefix}bias") if n in self.sizes]
            if f"{prefix}weight" not in self.sizes:
                continue
            if f"{prefix}bias" not in self.sizes:
                gram = gram[:-1, :-1]
            null = null_space(gram)
            rows = module.weight.shape[0]
            own = [next(entry for entry in self.entries if entry.name == n) for n in names]
            directions = partial(neurons, null, own, rows, self.space.size)
            if null.shape[1] and self._tried.same(self._moved_unseen(null, own, rows)):
                words = f"from inputs of {names[0]} that are constant or depend on others, {null.shape[1]} for each unit"
                yield Cause(words, directions, rows * null.shape[1]), names

    def _moved_unseen(self, null: Tensor, entries: list[Entry], rows: int) -> Tensor:
        """The weights elsewhere with a random vector of `null` `(d, n)` added to (w, b) of every neuron."""
        moved, draw = self._tried.point.clone(), torch.Generator().manual_seed(37)
        change = torch.randn(rows, null.shape[1], generator=draw, dtype=torch.float64) @ null.T
        for entry, part in zip(entries, change.split([entry.size // rows for entry in entries], 1), strict=True):
            moved[entry.offset : entry.offset + entry.size] += part.reshape(-1).to(moved)
        return moved

    def _layers_of_data(self) -> list[tuple[str, Any, Tensor]]:
        """Linear layers and convolutions whose inputs no parameter enters, with [X 1]'[X 1] of all they are given."""
        grams: dict[str, Tensor | None] = {}
        modules = dict(self._tried.network.model.named_modules())

        def look(name: str, module: Any, given: Tensor) -> None:
            if given.requires_grad or not given.is_floating_point():
                grams[name] = None
                return
            made = torch.stack([gram_of(patches(module, part)) for part in given.detach().split(ROWS)]).sum(0)
            before = grams.get(name, torch.zeros_like(made))
            grams[name] = None if before is None else before + made

        handles = [
            module.register_forward_hook(lambda m, i, _o, name=name: look(name, m, i[0]))
            for name, module in modules.items()
            if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and plain(module))
        ]
        self._tried.network.set(self._tried.theta)
        try:
            with torch.enable_grad():
                for batch in self._tried.objective.batches():
                    self._tried.network(batch.inputs)
        finally:
            for handle in handles:
                handle.remove()
        return [(name, modules[name], gram) for name, gram in grams.items() if gram is not None]

    # -- flat at this theta, if the matrix says so ----------------------------------------------------------------------------

    def _groups(self) -> Iterator[tuple[Entry, Entry | None]]:
        """Tensors whose first dimension counts units, with the bias of the same layer where there is one."""
        named = {entry.name: entry for entry in self.entries}
        for entry in self.entries:
            layer, _, own = entry.name.rpartition(".")
            bias = named.get(f"{layer}.bias" if layer else "bias")
            fits = own != "bias" and bias is not None and bias.shape == entry.shape[:1]
            if own != "bias" or len(entry.shape) != 1:
                yield entry, bias if fits else None

    def _silent(self) -> Iterator[Cause]:
        """Units that no sample wakes: their own weights, and the weights that read them."""
        spots = torch.zeros(self.space.size, dtype=torch.bool)
        names = []
        for entry, bias in self._groups():
            if len(entry.shape) < 2:
                continue
            # Everything behind the layer is drawn anew, so that a unit which is only not listened to is not called silent.
            behind = max(e.offset + e.size for e in (entry, bias) if e is not None)
            felt = self._tried.slope(self._tried.drawn(13, keep=behind), outputs=True)
            own = felt[entry.offset : entry.offset + entry.size].view(entry.shape[0], -1)
            rows = (own == 0).all(1)
            if bias is not None:
                rows &= felt[bias.offset : bias.offset + bias.size] == 0
                spots[bias.offset : bias.offset + bias.size] |= rows
            columns = (own == 0).all(0)[None].expand(own.shape)  # what it reads is 0 on every sample
            spots[entry.offset : entry.offset + entry.size] |= (rows[:, None] | columns).reshape(-1)
            names += [entry.name] if bool(rows.any()) else []
        if names:
            words = f"from units that are silent on every sample (dead units of {', '.join(names)})"
            yield Cause(words, partial(unit_vectors, spots), int(spots.sum()))

    def _pairs(self) -> Iterator[Cause]:
        """Two tensors, one of which undoes what is done to the other: scales of units, or any mixture of them."""
        draw = torch.Generator().manual_seed(17)
        named = {entry.name: entry for entry in self.entries}
        pairs = ((*group, second) for group in self._groups() for second in self.entries if second not in group)
        for first, bias, second in islice((pair for pair in pairs if reads(pair[2], units(pair[0]))), TRIES):
            h, theta = units(first), self._tried.point
            scale = torch.exp(0.5 * torch.randn(h, generator=draw, dtype=torch.float64))
            if not self._tried.same(mixed(theta, first, bias, second, torch.diag(scale), torch.diag(1 / scale))):
                continue
            behind = named.get(f"{second.name.rpartition('.')[0]}.bias".lstrip("."))
            pair = Pair(first, bias, second, behind if behind not in (first, bias, second) else None)
            names = f"{first.name} and {second.name}"
            mix = torch.eye(h, dtype=torch.float64) + 0.3 * torch.randn(h, h, generator=draw, dtype=torch.float64) / h**0.5
            if min(len(first.shape), len(second.shape)) > 1 and self._tried.same(
                mixed(theta, first, bias, second, mix, torch.linalg.inv(mix))
            ):
                yield Cause(f"from {names}, which are factors of one linear map (factorisation)", self._at(pair.linear))
                continue
            yield Cause(f"from the scale of each unit between {names}", self._at(pair.scales))
            if (
                pair.bias
                and pair.behind
                and self._tried.same(pair.moved(theta, torch.randn(h, generator=draw, dtype=torch.float64)))
            ):
                yield Cause(f"from {pair.bias.name}, which {pair.behind.name} makes up for", self._at(pair.biases))

    def _normalised(self) -> Iterator[Cause]:
        """Tensors whose rows, or which as a whole, may have any scale: what comes behind divides it out."""
        draw = torch.Generator().manual_seed(23)
        for entry, bias in self._groups():
            if len(entry.shape) < 2:
                continue
            h = entry.shape[0]
            for rows in (h, 1):
                scale = torch.exp(0.5 * torch.randn(rows, generator=draw, dtype=torch.float64)).to(self._tried.theta)
                theta = self._tried.point.clone()
                for part in (entry, bias):
                    if part is not None:
                        own = theta[part.offset : part.offset + part.size].view(rows, -1)
                        own.mul_(scale[:, None])
                if self._tried.same(theta, 1e-3):  # a normalisation adds a little to what it divides by
                    each = "each row" if rows > 1 else "the whole"
                    words = f"from the scale of {each} of {entry.name}, which a normalisation removes"
                    own_scales = partial(scales, [part for part in (entry, bias) if part is not None], rows)
                    yield Cause(words, self._at(own_scales))
                    break


def zero_modes(objective: Objective, kind: str, members: Sequence[int]) -> ZeroModes:
    """Zero eigenvalues of the curvature `kind` over the tensors `members` that are there at every theta, at least, and why."""
    return ZeroModeSearch(objective, kind, members).always()
