"""Accuracy is there where it is declared, or where the loss behaves as one of classes; else none rather than a wrong one."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from landscape_core.objective import Objective
from landscape_core.specs import InputError

DRAW = torch.Generator().manual_seed(6)
X, Y = torch.randn(60, 5, generator=DRAW).double(), torch.randint(0, 4, (60,), generator=DRAW)
WEIGHTS = torch.tensor([1.0, 2.0, 0.5, 3.0])
TOKENS = torch.randint(0, 7, (40, 7), generator=DRAW)


def built(model, *args):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return model(*args).double()


def mlp(*extra):
    return built(lambda: nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 4), *extra))


def share(scores, labels, counted=None) -> float:
    right = (scores.argmax(-1) == labels).double()
    return float((right if counted is None else right[counted]).mean())


def by_hand(outputs, targets):
    return (outputs.logsumexp(1) - outputs.gather(1, targets[:, None]).squeeze(1)).mean()


def balanced(outputs, targets):
    costs, counts = F.cross_entropy(outputs, targets, reduction="none"), targets.bincount(minlength=4)
    return (costs / counts[targets]).sum() / (counts > 0).sum()


def smoothed_by_hand(outputs, targets):
    q = 0.1 / 4 + 0.9 * F.one_hot(targets, 4).to(outputs)
    return -(q * outputs.log_softmax(1)).sum(1).mean()


class Temperature(nn.Module):
    def forward(self, outputs, targets):
        return F.cross_entropy(outputs / 0.07, targets)


# -- losses of classes ------------------------------------------------------------------------------------------------

CLASSES = {
    "cross_entropy": F.cross_entropy,
    "module": nn.CrossEntropyLoss(),
    "sum": nn.CrossEntropyLoss(reduction="sum"),
    "class weights": nn.CrossEntropyLoss(WEIGHTS),
    "class weights, sum": nn.CrossEntropyLoss(WEIGHTS, reduction="sum"),
    "class weights in a lambda": lambda o, t: F.cross_entropy(o, t, weight=WEIGHTS.to(o)),
    "class weights in float32": lambda o, t: F.cross_entropy(o.float(), t, weight=WEIGHTS),
    "smoothing": nn.CrossEntropyLoss(label_smoothing=0.2),
    "smoothing and weights": nn.CrossEntropyLoss(WEIGHTS, label_smoothing=0.1),
    "smoothing by hand": smoothed_by_hand,
    "by hand": by_hand,
    "balanced": balanced,
    "temperature": Temperature(),
    "uint8 labels": lambda o, t: F.cross_entropy(o, t.to(torch.uint8)),
    "an offset": lambda o, t: F.cross_entropy(o, t) + 3,
    "one by one": lambda o, t: torch.stack([F.cross_entropy(a[None], b[None]) for a, b in zip(o, t, strict=True)]).mean(),
}


@pytest.mark.parametrize("name", CLASSES)
def test_what_behaves_as_cross_entropy_has_an_accuracy(name):
    model = mlp()
    given = Objective(model, CLASSES[name], (X, Y))
    assert given.evaluate()["accuracy"] == pytest.approx(share(model(X), Y))
    assert given.evaluate()["error"] == pytest.approx(1 - share(model(X), Y))
    assert given.to(torch.float32).evaluate()["accuracy"] == pytest.approx(share(model(X), Y))


LIKELIHOODS = {
    "log-probabilities": (nn.LogSoftmax(1), F.nll_loss),
    "module": (nn.LogSoftmax(1), nn.NLLLoss(WEIGHTS)),
    "by hand": (nn.LogSoftmax(1), lambda o, t: -o.gather(1, t[:, None]).mean()),
    "probabilities": (nn.Softmax(1), lambda o, t: F.nll_loss(o.log(), t)),
    "probabilities by hand": (nn.Softmax(1), lambda o, t: -o.gather(1, t[:, None]).log().mean()),
}


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_what_behaves_as_a_likelihood_has_an_accuracy(name):
    last, loss = LIKELIHOODS[name]
    model = mlp(last)
    assert Objective(model, loss, (X, Y)).evaluate()["accuracy"] == pytest.approx(share(model(X), Y))


IGNORED = {
    "-100": (F.cross_entropy, lambda y: torch.where(y == 1, -100, y)),
    "-1": (nn.CrossEntropyLoss(ignore_index=-1), lambda y: torch.where(y == 2, -1, y)),
    "255": (lambda o, t: F.cross_entropy(o, t, ignore_index=255), lambda y: torch.where(y == 0, 255, y)),
    "a class": (nn.CrossEntropyLoss(ignore_index=3), lambda y: y),
    "a class without weight": (nn.CrossEntropyLoss(torch.tensor([1.0, 0, 1, 1])), lambda y: y),
    "the most frequent": (nn.CrossEntropyLoss(ignore_index=0), lambda y: torch.where(y < 2, 0, y)),
    "masked by hand": (
        lambda o, t: (F.cross_entropy(o, t.clamp(min=0), reduction="none") * (t >= 0)).sum() / (t >= 0).sum(),
        lambda y: torch.where(y == 2, -7, y),
    ),
}


@pytest.mark.parametrize("name", IGNORED)
def test_ignored_labels_do_not_count(name):
    loss, change = IGNORED[name]
    labels, model = change(Y), mlp()
    values = {-100, -1, 255, -7}
    silent = {"a class": {3}, "a class without weight": {1}, "the most frequent": {0}}.get(name, values)
    counted = ~torch.isin(labels, torch.tensor(sorted(silent)))
    assert 0 < int(counted.sum()) < 60
    given = Objective(model, loss, [(X[:13], labels[:13]), (X[13:], labels[13:])])
    expected = share(model(X), labels, counted)
    assert given.evaluate()["accuracy"] == pytest.approx(expected)
    part = given.slice(given.theta, torch.ones(given.space.size, 1).double())
    assert part.evaluate(np.array([[0.0], [1e-3], [2e-3], [3e-3]]))["accuracy"][0] == pytest.approx(expected)


def flat(outputs, targets):
    return F.cross_entropy(outputs.reshape(-1, outputs.shape[-1]), targets.reshape(-1))


LAYOUTS = {
    "classes last, length = classes": (
        lambda: nn.Sequential(nn.Embedding(7, 5), nn.Linear(5, 7)),
        flat,
        TOKENS,
        TOKENS.flip(1),
    ),
    "classes last": (lambda: nn.Sequential(nn.Embedding(7, 5), nn.Linear(5, 9)), flat, TOKENS, TOKENS.flip(1)),
    "targets flat": (lambda: nn.Sequential(nn.Embedding(7, 5), nn.Linear(5, 9)), flat, TOKENS, TOKENS.flip(1).reshape(-1)),
    "outputs flat": (
        lambda: nn.Sequential(nn.Embedding(7, 5), nn.Linear(5, 7), nn.Flatten(0, 1)),
        flat,
        TOKENS,
        TOKENS.flip(1),
    ),
    "classes second, length = classes": (
        lambda: nn.Sequential(nn.Embedding(7, 5), nn.Linear(5, 7), Turned()),
        F.cross_entropy,
        TOKENS,
        TOKENS.flip(1),
    ),
    "pixels": (
        lambda: nn.Conv2d(2, 4, 3, padding=1),
        F.cross_entropy,
        torch.randn(6, 2, 4, 4, generator=DRAW).double(),
        torch.randint(0, 4, (6, 4, 4), generator=DRAW),
    ),
}


class Turned(nn.Module):
    def forward(self, x):
        return x.transpose(1, 2)


@pytest.mark.parametrize("name", LAYOUTS)
def test_classes_lie_where_the_loss_has_them(name):
    make, loss, x, y = LAYOUTS[name]
    model = built(make)
    z = model(x)
    z = z.movedim(1, -1) if name in ("classes second, length = classes", "pixels") else z
    expected = share(z.reshape(-1, z.shape[-1]), y.reshape(-1))
    n = len(x) // 3
    per = len(y) // len(x)
    given = Objective(model, loss, [(x[:n], y[: n * per]), (x[n:], y[n * per :])])
    assert given.evaluate()["accuracy"] == pytest.approx(expected)
    part = given.slice(given.theta, torch.ones(given.space.size, 1).double())
    assert part.evaluate(np.array([[0.0], [1e-3], [2e-3], [3e-3]]))["accuracy"][0] == pytest.approx(expected)


def test_outputs_and_targets_may_hold_more_than_scores_and_labels():
    class Named(nn.Linear):
        def forward(self, x):
            return SimpleNamespace(logits=super().forward(x), hidden=x)

    class Keyed(nn.Linear):
        def forward(self, x):
            return {"logits": super().forward(x), "hidden": x}

    class First(nn.Linear):
        def forward(self, x):
            return super().forward(x), x

    of = {Named: lambda o: o.logits, Keyed: lambda o: o["logits"], First: lambda o: o[0]}
    for kind, scores in of.items():
        model = built(kind, 5, 4)
        given = Objective(model, lambda o, t, scores=scores: F.cross_entropy(scores(o), t), (X, Y))
        assert given.evaluate()["accuracy"] == pytest.approx(share(scores(model(X)), Y))
    model = mlp()
    loss = lambda o, t: F.cross_entropy(o, t["labels"], weight=t["weights"])  # noqa: E731
    given = Objective(model, loss, (X, {"weights": WEIGHTS.double(), "labels": Y}))
    assert given.evaluate()["accuracy"] == pytest.approx(share(model(X), Y))


def test_a_thousand_classes_and_a_large_vocabulary_are_asked_within_bounds():
    for classes, shape in ((1000, (50,)), (60_000, (2, 200))):
        labels = torch.randint(1, classes, shape, generator=DRAW)
        labels[..., ::3] = 0
        model = built(nn.Embedding, 11, 3)
        head = nn.Linear(3, classes).double()
        net = nn.Sequential(model, head)
        x = torch.randint(0, 11, shape, generator=DRAW)
        loss = lambda o, t: F.cross_entropy(o.flatten(0, -2), t.flatten(), ignore_index=0)  # noqa: E731
        with torch.no_grad():
            expected = share(net(x), labels, labels != 0)
        assert Objective(net, loss, (x, labels)).evaluate()["accuracy"] == pytest.approx(expected)


# -- losses of something else -----------------------------------------------------------------------------------------


def shifted(outputs, targets):
    return F.cross_entropy(outputs[:, :-1].reshape(-1, outputs.shape[-1]), targets[:, 1:].reshape(-1))


def shifted_logits(outputs, targets):
    return shifted(outputs["logits"], targets)


class Tied(nn.Module):
    """Likes to repeat its input, so that unshifted tokens are nearly all right."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 12)

    def forward(self, ids):
        return {"logits": F.linear(self.embedding(ids), self.embedding.weight)}


def pull(outputs, targets):
    return ((outputs[:, None] - outputs[None]).pow(2).sum(-1) * (targets[:, None] == targets[None])).mean()


def supervised_contrast(outputs, targets):
    z = F.normalize(outputs, dim=1)
    costs = -(z @ z.T / 0.1).log_softmax(1)
    same = (targets[:, None] == targets[None]).to(z)
    return (costs * same).sum() / same.sum()


def focal(outputs, targets):
    costs = F.cross_entropy(outputs, targets, reduction="none")
    return ((1 - (-costs).exp()) ** 2 * costs).mean()


NONE = {
    "shifted": (lambda: Tied(), shifted_logits, TOKENS, TOKENS),
    "shifted, length = classes": (lambda: nn.Sequential(nn.Embedding(7, 5), nn.Linear(5, 7)), shifted, TOKENS, TOKENS),
    "shifted, one token": (lambda: Tied(), shifted_logits, TOKENS * 0 + 3, TOKENS * 0 + 3),
    "embeddings": (lambda: nn.Linear(5, 16), pull, X, Y),
    "contrastive": (lambda: nn.Linear(5, 16), supervised_contrast, X, Y),
    "in-batch negatives": (lambda: nn.Linear(5, 60), lambda o, _t: F.cross_entropy(o @ o.T, torch.arange(len(o))), X, Y),
    "regression of integers": (lambda: nn.Linear(5, 4), lambda o, t: (o.sum(1) - t).square().mean(), X, Y),
    "squared error of classes": (lambda: nn.Linear(5, 4), lambda o, t: F.mse_loss(o, F.one_hot(t, 4).to(o)), X, Y),
    "margins": (lambda: nn.Linear(5, 4), nn.MultiMarginLoss(), X, Y),
    "focal": (lambda: nn.Linear(5, 4), focal, X, Y),
    "labels of other samples": (lambda: nn.Linear(5, 4), lambda o, t: F.cross_entropy(o, t.roll(1)), X, Y),
    "the next class": (lambda: nn.Linear(5, 4), lambda o, t: F.cross_entropy(o, (t + 1) % 4), X, Y),
    "a penalty of scores": (lambda: nn.Linear(5, 4), lambda o, t: F.cross_entropy(o, t) + 1e-2 * o.square().mean(), X, Y),
    "ordinal": (
        lambda: nn.Linear(5, 4),
        lambda o, t: F.binary_cross_entropy_with_logits(o, (torch.arange(4) < t[:, None]).to(o)),
        X,
        Y,
    ),
    "targets unused": (lambda: nn.Linear(5, 4), lambda o, _t: o.square().mean(), X, Y),
    "less of the first class": (lambda: nn.Linear(5, 4), lambda o, _t: o.mean(), X, Y),
    "probabilities as targets": (lambda: nn.Linear(5, 4), F.cross_entropy, X, F.one_hot(Y, 4).double()),
    "one score": (lambda: nn.Linear(5, 1), lambda o, t: F.mse_loss(o.squeeze(1), t.to(o)), X, Y),
    "counted as ignored by place": (
        lambda: nn.Linear(5, 4),
        lambda o, t: F.cross_entropy(o[: len(o) // 2], t[: len(o) // 2]),
        X,
        Y,
    ),
}


@pytest.mark.parametrize("name", NONE)
def test_what_is_no_loss_of_classes_has_none(name):
    make, loss, x, y = NONE[name]
    given = Objective(built(make), loss, (x, y))
    assert set(given.evaluate()) == {"loss"}
    part = given.slice(given.theta, torch.ones(given.space.size, 1).double())
    assert set(part.evaluate(np.array([[0.0], [0.1], [0.2], [0.3]]))) == {"loss"}


def test_a_wrong_loss_is_none_in_float32_too():
    for name in ("focal", "shifted", "embeddings"):
        make, loss, x, y = NONE[name]
        assert set(Objective(built(make), loss, (x, y), dtype=torch.float32).evaluate()) == {"loss"}


# -- declared ---------------------------------------------------------------------------------------------------------


def top2(outputs, targets):
    return (outputs.topk(2, 1).indices == targets[:, None]).any(1).double().mean()


@pytest.mark.parametrize("loss", [F.cross_entropy, pull, nn.MultiMarginLoss()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_declared_accuracy_takes_the_place_of_the_found_one(loss, dtype):
    model = mlp()
    given = Objective(model, loss, [(X[:13], Y[:13]), (X[13:], Y[13:])], metrics={"accuracy": top2}, dtype=dtype)
    v = torch.randn(given.space.size, 2, generator=torch.Generator().manual_seed(1)).to(dtype)
    cells = np.random.default_rng(0).normal(size=(9, 2))
    found = given.slice(given.theta, v).evaluate(cells)
    for cell, accuracy, error in zip(cells, found["accuracy"], found["error"], strict=True):
        theta = given.theta + v @ torch.from_numpy(cell).to(dtype)
        named = {n: p.double() for n, p in given.space.split(theta).items()}
        z = torch.func.functional_call(model, named, (X,))
        assert accuracy == pytest.approx(float(top2(z, Y)), abs=1.5 / 60)
        assert error == pytest.approx(1 - accuracy)
    assert given.evaluate()["accuracy"] == pytest.approx(float(top2(model(X), Y)), abs=1.5 / 60)


def test_other_metrics_are_evaluated_by_name_weighed_as_the_loss():
    model = mlp()
    names = {"margin": lambda o, t: float((o.gather(1, t[:, None]) - o).mean()), "top2": top2}
    given = Objective(model, F.cross_entropy, [(X[:13], Y[:13]), (X[13:], Y[13:])], metrics=names, weights=[1, 2])
    found = given.evaluate()
    parts = [{n: float(f(model(x), y)) for n, f in names.items()} for x, y in ((X[:13], Y[:13]), (X[13:], Y[13:]))]
    for name in names:
        assert found[name] == pytest.approx((parts[0][name] + 2 * parts[1][name]) / 3)
    assert found["accuracy"] == pytest.approx(share(model(X), Y))
    cells = given.slice(given.theta, torch.ones(given.space.size, 1).double()).evaluate(np.zeros((4, 1)))
    assert cells["top2"] == pytest.approx([found["top2"]] * 4)


def test_a_metric_that_is_no_mean_keeps_batches_whole(monkeypatch):
    monkeypatch.setattr("landscape_core.objective.chunks.CACHE_BYTES", 1)
    monkeypatch.setattr("landscape_core.objective.sweep.CHAIN_ROWS", 16)
    model, spread = mlp(), lambda o, _t: float(o.std(0).max() ** 0.5)
    for names in ({"accuracy": spread}, {"spread": spread}, {"accuracy": top2}):
        given = Objective(model, F.cross_entropy, (X, Y), metrics=names)
        assert (len(given.chunks()) == 1) == (names != {"accuracy": top2})
        found = given.slice(given.theta, torch.ones(given.space.size, 1).double()).evaluate(np.zeros((4, 1)))
        name = next(iter(names))
        assert found[name] == pytest.approx([given.evaluate()[name]] * 4, rel=1e-9)


BAD_METRICS = {
    "loss": ({"loss": top2}, "names other than 'loss'"),
    "error": ({"error": top2}, "names other than"),
    "no function": ({"accuracy": 1}, "to functions"),
    "no number": ({"f1": lambda o, t: o}, r"metric 'f1' must give one number for batches\[0\]"),
    "raises": ({"f1": lambda o, t: o @ t}, r"metric 'f1' must give one number for batches\[0\] \(RuntimeError"),
    "none": ({"accuracy": lambda o, t: None}, "metric 'accuracy' must give one number"),
}


@pytest.mark.parametrize("name", BAD_METRICS)
def test_metrics_that_are_none_are_refused_in_one_line(name):
    metrics, words = BAD_METRICS[name]
    with pytest.raises(InputError, match=words) as caught:
        Objective(mlp(), F.cross_entropy, (X, Y), metrics=metrics).evaluate()
    assert "\n" not in str(caught.value)
