from pathlib import Path

import pytest
import torch
from torch import nn

from landscape_core.checkpoints.weights import fingerprint, load_weights, match_state, save_weights
from landscape_core.specs import InputError


def test_weights_round_trip_with_a_fingerprint_of_their_own(tmp_path):
    tensors = {"b": torch.randn(3, 4), "a": torch.tensor(7), "h": torch.ones(2, dtype=torch.bfloat16), "e": torch.zeros(0, 3)}
    tensors["tied"] = tensors["b"]
    tensors["turned"] = torch.randn(3, 5).T
    mark = save_weights(tmp_path / "w.safetensors", tensors)
    back = load_weights(tmp_path / "w.safetensors", mark)
    assert list(back) == sorted(tensors)
    assert all(torch.equal(back[name], value) for name, value in tensors.items())
    assert fingerprint(dict(reversed(tensors.items()))) == mark == fingerprint(back)
    for other in (
        {**tensors, "b": tensors["b"] + 1e-6},
        {**tensors, "b": tensors["b"].double()},
        {**tensors, "b": tensors["b"].reshape(4, 3)},
        {("c" if name == "b" else name): value for name, value in tensors.items()},
    ):
        assert fingerprint(other) != mark


@pytest.mark.parametrize("keep", [0, 5, 40, -1])
def test_truncated_weights_are_refused_in_one_line(tmp_path, keep):
    file = tmp_path / "w.safetensors"
    save_weights(file, {"a": torch.randn(50)})
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"w.safetensors is truncated or not a safetensors file") as error:
        load_weights(file)
    assert "\n" not in str(error.value)


def test_changed_and_missing_weights_are_refused(tmp_path):
    file = tmp_path / "w.safetensors"
    mark = save_weights(file, {"a": torch.zeros(50)})
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(InputError, match="not what was recorded"):
        load_weights(file, mark)
    with pytest.raises(InputError, match="No such file"):
        load_weights(tmp_path / "none")


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.", "model._orig_mod.", "module.model."])
def test_prefixes_are_understood(prefix):
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    given = {prefix + name: value for name, value in model.state_dict().items() if "num_batches" not in name}
    assert list(match_state(given, model, "f")) == list(model.state_dict())


def test_all_that_does_not_fit_is_listed_in_one_line():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    state = model.state_dict()
    given = {"0.weight": torch.zeros(5, 5), "1.weight": state["1.weight"], "1.bias": state["1.bias"], "extra": torch.zeros(1)}
    with pytest.raises(InputError) as error:
        match_state(given, model, Path("w.pt"))
    assert str(error.value) == (
        "w.pt does not fit the network: missing 0.bias; unexpected extra; mis-shaped 0.weight (5, 5) instead of (3, 2)"
    )
    with pytest.raises(InputError, match="both stand for"):
        match_state({**state, "module.0.bias": state["0.bias"]}, model, "f")
    many = {f"k{i}": torch.zeros(1) for i in range(20)}
    with pytest.raises(InputError, match="and 14 more"):
        match_state(many, model, "f")
