"""What is a batch, which dimension counts samples, what weighs a batch: held to plain float64 evaluations written out here."""

import dataclasses
import itertools
import types
from collections import UserDict

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from landscape_core.objective import Objective
from landscape_core.objective import batches as batching
from landscape_core.specs import InputError

DRAW = torch.Generator().manual_seed(4)
X, Y = torch.randn(30, 5, generator=DRAW).double(), torch.randint(0, 3, (30,), generator=DRAW)
CUT = (slice(0, 20), slice(20, 30))
CLASS_WEIGHTS = torch.tensor([1.0, 2.0, 0.5]).double()
SEQUENCES = [torch.randn(n, 4, generator=DRAW).double() for n in (5, 3, 6, 2, 4)]
LABELS = torch.tensor([0, 1, 2, 0, 1])


def built(model, *args):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return model(*args).double()


def plain(values, sizes) -> float:
    """The mean over batches of these sizes, written out."""
    return float(sum(float(v.detach()) * n for v, n in zip(values, sizes, strict=True)) / sum(sizes))


# -- which dimension counts samples -----------------------------------------------------------------------------------


class TimeMajor(nn.Module):
    """PyTorch's own layout: (time, samples, features)."""

    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.GRU(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.cell(x)[0])


def by_token(outputs, targets):
    return F.cross_entropy(outputs.reshape(-1, 3), targets.reshape(-1))


def time_major():
    x, y = torch.randn(6, 10, 4, generator=DRAW).double(), torch.randint(0, 3, (6, 10), generator=DRAW)
    return built(TimeMajor), by_token, [(x[:, :8], y[:, :8]), (x[:, 8:], y[:, 8:])], (8, 2), "dimension 1 of the targets"


def time_major_regression():
    x, y = torch.randn(7, 9, 4, generator=DRAW).double(), torch.randn(7, 9, 3, generator=DRAW).double()
    return built(TimeMajor), F.mse_loss, [(x[:, :4], y[:, :4]), (x[:, 4:], y[:, 4:])], (4, 5), "dimension 1 of the targets"


def time_major_one_label():
    x, y = torch.randn(6, 10, 4, generator=DRAW).double(), torch.randint(0, 3, (10,), generator=DRAW)
    loss = lambda o, t: F.cross_entropy(o[-1], t)  # noqa: E731
    return built(TimeMajor), loss, [(x[:, :8], y[:8]), (x[:, 8:], y[8:])], (8, 2), "dimension 0 of the targets"


def beside_labels(first):
    """Class weights in the targets, before or after the labels, as a dict or as a tuple."""

    def make():
        loss = lambda o, t: F.cross_entropy(o, t["labels"], weight=t["weights"])  # noqa: E731
        of = lambda s: {"labels": Y[s], "weights": CLASS_WEIGHTS}  # noqa: E731
        if first:
            of = lambda s: {"weights": CLASS_WEIGHTS, "labels": Y[s]}  # noqa: E731
        return built(nn.Linear, 5, 3), loss, [(X[s], of(s)) for s in CUT], (20, 10), "dimension 0 of the targets['labels']"

    return make


def weights_in_a_tuple():
    loss = lambda o, t: F.cross_entropy(o, t[1], weight=t[0])  # noqa: E731
    return built(nn.Linear, 5, 3), loss, [(X[s], (CLASS_WEIGHTS, Y[s])) for s in CUT], (20, 10), "dimension 0 of the targets[1]"


def a_number_beside():
    loss = lambda o, t: t[0] * F.cross_entropy(o, t[1])  # noqa: E731
    two = torch.tensor(2.0).double()
    return built(nn.Linear, 5, 3), loss, [(X[s], (two, Y[s])) for s in CUT], (20, 10), "dimension 0 of the targets[1]"


def masks():
    loss = lambda o, t: F.cross_entropy(o[t["keep"]], t["labels"][t["keep"]])  # noqa: E731
    keep = torch.arange(30) % 3 > 0
    pairs = [(X[s], {"keep": keep[s], "labels": Y[s]}) for s in CUT]
    return built(nn.Linear, 5, 3), loss, pairs, (20, 10), "dimension 0 of the targets['keep']"


def no_targets():
    return (
        built(nn.Linear, 5, 3),
        lambda o, _: o.square().mean(),
        [(X[s], None) for s in CUT],
        (20, 10),
        "dimension 0 of the inputs",
    )


def flat_tokens():
    """Targets of all tokens in one row, as language models have them."""
    x, y = torch.randn(9, 6, 4, generator=DRAW).double(), torch.randint(0, 3, (9, 6), generator=DRAW)
    pairs = [(x[:7], y[:7].reshape(-1)), (x[7:], y[7:].reshape(-1))]
    return built(nn.Linear, 4, 3), by_token, pairs, (42, 12), "dimension 0 of the targets"


def graphs():
    """Targets a node; the edges of each graph are as many as they are."""
    sizes, edges = (6, 9), (4, 11)
    x, y = [torch.randn(n, 5, generator=DRAW).double() for n in sizes], [torch.arange(n) % 3 for n in sizes]
    index = [torch.randint(0, n, (2, e), generator=DRAW) for n, e in zip(sizes, edges, strict=True)]
    pairs = [((a, e), b) for a, e, b in zip(x, index, y, strict=True)]
    return built(Graph), F.cross_entropy, pairs, sizes, "dimension 0 of the targets"


class Graph(nn.Linear):
    def __init__(self):
        super().__init__(5, 3)

    def forward(self, x, edges):
        h = super().forward(x)
        return h.index_add(0, edges[0], h[edges[1]])


def boxes():
    """Detection: a list of dicts, one an image."""
    of = lambda n: [{"boxes": torch.randn(1 + i % 3, 4, generator=DRAW).double()} for i in range(n)]  # noqa: E731
    loss = lambda o, t: torch.stack([(o[i].mean() - d["boxes"].mean()) ** 2 for i, d in enumerate(t)]).mean()  # noqa: E731
    pairs = [(torch.randn(n, 3, 6, 6, generator=DRAW).double(), of(n)) for n in (2, 5)]
    return built(nn.Conv2d, 3, 2, 3), loss, pairs, (2, 5), "the entries of the targets"


COUNTED = {
    "time-major": time_major,
    "time-major regression": time_major_regression,
    "time-major, one label a sample": time_major_one_label,
    "class weights first": beside_labels(True),
    "class weights last": beside_labels(False),
    "class weights in a tuple": weights_in_a_tuple,
    "a number beside": a_number_beside,
    "masks": masks,
    "no targets": no_targets,
    "flat tokens": flat_tokens,
    "graphs": graphs,
    "boxes": boxes,
}


# A graph whose nodes are cut raises.
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.foreign] if n == "graphs" else []) for n in COUNTED])
def test_batches_weigh_by_the_dimension_that_counts_samples(name):
    model, loss, pairs, sizes, where = COUNTED[name]()
    call = (lambda x: model(*x)) if name == "graphs" else model
    expected = plain([loss(call(x), y) for x, y in pairs], sizes)
    given = Objective(model, loss, pairs)
    assert given.loss() == pytest.approx(expected, rel=1e-12)
    assert given.size() == sum(sizes)
    assert given.sample.words == f"{sum(sizes)} samples in 2 batches, counted along {where}"
    assert not given.sample.guessed
    assert not given.sample.notes
    assert float(given.losses(given.theta[None])) == pytest.approx(expected, rel=1e-12)
    assert given.to(torch.float32).loss() == pytest.approx(expected, rel=1e-5)
    assert given.to(torch.float32).sample.words == given.sample.words


def test_rows_are_never_cut_along_time(monkeypatch):
    monkeypatch.setattr("landscape_core.objective.chunks.CACHE_BYTES", 1)
    model, loss, pairs, _, _ = time_major()
    x, y = (torch.cat([pair[i] for pair in pairs] * 5, 1) for i in (0, 1))
    given = Objective(model, loss, [(x[:, :40], y[:, :40]), (x[:, 40:], y[:, 40:])])
    pieces = given.chunks()
    assert [piece.inputs.shape[:2] for piece in pieces] == [(6, 16), (6, 16), (6, 8), (6, 10)]
    assert given.separate()
    picked = given.batches()[0].pick(torch.tensor([3, 1]))
    assert torch.equal(picked.inputs, x[:, [3, 1]])
    assert torch.equal(picked.targets, y[:, [3, 1]])
    losses = given.sample_losses()
    assert losses.tolist() == pytest.approx(
        [float(loss(model(x[:, i : i + 1]), y[:, i : i + 1])) for i in range(50)], rel=1e-12
    )


@pytest.mark.parametrize("batch_first", [True, False])
def test_what_must_be_guessed_is_said_and_weights_settle_it(batch_first):
    """Sequences padded to the longest of their batch: both dimensions differ from batch to batch."""
    shapes = [(8, 6), (5, 4), (3, 7)] if batch_first else [(6, 8), (4, 5), (7, 3)]
    pairs = [(torch.randn(*s, 4, generator=DRAW).double(), torch.randint(0, 3, s, generator=DRAW)) for s in shapes]
    model = built(nn.Linear, 4, 3)
    values = [by_token(model(x), y) for x, y in pairs]
    given = Objective(model, by_token, pairs)
    assert given.sample.guessed
    assert "guessed among several dimensions" in given.sample.notes[0]
    assert given.loss() == pytest.approx(plain(values, [s[0] for s in shapes]), rel=1e-12)
    tokens = Objective(model, by_token, pairs, weights=lambda _x, y: y.numel())
    assert not tokens.sample.notes
    assert tokens.loss() == pytest.approx(plain(values, [a * b for a, b in shapes]), rel=1e-12)
    numbers = Objective(model, by_token, pairs, weights=[s[1] for s in shapes])
    assert numbers.loss() == pytest.approx(plain(values, [s[1] for s in shapes]), rel=1e-12)


def test_nothing_is_guessed_where_every_dimension_weighs_alike():
    x, y = torch.randn(12, 7, 4).double(), torch.randint(0, 3, (12, 7))
    for pairs in ([(x, y)], [(x[:6], y[:6]), (x[6:], y[6:])]):
        given = Objective(built(nn.Linear, 4, 3), by_token, pairs)
        assert given.size() == 12
        assert not given.sample.guessed


def test_targets_that_are_one_number_a_batch_leave_the_inputs_to_count():
    loss = lambda o, t: o.square().mean() + t.sum()  # noqa: E731
    model = built(nn.Linear, 5, 3)
    for zero in (torch.zeros(()).double(), torch.zeros(1).double()):
        given = Objective(model, loss, [(X[s], zero) for s in CUT])
        assert given.sample.guessed
    same = [(X[i], torch.tensor(float(i)).double()) for i in range(4)]  # a sample a batch
    assert Objective(model, lambda o, t: (o.sum() - t) ** 2, same).size() == 4


# -- weights ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [[1, 3], lambda x, _y: 1.0 if len(x) == 20 else 3.0, torch.tensor([1.0, 3.0])])
def test_given_weights_are_those_of_the_mean_in_values_derivatives_and_curvature(weights):
    model = built(lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)))
    given = Objective(model, F.cross_entropy, [(X[s], Y[s]) for s in CUT], weights=weights)
    parts = [Objective(model, F.cross_entropy, (X[s], Y[s])) for s in CUT]
    v = torch.randn(given.space.size, generator=DRAW).double()
    assert given.loss() == pytest.approx((parts[0].loss() + 3 * parts[1].loss()) / 4, rel=1e-13)
    assert torch.allclose(given.gradient(), (parts[0].gradient() + 3 * parts[1].gradient()) / 4, atol=1e-14)
    for kind in ("hessian", "gauss_newton", "fisher", "empirical_fisher"):
        products = [getattr(part, kind)() @ v for part in parts]
        assert torch.allclose(getattr(given, kind)() @ v, (products[0] + 3 * products[1]) / 4, atol=1e-13), kind
    part = given.slice(given.theta, v[:, None])
    found = part.evaluate([[0.0], [0.1], [0.2], [0.3]])
    assert found["loss"][0] == pytest.approx(given.loss(), rel=1e-12)
    assert given.to(torch.float32).loss() == pytest.approx(given.loss(), rel=1e-5)
    assert given.sample.words == "30 samples in 2 batches, weighed by the weights given"
    with pytest.raises(InputError, match="weights of its own"):
        given.sample_losses()


BAD_WEIGHTS = {
    "few": ([1], r"one number a batch, 2 \(got 1\)"),
    "many": ([1, 2, 3], "got 3"),
    "negative": ([1, -1], "not negative"),
    "nan": ([1, float("nan")], "finite"),
    "infinite": ([float("inf"), 1], "finite"),
    "zeros": ([0, 0], "all be zero"),
    "text": ("ab", "one number a batch"),
    "number": (3, "one a batch, or a function"),
    "a vector a batch": (lambda x, _y: x, "one number a batch"),
    "raises": (lambda x: 1.0, r"weights\(inputs, targets\) fails"),
    "negative function": (lambda x, y: -1.0, "not negative"),
}


@pytest.mark.parametrize("name", BAD_WEIGHTS)
def test_weights_that_are_none_are_refused_in_one_line(name):
    weights, words = BAD_WEIGHTS[name]
    with pytest.raises(InputError, match=words) as caught:
        Objective(built(nn.Linear, 5, 3), F.cross_entropy, [(X[s], Y[s]) for s in CUT], weights=weights)
    assert "\n" not in str(caught.value)


def test_weights_belong_to_means_over_given_batches():
    pairs = [(X[s], Y[s]) for s in CUT]
    summed = lambda o, t: F.cross_entropy(o, t, reduction="sum")  # noqa: E731
    with pytest.raises(InputError, match="weights are for a mean"):
        Objective(built(nn.Linear, 5, 3), summed, pairs, weights=[1, 1], reduction="sum")
    with pytest.raises(InputError, match="give a function"):
        Objective(built(nn.Linear, 5, 3), F.cross_entropy, pairs, weights=[1, 1], test_batches=pairs)


# -- batches that are one dict ----------------------------------------------------------------------------------------


class Optional(nn.Linear):
    def __init__(self):
        super().__init__(5, 3)

    def forward(self, x, mask=None):
        return super().forward(x)


class WithLoss(Optional):
    def forward(self, x, labels=None):
        z = nn.Linear.forward(self, x)
        return {"loss": F.cross_entropy(z, labels), "logits": z}


class Whole(Optional):
    def forward(self, batch):
        return nn.Linear.forward(self, batch["x"]) + 0 * batch.get("labels", batch["x"])[..., :1].sum()


DICTS = {
    "two": lambda of: [of(s) for s in CUT],
    "three": lambda of: [of(slice(a, a + 10)) for a in (0, 10, 20)],
    "one": lambda of: of(slice(0, 30)),
    "a list of one": lambda of: [of(slice(0, 30))],
    "a loader": lambda of: DataLoader([{k: v[0] for k, v in of(slice(i, i + 1)).items()} for i in range(30)], batch_size=8),
    "mappings": lambda of: [UserDict(of(s)) for s in CUT],
}


@pytest.mark.parametrize("form", DICTS)
@pytest.mark.parametrize("model", [Optional, WithLoss, Whole])
@pytest.mark.parametrize("key", ["labels", "targets"])
def test_a_dict_is_the_models_and_its_labels_also_the_losss(model, form, key):
    if model is WithLoss and key != "labels":
        key = "labels"
    net = built(model)
    loss = (lambda o, _t: o["loss"]) if model is WithLoss else F.cross_entropy
    given = Objective(net, loss, DICTS[form](lambda s: {"x": X[s], key: Y[s]}))
    assert given.size() == 30
    assert given.loss() == pytest.approx(float(F.cross_entropy(F.linear(X, net.weight, net.bias), Y)), rel=1e-12)


def test_two_collated_batches_of_a_language_model_are_two():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.head = nn.Embedding(11, 6), nn.Linear(6, 11)

        def forward(self, input_ids, labels=None):
            z = self.head(torch.tanh(self.embedding(input_ids)))
            return {"loss": F.cross_entropy(z[:, :-1].reshape(-1, 11), labels[:, 1:].reshape(-1)), "logits": z}

    ids, model = torch.randint(0, 11, (12, 7), generator=DRAW), built(Model)
    pairs = [{"input_ids": i, "labels": i} for i in (ids[:8], ids[8:])]
    given = Objective(model, lambda o, _t: o["loss"], pairs)
    assert given.loss() == pytest.approx(plain([model(**b)["loss"] for b in pairs], (8, 4)), rel=1e-12)
    assert given.size() == 12


def test_two_dicts_that_could_be_a_pair_are_refused_where_nothing_tells():
    one, other = ({"x": X[s], "labels": Y[s]} for s in CUT)
    for batches in ((one, other), [one, {**other, "mask": X}]):
        with pytest.raises(InputError, match="could be one pair or two batches"):
            Objective(built(Optional), F.cross_entropy, batches)
    pair = Objective(built(Optional), lambda o, t: F.cross_entropy(o, t["labels"]), [{"x": X}, {"labels": Y}])
    assert pair.size() == 30


# -- lists with an entry a sample ------------------------------------------------------------------------------------


class Ragged(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.GRU(4, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, sequences):
        assert isinstance(sequences, (list, tuple))
        return self.head(self.cell(pack_sequence(list(sequences), enforce_sorted=False))[1][-1])


LISTS = {
    "the last of one": lambda of: [(of(0, 4), LABELS[:4]), (of(4, 5), LABELS[4:])],
    "one batch": lambda of: [(of(0, 5), LABELS)],
    "one sequence each": lambda of: [(of(i, i + 1), LABELS[i : i + 1]) for i in range(5)],
    "uneven": lambda of: [(of(0, 1), LABELS[:1]), (of(1, 3), LABELS[1:3]), (of(3, 5), LABELS[3:])],
}


@pytest.mark.parametrize("form", LISTS)
@pytest.mark.parametrize("kind", ["list", "tuple", "dict"])
def test_a_list_of_sequences_is_one_argument(form, kind):
    if kind == "tuple" and form in ("one batch", "one sequence each"):
        pytest.skip("a tuple whose length never differs has the arguments of the model")
    wrap = {"list": list, "tuple": tuple, "dict": lambda part: {"sequences": part}}[kind]
    model = built(Ragged)
    given = Objective(model, F.cross_entropy, LISTS[form](lambda a, b: wrap(SEQUENCES[a:b])))
    assert given.size() == 5
    assert given.loss() == pytest.approx(float(F.cross_entropy(model(SEQUENCES), LABELS)), rel=1e-12)
    assert len(given.sample_losses()) == 5


def test_a_list_of_arguments_stays_one():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Linear(5, 3), nn.Linear(5, 3)

        def forward(self, a, b):
            return self.left(a) + self.right(b)

    model = built(Two)
    expected = float(F.cross_entropy(model(X, X), Y))
    collated = DataLoader([((a, a), b) for a, b in zip(X, Y, strict=True)], batch_size=8)
    for batches in (collated, [([X[s], X[s]], Y[s]) for s in CUT], [((X[s], X[s]), Y[s]) for s in CUT]):
        assert Objective(model, F.cross_entropy, batches).loss() == pytest.approx(expected, rel=1e-12)
    two = Objective(model, F.cross_entropy, [([X[:2], X[:2]], Y[:2])])  # as many samples as arguments
    assert two.loss() == pytest.approx(float(F.cross_entropy(model(X[:2], X[:2]), Y[:2])), rel=1e-12)


# -- containers -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Record:
    x: torch.Tensor
    name: str = "a"


class Movable:
    def __init__(self, x):
        self.x = x

    def to(self, device):
        return Movable(self.x.to(device))


class Applied(Movable):
    """As graphs of torch_geometric are: `apply` changes the tensors of the object itself."""

    def apply(self, function):
        self.x = function(self.x)
        return self


class Plain:
    def __init__(self, x):
        self.x = x


class Attribute(Optional):
    def forward(self, batch):
        return nn.Linear.forward(self, batch.x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("container", [Record, Movable, Applied])
def test_objects_that_can_be_moved_are(container, dtype):
    model = built(Attribute)
    own = [container(X[s]) for s in CUT]
    given = Objective(model, F.cross_entropy, [(c, Y[s]) for c, s in zip(own, CUT, strict=True)], dtype=dtype)
    expected = float(F.cross_entropy(F.linear(X, model.weight, model.bias), Y))
    assert given.loss() == pytest.approx(expected, rel=1e-5 if dtype == torch.float32 else 1e-12)
    assert all(c.x.dtype == torch.float64 for c in own)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_packed_sequences_are_moved_and_counted(dtype):
    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.head = nn.GRU(4, 3), nn.Linear(3, 3)

        def forward(self, packed):
            return self.head(self.cell(packed)[1][-1])

    model, of = built(Packed), lambda a, b: pack_sequence(SEQUENCES[a:b], enforce_sorted=False)
    given = Objective(model, F.cross_entropy, [(of(0, 3), LABELS[:3]), (of(3, 5), LABELS[3:])], dtype=dtype)
    expected = plain([F.cross_entropy(model(of(a, b)), LABELS[a:b]) for a, b in ((0, 3), (3, 5))], (3, 2))
    assert given.loss() == pytest.approx(expected, rel=1e-5 if dtype == torch.float32 else 1e-12)
    assert given.size() == 5


def test_objects_that_say_nothing_of_moving_pass_as_they_are_or_are_refused():
    model = built(Attribute)
    for container in (Plain, lambda x: types.SimpleNamespace(x=x)):
        pairs = [(container(X[s]), Y[s]) for s in CUT]
        expected = float(F.cross_entropy(F.linear(X, model.weight, model.bias), Y))
        assert Objective(model, F.cross_entropy, pairs).loss() == pytest.approx(expected, rel=1e-12)
        with pytest.raises(InputError, match=r"batches\[0\] holds a \w+, whose tensors cannot be moved .* method to\(device\)"):
            Objective(model, F.cross_entropy, pairs, dtype=torch.float32)


def test_what_fails_when_it_is_moved_is_one_line():
    class Stubborn(Movable):
        def apply(self, function):
            raise NotImplementedError("no\nhere")

    with pytest.raises(InputError, match=r"batches\[1\] cannot be moved to cpu.*no here") as caught:
        Objective(built(Attribute), F.cross_entropy, [(Movable(X), Y), (Stubborn(X), Y)])
    assert "\n" not in str(caught.value)


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batches", "words"),
    [
        (
            [(X, Y, Y)],
            r"batches\[0\] is not an .* it has 3 entries; give .*\[\(x, \(y, \*rest\)\) for x, y, \*rest in batches\]",
        ),
        (DataLoader(TensorDataset(X, Y, torch.arange(30)), batch_size=8), r"batches\[0\] .* 3 entries"),
        (DataLoader(TensorDataset(X), batch_size=8), r"batches\[0\] .* one entry; give \(inputs, None\)"),
        ([(X, Y), X], r"batches\[1\] is not an .* it is a Tensor"),
        ([Movable(X)], r"batches\[0\] is not an .* it is a Movable"),
    ],
    ids=["triple", "loader of triples", "loader of inputs", "tensor", "object"],
)
def test_what_is_no_pair_is_told_how_to_be_one(batches, words):
    with pytest.raises(InputError, match=words) as caught:
        Objective(built(nn.Linear, 5, 3), F.cross_entropy, batches)
    assert "\n" not in str(caught.value)


class Stream(IterableDataset):
    def __iter__(self):
        while True:
            yield torch.zeros(5, dtype=torch.float64), torch.tensor(0)


ENDLESS = {
    "loader": lambda: DataLoader(Stream(), batch_size=8),
    "cycle": lambda: itertools.cycle([(X, Y)]),
    "generator": lambda: ((X, Y) for _ in itertools.count()),
    "dicts": lambda: ({"x": X, "labels": Y} for _ in itertools.count()),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_what_does_not_end_is_refused(kind):
    with pytest.raises(InputError, match=r"did not end after 5,000 batches.*itertools\.islice"):
        Objective(built(Optional), F.cross_entropy, ENDLESS[kind]())
    with pytest.raises(InputError, match=r"test_batches did not end"):
        Objective(built(Optional), F.cross_entropy, (X, Y), test_batches=ENDLESS[kind]())
    some = list(itertools.islice(ENDLESS[kind](), 3))
    assert len(Objective(built(Optional), F.cross_entropy, some).batches()) == 3


def test_large_batches_without_an_end_are_refused_by_their_bytes(monkeypatch):
    monkeypatch.setattr(batching, "MOST_BYTES", 1 << 20)
    with pytest.raises(InputError, match="did not end after"):
        Objective(built(nn.Linear, 5, 3), F.cross_entropy, ((X, Y) for _ in itertools.count()))
    assert Objective(built(nn.Linear, 5, 3), F.cross_entropy, [(X, Y)] * 1000).size() == 30_000  # a list says how long it is
