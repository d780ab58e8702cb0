"""Curvature operators against dense torch.func matrices in float64, and what only they promise."""

import functools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landscape_core.measuring.symmetries import equal_diagonals
from landscape_core.objective import Objective
from landscape_core.objective.curvature import HessianOperator, checks
from landscape_core.specs import InputError
from landscape_core.tasks.losses import squared_error

from ..cases import CASES, Case, Referee, cnn, mlp, relu_mlp, sizes_of, tanh_mlp, tokens_loss

SMALL = [case for case in CASES if case.curvature]


def scores_of(outputs):
    found = outputs["logits"] if isinstance(outputs, dict) else getattr(outputs, "logits", outputs)
    return found[0] if isinstance(found, tuple) else found


def cubic(outputs: Tensor, targets: Tensor) -> Tensor:
    """A loss of nobody's: not convex, no likelihood."""
    return (outputs**3 / 3 + torch.sin(outputs[:, :1] * outputs)).mean() + outputs[torch.arange(len(targets)), targets].mean()


def summed(outputs, targets):
    return F.cross_entropy(outputs, targets, reduction="sum")


MORE = [
    Case("cnn-squared", cnn, squared_error, sizes_of(2, 6, 6)),
    Case("cnn-cubic", cnn, cubic, sizes_of(2, 6, 6)),
    Case("relu-mlp-cubic", relu_mlp, cubic, sizes_of(4)),
    Case("relu-mlp-sum", relu_mlp, summed, sizes_of(4, sizes=(1, 7, 2)), {"reduction": "sum"}),
    Case("tanh-mlp-squared-classes", tanh_mlp, squared_error, sizes_of(4)),
    Case("smoothed", tanh_mlp, nn.CrossEntropyLoss(label_smoothing=0.2), sizes_of(4)),
    Case("gelu", lambda: mlp(4, 5, 5, 3, activation=nn.GELU), F.cross_entropy, sizes_of(4)),
]
ALL = [*SMALL, *MORE]
by_name = {case.name: case for case in ALL}


def objective(case: Case, dtype=torch.float64) -> Objective:
    return Objective(*case.build(dtype), dtype=dtype, **case.options)


def small(model=tanh_mlp, loss=F.cross_entropy, batches=None, **options) -> Objective:
    return objective(Case("small", model, loss, batches or sizes_of(4), options))


class Dense:
    """Dense matrices at a point beside the given weights, by torch.func and plain loops; nothing of ours."""

    def __init__(self, case: Case):
        self.case, self.referee = case, Referee(case)
        self.theta = self.referee.theta + 0.1 * torch.randn(
            len(self.referee.theta), generator=torch.Generator().manual_seed(1)
        ).to(torch.float64)
        sizes = [len(y) for _, y in self.referee.batches]
        self.weights = [1.0 if case.options.get("reduction") == "sum" else n / sum(sizes) for n in sizes]

    def _batches(self):
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            for (x, y), weight in zip(self.referee.batches, self.weights, strict=True):
                outputs = self.referee.outputs(self.theta.clone().requires_grad_(), x)  # PyTorch's fast paths differ
                z = scores_of(outputs).detach()
                jacobian = torch.func.jacrev(lambda t, x=x: scores_of(self.referee.outputs(t, x)))(self.theta)
                yield y, weight, z, jacobian.reshape(-1, len(self.theta)), outputs

    def loss(self, outputs, z, y):
        if isinstance(outputs, dict):
            return self.referee.loss({"logits": z}, y)
        if not isinstance(outputs, (Tensor, tuple)):
            return self.referee.loss(type(outputs)(logits=z), y)
        return self.referee.loss(z, y)

    @functools.cached_property
    def hessian(self) -> Tensor:
        return self.referee.hessian(self.theta)

    @functools.cached_property
    def gauss_newton(self) -> Tensor:
        found = torch.zeros(len(self.theta), len(self.theta), dtype=torch.float64)
        for y, weight, z, j, outputs in self._batches():
            middle = torch.func.hessian(lambda t, y=y, o=outputs: self.loss(o, t, y).reshape(()))(z.detach())
            found += weight * j.T @ middle.reshape(z.numel(), -1) @ j
        return found

    @functools.cached_property
    def empirical(self) -> Tensor:
        """Each sample's gradient from a forward pass of that sample alone."""
        found = torch.zeros(len(self.theta), len(self.theta), dtype=torch.float64)
        summing = self.case.options.get("reduction") == "sum"
        n = sum(len(y) for _, y in self.referee.batches)
        for x, y in self.referee.batches:
            for i in range(len(y)):
                row = torch.utils._pytree.tree_map(lambda t, i=i: t[i : i + 1], x)
                g = torch.func.grad(lambda t, row=row, i=i, y=y: self.referee.loss(self.referee.outputs(t, row), y[i : i + 1]))(
                    self.theta
                )
                found += torch.outer(g, g) / (1 if summing else n)
        return found


@functools.cache
def dense(name: str) -> Dense:
    return Dense(by_name[name])


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-10) -> bool:
    return float((found - expected).abs().max()) <= tolerance * float(expected.abs().max())


# -- every operator against the dense matrix ----------------------------------------------------------------------------


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_hessian_and_gauss_newton_are_the_dense_ones(case):
    referee = dense(case.name)
    given = objective(case)
    operators = {"hessian": given.hessian(referee.theta), "gauss_newton": given.gauss_newton(referee.theta)}
    vectors = torch.randn(len(referee.theta), 6, generator=torch.Generator().manual_seed(2)).double()
    for name, operator in operators.items():
        expected = getattr(referee, name)
        assert operator.shape == expected.shape
        assert operator.dtype == torch.float64
        assert close(operator @ vectors, expected @ vectors), name
        assert not operator.notes or "attention" in operator.notes[0]
    assert given.counts["products"] == 12
    assert (given.counts["gradients"], given.hessian().kind, given.gauss_newton().kind) == (0, "hessian", "ggn")
    if len(vectors) < 80:
        assert close(operators["hessian"].dense(), referee.hessian)
        assert close(operators["gauss_newton"].dense(), referee.gauss_newton)

    single = objective(case, torch.float32)
    for name in operators:
        found = getattr(single, name)(referee.theta.float()) @ vectors.float()
        expected = getattr(referee, name) @ vectors
        assert found.dtype == torch.float32
        assert (found.double() - expected).norm() <= 1e-4 * expected.norm(), name


@pytest.mark.parametrize("case", [c for c in ALL if not c.mixes], ids=lambda case: case.name)
def test_the_empirical_fisher_is_the_dense_one(case):
    if case.name == "segmentation" or case.name == "padded-encoder":
        pytest.skip("targets or masks that single rows of the referee do not fit")
    referee = dense(case.name)
    given = objective(case)
    v = torch.randn(len(referee.theta), generator=torch.Generator().manual_seed(2)).double()
    assert close(given.empirical_fisher(referee.theta) @ v, referee.empirical @ v)
    single = objective(case, torch.float32).empirical_fisher(referee.theta.float())
    assert (single @ v - referee.empirical @ v).norm() <= 1e-4 * (referee.empirical @ v).norm()


@pytest.mark.parametrize(
    ("model", "loss", "batches", "options"),
    [
        (lambda: mlp(4, 6, 5, 3), nn.CrossEntropyLoss(torch.tensor([1.0, 3, 0.5])), sizes_of(4), {}),
        (lambda: mlp(4, 5, 3, extra=nn.BatchNorm1d), F.cross_entropy, sizes_of(4), {"batchnorm": "batch"}),
    ],
    ids=["class-weights", "batchnorm"],
)
def test_samples_that_see_each_other_have_no_empirical_fisher(model, loss, batches, options):
    given = objective(Case("mixing", model, loss, batches, options))
    with pytest.raises(InputError, match="see each other"):
        given.empirical_fisher() @ given.theta


FISHER = [
    "linear-softmax",
    "relu-mlp",
    "tanh-mlp",
    "tanh-mlp-sum",
    "linear-mse",
    "tanh-mlp-mse",
    "segmentation",
    "language-model",
]
FISHER += ["nested-inputs", "two-inputs", "odd-parameters", "cnn-batchnorm", "transformer", "cnn-squared"]


@pytest.mark.parametrize("name", FISHER)
def test_the_exact_fisher_is_the_expected_outer_product_of_scores(name):
    """Categorical labels are summed over with their probabilities; Gaussian ones give J'J over the variance C / 2."""
    case, referee = by_name[name], dense(name)
    found = objective(case).fisher(referee.theta)
    expected = torch.zeros(found.shape, dtype=torch.float64)
    for y, weight, z, j, _ in referee._batches():
        if name in ("linear-mse", "tanh-mlp-mse", "cnn-squared"):
            expected += weight / len(y) * 2 / z.shape[1] * j.T @ j
            continue
        dim = 2 if name == "language-model" else 1
        p = z.movedim(dim, -1).softmax(-1).reshape(-1, z.shape[dim])
        j = j.reshape(*z.shape, -1).movedim(dim, -2).reshape(len(p), p.shape[1], -1)
        scale = weight if case.options.get("reduction") == "sum" else weight / len(p)
        for label in range(p.shape[1]):
            s = torch.einsum("nc,ncp->np", F.one_hot(torch.full((len(p),), label), p.shape[1]) - p, j)
            expected += scale * (p[:, label, None] * s).T @ s
    vectors = torch.randn(len(expected), 5, generator=torch.Generator().manual_seed(2)).double()
    assert close(found @ vectors, expected @ vectors)
    assert close(objective(case).gauss_newton(referee.theta) @ vectors, expected @ vectors)


@pytest.mark.parametrize("name", ["tanh-mlp-sum", "tanh-mlp-mse", "segmentation"])
def test_the_sampled_fisher_is_unbiased_and_fixed_by_its_seed(name):
    given = objective(by_name[name])
    v = torch.randn(given.space.size, generator=torch.Generator().manual_seed(0)).double()
    one = given.fisher(labels="sampled", seed=3)
    assert float(v @ (one @ v)) > 0
    before = one @ v
    assert torch.equal(one @ v, before)
    assert torch.equal(given.fisher(labels="sampled", seed=3, memory=0) @ v, before)
    assert not torch.equal(given.fisher(labels="sampled", seed=4) @ v, before)
    draws = torch.stack([v @ (given.fisher(labels="sampled", seed=seed) @ v) for seed in range(60)])
    assert abs(float(draws.mean() - v @ (given.fisher() @ v))) <= 4 * float(draws.std()) / 60**0.5
    assert float(draws.std()) > 0


@pytest.mark.parametrize(
    "loss",
    [cubic, nn.CrossEntropyLoss(label_smoothing=0.2), nn.CrossEntropyLoss(torch.tensor([1.0, 3, 0.5])), lambda o, t: o.mean()],
)
def test_a_loss_that_is_no_likelihood_has_no_fisher(loss):
    given = small(loss=loss)
    with pytest.raises(InputError, match="loss that is a likelihood") as caught:
        given.fisher() @ given.theta
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="labels must be"):
        given.fisher(labels="true")


def test_ignored_targets_do_not_count_in_the_fisher():
    x, y = sizes_of(4, sizes=(9,))()[0]
    y[::3] = -100
    model = tanh_mlp().double()
    given = Objective(model, F.cross_entropy, [(x, y)]).fisher()
    kept = Objective(model, F.cross_entropy, [(x[y >= 0], y[y >= 0])]).fisher()
    assert close(given.dense(), kept.dense())
    draws = Objective(model, F.cross_entropy, [(x, y)]).fisher(labels="sampled")
    assert torch.linalg.matrix_rank(draws.dense()) <= 6


def test_a_language_models_fisher_takes_scores_inside_an_object():
    assert by_name["language-model"].loss is tokens_loss
    assert objective(by_name["language-model"]).fisher(labels="sampled").dense().trace() > 0


# -- oracles --------------------------------------------------------------------------------------------------------------


def test_the_digits_network_has_exactly_its_hundred_and_one_zero_modes():
    """Tanh 64-20-10: h + 1 from the softmax's shift and h for each of the four constant pixels."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    x, _, y, _ = train_test_split(data.data / 16, data.target, test_size=0.2, random_state=0, stratify=data.target)
    x = torch.tensor((x - x.mean()) / x.std())[:200]
    constant = int((x.std(0) == 0).sum())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = mlp(64, 20, 10).double()
    given = Objective(model, F.cross_entropy, [(x[:150], torch.tensor(y[:150])), (x[150:], torch.tensor(y[150:200]))])
    found = given.hessian().dense()
    eigenvalues = torch.linalg.eigvalsh(found)
    assert int((eigenvalues.abs() <= 1e-10 * eigenvalues.max()).sum()) == 21 + 20 * constant


@pytest.mark.parametrize(("activation", "equal"), [(nn.ReLU, True), (nn.Tanh, False)])
def test_hessian_and_gauss_newton_have_one_trace_for_relu_only(activation, equal):
    given = small(lambda: mlp(4, 6, 5, 3, activation=activation), batches=sizes_of(4, sizes=(30, 10)))
    traces = [operator.dense().trace() for operator in (given.hessian(), given.gauss_newton())]
    assert (abs(traces[0] - traces[1]) < 1e-12 * traces[1]) == equal
    rescaled = given.theta.clone()
    parts = given.space.split(rescaled)
    w1, b1, w2 = parts["0.weight"], parts["0.bias"], parts["2.weight"]
    gradient = given.space.split(given.gradient())
    slope = (gradient["0.weight"] * w1).sum(1) + gradient["0.bias"] * b1 - (gradient["2.weight"] * w2).sum(0)
    assert (float(slope.abs().max()) < 1e-14) == equal


def test_batchnorm_on_the_batch_makes_weights_before_it_scale_free():
    """H w = -g for the weights before a BatchNorm, whose scale changes nothing; their bias has no curvature at all."""
    net = lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5, eps=1e-13), nn.Tanh(), nn.Linear(5, 3))  # noqa: E731
    given = objective(Case("bn", net, F.cross_entropy, sizes_of(4, sizes=(9, 7)), {"batchnorm": "batch"}))
    w = torch.zeros_like(given.theta)
    given.space.split(w)["0.weight"].copy_(given.space.split(given.theta)["0.weight"])
    gradient = given.gradient()
    assert abs(float(gradient @ w)) < 1e-12
    block = given.hessian().restrict("0.weight")
    own = given.space.split(gradient)["0.weight"].reshape(-1)
    assert close(block @ given.space.split(given.theta)["0.weight"].reshape(-1), -own, 1e-9)
    assert float(given.hessian().restrict("0.bias").dense().abs().max()) < 1e-12


# -- blocks, memory, manners ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["hessian", "gauss_newton", "fisher", "empirical_fisher"])
def test_a_restricted_operator_is_the_diagonal_block(kind):
    given = small(lambda: mlp(4, 6, 5, 3, activation=nn.ReLU))
    whole = getattr(given, kind)()
    matrix = whole.dense()
    for names in ("2", ["2.bias"], ["4", "0.weight"], ["0", "2", "4"]):
        wanted = [names] if isinstance(names, str) else names
        entries = [e for e in given.space.entries if any(e.name == n or e.name.startswith(f"{n}.") for n in wanted)]
        index = torch.cat([torch.arange(e.offset, e.offset + e.size) for e in entries])
        block = whole.restrict(names)
        assert block.names == tuple(e.name for e in entries)
        assert block.kind == whole.kind
        assert block.shape == (len(index), len(index))
        assert close(block.dense(), matrix[index][:, index], 1e-13)
    assert whole.restrict("2").restrict("2.bias").shape == (5, 5)
    for bad in ("5", "2.we", [], ["0", "nothing"]):
        with pytest.raises(InputError, match="parameter"):
            whole.restrict(bad)
    with pytest.raises(InputError, match="no parameter or layer"):
        whole.restrict("2").restrict("0")


@pytest.mark.parametrize("kind", ["hessian", "gauss_newton", "fisher", "empirical_fisher"])
@pytest.mark.parametrize("model", [tanh_mlp, cnn], ids=["mlp", "cnn"])
def test_kept_pieces_and_new_ones_give_the_same_and_memory_decides(kind, model):
    shape = (4,) if model is tanh_mlp else (2, 6, 6)
    given = small(model, batches=sizes_of(*shape, sizes=(40, 24, 16)))
    v = torch.randn(given.space.size, 2, generator=torch.Generator().manual_seed(0)).double()
    make = getattr(given, kind)
    if model is tanh_mlp and kind == "hessian":
        make = functools.partial(make, method="graph")
    kept, never = make(), make(memory=0)
    first = kept @ v
    assert torch.equal(kept @ v, first)
    assert torch.equal(never @ v, first)
    assert torch.equal(never @ v, first)
    pieces = len(given.chunks("train"))
    assert (kept._pieces.built, never._pieces.built) == (pieces, 2 * pieces)
    assert len(kept._pieces._kept) == pieces
    assert not never._pieces._kept
    ((constant, per_row),) = kept._pieces.linear.values()
    some = make(memory=int(2 * constant + 65 * per_row))
    assert torch.equal(some @ v, first)
    assert 0 < len(some._pieces._kept) < pieces


def test_memory_is_measured_for_each_size_of_images():
    batches = [pair for side in (4, 24, 24) for pair in sizes_of(2, side, side, sizes=(16,))()]
    model = lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten())  # noqa: E731
    given = Objective(model().double(), F.cross_entropy, batches, dtype=torch.float64)
    operator = given.hessian(memory=1 << 18)
    operator @ given.theta
    assert len(operator._pieces.linear) == 2
    assert list(operator._pieces._kept) == [0]


@pytest.mark.foreign
def test_models_and_losses_of_whole_batches_have_products():
    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 3)

        def forward(self, x):
            assert len(x) == 32, "as it was exported"
            return torch.tanh(self.conv(x)).mean((2, 3))

    for loss in (F.cross_entropy, lambda o, y: F.cross_entropy(o, y) + o[[31]].sum() ** 2):
        given = Objective(Whole(), loss, sizes_of(2, 5, 5, sizes=(32,))(), dtype=torch.float64)
        v = torch.ones(given.space.size).double()
        assert close(given.hessian() @ v, HessianOperator(given, given.theta) @ v)


def test_the_plain_reference_agrees():
    for name in ("cnn-batchnorm", "transformer", "odd-parameters"):
        given = objective(by_name[name])
        v = torch.randn(given.space.size, 3, generator=torch.Generator().manual_seed(0)).double()
        assert close(given.hessian() @ v, HessianOperator(given, given.theta) @ v, 1e-12)


def test_an_operator_keeps_its_point_whatever_comes_after():
    given = small()
    v = torch.ones(given.space.size).double()
    for make in (given.hessian, given.gauss_newton, given.fisher, given.empirical_fisher):
        theta = given.theta.clone()
        operator = make(theta)
        before = operator @ v
        theta.add_(1)
        given.loss(theta)
        other = make(theta) @ v
        assert torch.equal(operator @ v, before)
        assert not torch.allclose(other, before)
        assert (operator @ torch.zeros(len(v), 0)).shape == (len(v), 0)
        assert (operator @ v.float().requires_grad_()).dtype == torch.float64
        with torch.inference_mode():
            assert torch.equal(operator @ v.clone(), before)
        with pytest.raises(InputError, match="vectors must have shape"):
            operator @ torch.ones(3)
        with pytest.raises(InputError, match="theta must have shape"):
            make(theta[1:])


def test_a_cancelled_product_leaves_nothing_behind():
    """An exception in the middle of the data: no count, no half product, and the next one is right."""
    stop = []

    def loss(outputs, targets):
        if stop and len(targets) == 4:
            raise KeyboardInterrupt
        return F.cross_entropy(outputs, targets)

    given = small(loss=loss, batches=sizes_of(4, sizes=(5, 4, 7)))
    v = torch.ones(given.space.size).double()
    for make in (given.hessian, given.gauss_newton, given.fisher, given.empirical_fisher):
        for memory in (None, 0):
            expected = make() @ v
            operator, before = make(memory=memory), given.counts.copy()
            stop.append(1)
            with pytest.raises(KeyboardInterrupt):
                operator @ v
            stop.clear()
            assert given.counts == before
            assert operator.notes == ()
            assert torch.equal(operator @ v, expected)
    assert given.loss() == small(batches=sizes_of(4, sizes=(5, 4, 7))).loss()


@pytest.mark.parametrize("model", [tanh_mlp, cnn], ids=["chain", "graph"])
def test_the_callers_modes_do_not_reach_into_products(model):
    shape = (4,) if model is tanh_mlp else (2, 6, 6)
    given = objective(Case("modes", model, F.cross_entropy, sizes_of(*shape)), torch.float32)
    v = torch.ones(given.space.size)
    kept = given.hessian()
    expected = kept @ v
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        assert torch.equal(kept @ v, expected)
        assert torch.equal(given.hessian(memory=0) @ v, expected)
    with torch.inference_mode():
        assert torch.equal(given.hessian() @ v, expected)


def test_dense_matrices_have_a_limit():
    big = Objective(nn.Linear(300, 11), F.cross_entropy, (torch.randn(2, 300), torch.tensor([0, 1])))
    with pytest.raises(InputError, match="at most 3000"):
        big.hessian().dense()
    assert big.hessian().restrict("bias").dense().shape == (11, 11)


# -- what a person must know ------------------------------------------------------------------------------------------------


class Forgetful(torch.autograd.Function):
    """x^2 whose backward is right but forgets that it depends on x."""

    @staticmethod
    def forward(ctx, x):
        ctx.slope = 2 * x.detach()
        return x**2

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.slope


class Lopsided(torch.autograd.Function):
    """x^2 with a second derivative that is off by a factor."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * (3 * x - x.detach())


@pytest.mark.parametrize("function", [Forgetful, Lopsided])
def test_curvature_that_is_silently_wrong_is_found_and_replaced(function):
    class Net(nn.Module):
        def __init__(self, square):
            super().__init__()
            self.first, self.last, self.square = nn.Linear(4, 5), nn.Linear(5, 3), square

        def forward(self, x):
            return self.last(self.square(self.first(x)))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        wrong = Net(function.apply).double()
    right = Net(torch.square).double()
    right.load_state_dict(wrong.state_dict())
    batches = sizes_of(4)()
    found, expected = (Objective(net, F.cross_entropy, batches).hessian() for net in (wrong, right))
    v = torch.randn(found.shape[0], 2, generator=torch.Generator().manual_seed(0)).double()
    assert close(found @ v, expected @ v, 1e-6)
    assert (found.method, expected.notes) == ("differences", ())
    assert "differences of gradients" in found.notes[0]
    block = found.restrict("last")
    assert close(block @ v[-18:], expected.restrict("last") @ v[-18:], 1e-6)
    assert block.notes[0] == found.notes[0]
    assert found.objective.counts["gradients"] == 0
    assert found.objective.counts["products"] == 4


@pytest.mark.parametrize("name", ["relu-mlp", "cnn-batchnorm", "mlp-batchnorm-batch", "gru", "parametrized", "relu-mlp-cubic"])
def test_kinks_do_not_trip_the_first_look(name):
    """Also with zero biases and inputs, where every hidden unit of some sample sits on its kink."""
    case = by_name[name]
    given = objective(case, torch.float32)
    flat = torch.where(given.space.ignored, 0.0, given.theta)
    operator = given.hessian(flat)
    operator @ flat
    assert operator.method in ("graph", "chain")
    x, y = sizes_of(4)()[0]
    zero = Objective(mlp(4, 5, 3, activation=nn.ReLU).double(), F.cross_entropy, [(0 * x, y)])
    operator = zero.hessian(torch.zeros_like(zero.theta))
    operator @ torch.ones_like(zero.theta)
    assert not any("differences" in note for note in operator.notes)


def test_half_a_million_kinks_do_not_trip_the_first_look():
    """A step of 1e-6 crosses some in every direction: differences taken there are no second derivatives."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Conv2d(3 if i == 0 else 8, 8, 3, padding=1) for i in range(9)]
        body = [part for conv in layers for part in (conv, nn.ReLU())]
        model = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
        for p in model.parameters():
            p.data.mul_(2)
        given = Objective(model, F.cross_entropy, [(torch.randn(4, 3, 64, 64), torch.arange(4))])
    operator = given.hessian()
    operator @ given.theta
    assert operator.method == "graph"


def test_a_loss_is_recognised_though_the_network_is_sure_of_every_class():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
        for p in model.parameters():
            p.data.mul_(20)
        given = Objective(model, F.cross_entropy, [(torch.randn(40, 4), torch.randint(0, 3, (40,)))])
    looked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "_examine", lambda small: looked.append(small) or (True, ""))
        given.hessian() @ given.theta
    assert looked == []


def test_differences_on_demand():
    given = small()
    v = torch.randn(given.space.size, generator=torch.Generator().manual_seed(0)).double()
    operator = given.hessian(method="differences")
    assert close(operator @ v, given.hessian() @ v, 1e-6)
    assert "differences" in operator.notes[0]
    assert not (operator @ torch.zeros_like(v)).any()
    with pytest.raises(InputError, match="method must be"):
        given.hessian(method="magic")


def test_attention_and_zero_products_are_called_out():
    given = objective(by_name["transformer"])
    operator = given.hessian()
    assert operator.notes == ()
    operator @ given.theta
    assert "math backend" in operator.notes[0]

    odd = objective(by_name["odd-parameters"])
    unused = odd.hessian().restrict("unused")
    assert not (unused @ torch.ones(unused.shape[0])).any()
    assert unused.notes == ("the only product was exactly zero: the loss has no curvature along that direction",)
    whole = odd.hessian()
    whole @ torch.ones(whole.shape[0])
    assert whole.notes == ()
    whole @ torch.zeros(whole.shape[0])
    assert whole.notes == ()


def test_two_inputs_and_regression_reach_every_operator():
    for name in ("two-inputs", "tanh-mlp-mse"):
        given = objective(by_name[name])
        for make in (given.hessian, given.gauss_newton, given.fisher, given.empirical_fisher):
            matrix = make().dense()
            assert torch.equal(matrix, matrix.T)


CHAINS = ["relu-mlp", "tanh-mlp", "tanh-mlp-mse", "tanh-mlp-sum", "relu-mlp-cubic", "gelu", "linear-softmax", "class-weights"]


@pytest.mark.parametrize("name", CHAINS)
def test_chains_of_layers_take_their_own_rule_and_blocks(name):
    referee = dense(name)
    operator = objective(by_name[name]).hessian(referee.theta)
    vectors = torch.randn(len(referee.theta), 37, generator=torch.Generator().manual_seed(2)).double()
    assert close(operator @ vectors, referee.hessian @ vectors)
    assert operator.method == "chain"
    assert close(operator @ vectors, operator.objective.hessian(referee.theta, method="graph") @ vectors, 1e-12)


def test_a_chain_with_tied_and_frozen_layers_and_what_is_no_chain():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4, bias=False), nn.Linear(4, 3)
            self.b.weight = self.a.weight
            self.frozen = nn.Linear(4, 4).requires_grad_(False)

        def forward(self, x):
            return self.c(torch.tanh(self.frozen(torch.sigmoid(self.b(F.gelu(self.a(x.flatten(1))))))))

    given = objective(Case("tied", Tied, F.cross_entropy, sizes_of(2, 2)))
    operator = given.hessian()
    v = torch.randn(given.space.size, 3, generator=torch.Generator().manual_seed(0)).double()
    assert close(operator @ v, HessianOperator(given, given.theta) @ v, 1e-12)
    assert operator.method == "chain"
    other = objective(by_name["cnn-batchnorm"])
    with pytest.raises(InputError, match="no chain"):
        other.hessian(method="chain") @ other.theta


@pytest.mark.parametrize("name", by_name)
def test_equal_diagonals_are_recognised(name):
    found = dense(name)
    hessian, other = found.hessian.diagonal(), found.gauss_newton.diagonal()
    same = torch.allclose(hessian, other, rtol=1e-9, atol=1e-12 * float(other.abs().max()))
    known = equal_diagonals(objective(by_name[name]))
    assert known <= same
    if type(scores := found.referee.outputs(found.theta, found.referee.batches[0][0])) is Tensor and scores.dim() == 2:
        assert known == same


def test_a_parameter_that_acts_twice_has_a_diagonal_of_its_own():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x):
            return self.last(torch.relu(self.first(torch.relu(self.first(x)))))

    assert not equal_diagonals(small(Tied))
    assert equal_diagonals(small(relu_mlp))
