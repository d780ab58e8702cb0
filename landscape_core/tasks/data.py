"""The data sets: samples as tensors, scaled the same way for every seed of training."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..checkpoints.weights import fingerprint
from ..specs import Array, InputError
from ..specs.tasks import BlobsData, CIFAR10Data, DataSpec, DigitsData, FileData, MNISTData, MoonsData, NPZData, SpiralsData
from .formats import read_cifar10_folder, read_idx_pair, read_npz

Parts = tuple[Array, Array, Array, Array]  # x_train, y_train, x_test, y_test
GENERATED_TRAIN, GENERATED_TEST = 1000, 500
MAX_GENERATED_VALUES = 200_000_000


@dataclass(frozen=True)
class Data:
    """Samples with integer classes. Images are (N, C, H, W), features (N, d)."""

    x_train: Tensor
    y_train: Tensor  # (N,) int64
    x_test: Tensor
    y_test: Tensor
    classes: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return tuple(self.x_train.shape[1:])

    @property
    def sizes(self) -> dict[str, int]:
        """Numbers of samples, by split."""
        return {"train": len(self.y_train), "test": len(self.y_test)}

    def split(self, name: str) -> tuple[Tensor, Tensor]:
        """The samples and classes of "train" or "test"."""
        return (self.x_train, self.y_train) if name == "train" else (self.x_test, self.y_test)

    def flat(self) -> Data:
        """The same samples as features (N, d)."""
        return dataclasses.replace(self, x_train=self.x_train.flatten(1), x_test=self.x_test.flatten(1))

    def to(self, device: torch.device) -> Data:
        """The same samples on a device."""
        moved = {name: getattr(self, name).to(device) for name in ("x_train", "y_train", "x_test", "y_test")}
        return dataclasses.replace(self, **moved)

    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of the values of each split: part of every cache key."""
        return dict(self._fingerprints)

    @functools.cached_property
    def _fingerprints(self) -> dict[str, str]:
        return {name: fingerprint(dict(zip("xy", self.split(name), strict=True))) for name in ("train", "test")}


def load_data(spec: DataSpec, home: Path, dtype: torch.dtype = torch.float32) -> Data:
    """The data set of `spec`: split, scaled, then cut to `samples` and given `label_noise`.

    Images are scaled by the mean and deviation of the whole training part; generated points and `.npz` numbers stay as
    they are. Everything random comes from `split_seed` and from nothing else; the test part never changes with `samples` or
    `label_noise`. Raises InputError naming the file or field.
    """
    read, scale = _READERS[type(spec)]
    x_train, y_train, x_test, y_test = read(spec, home)
    classes = int(max(y_train.max(), y_test.max())) + 1 if isinstance(spec, NPZData) else known_shape(spec)[1]
    train, test = scale(x_train, x_test, dtype)
    targets = torch.from_numpy(y_train.astype(np.int64))
    if spec.samples is not None and spec.samples != len(targets):
        if spec.samples > len(targets):
            raise InputError(f"field 'samples': the data set has only {len(targets)} training samples (got {spec.samples})")
        kept = np.sort(_random(spec, 1).permutation(len(targets))[: spec.samples])
        train, targets = train[kept], targets[kept]
    if spec.label_noise:
        random = _random(spec, 2)
        changed = random.permutation(len(targets))[: round(spec.label_noise * len(targets))]
        targets[changed] = (targets[changed] + torch.from_numpy(random.integers(1, classes, len(changed)))) % classes
    return Data(train, targets, test, torch.from_numpy(y_test.astype(np.int64)), classes)


def known_shape(spec: DataSpec) -> tuple[tuple[int, ...], int]:
    """Shape of one sample and number of classes, without reading anything; `((), 0)` where only the file can tell."""
    if isinstance(spec, BlobsData):
        return (spec.features,), spec.classes
    return {
        DigitsData: ((1, 8, 8), 10),
        MoonsData: ((2,), 2),
        SpiralsData: ((2,), 3),
        MNISTData: ((1, 28, 28), 10),
        CIFAR10Data: ((3, 32, 32), 10),
    }.get(type(spec), ((), 0))


# -- scaling ----------------------------------------------------------------------------------------------------------


def _standardised(train: Array, test: Array, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(x - m) / s with one scalar mean and (population) deviation of the training part, in float64, then as `dtype`."""
    mean, deviation = train.mean(), train.std() or 1.0
    return tuple(torch.from_numpy((x - mean) / deviation).to(dtype) for x in (train, test))  # type: ignore[return-value]


def _standardised_images(train: Array, test: Array, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(x - m) / s for byte images (N, C, H, W), mean and deviation of each channel of the training part."""
    channels = train.shape[1]
    # Exact moments from the 256-bin histogram: no float copy of the whole set is made.
    counts = np.stack([np.bincount(train[:, c].ravel(), minlength=256) for c in range(channels)]).astype(np.float64)
    values, n = np.arange(256.0), counts.sum(1)
    mean = counts @ values / n
    deviation = np.sqrt(np.maximum(counts @ values**2 / n - mean**2, 0))
    deviation[deviation == 0] = 1
    m, s = (torch.tensor(v, dtype=dtype).reshape(1, channels, 1, 1) for v in (mean, deviation))
    return tuple(torch.tensor(x).to(dtype).sub_(m).div_(s) for x in (train, test))  # type: ignore[return-value]


def _as_given(train: Array, test: Array, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Byte images are standardised; numbers of any other type have their own scaling and stay as they are."""
    if train.dtype == np.uint8 and train.ndim == 4:
        return _standardised_images(train, test, dtype)
    return tuple(torch.from_numpy(x.astype(np.float64)).to(dtype) for x in (train, test))  # type: ignore[return-value]


# -- reading and generating -------------------------------------------------------------------------------------------


def _digits(spec: DigitsData, _home: Path) -> Parts:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch: Any = load_digits()
    x_train, x_test, y_train, y_test = train_test_split(
        bunch.data / 16, bunch.target, test_size=0.2, random_state=spec.split_seed, stratify=bunch.target
    )
    return x_train.reshape(-1, 1, 8, 8), y_train, x_test.reshape(-1, 1, 8, 8), y_test


def _moons(spec: MoonsData, random: np.random.Generator, n: int) -> tuple[Array, Array]:
    y = random.integers(0, 2, n)
    angle = np.pi * random.random(n)
    upper = np.stack([np.cos(angle), np.sin(angle)], 1)
    x = np.where(y[:, None] == 0, upper, np.array([1.0, 0.5]) - upper)
    return x + spec.noise * random.standard_normal(x.shape), y


def _spirals(spec: SpiralsData, random: np.random.Generator, n: int) -> tuple[Array, Array]:
    y = random.integers(0, 3, n)
    radius = np.sqrt(random.random(n))
    angle = 2 * np.pi * (radius + y / 3)
    x = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    return x + spec.noise * random.standard_normal(x.shape), y


def _blobs(spec: BlobsData, random: np.random.Generator, n: int) -> tuple[Array, Array]:
    centers = 3 * _random(spec, 0).standard_normal((spec.classes, spec.features))
    y = random.integers(0, spec.classes, n)
    return centers[y] + random.standard_normal((n, spec.features)), y


def _generated(points: Callable[..., tuple[Array, Array]], features: Callable[[Any], int]) -> Callable[..., Parts]:
    """A reader that draws `samples` training points and GENERATED_TEST test points, from separate streams."""

    def read(spec: DataSpec, _home: Path) -> Parts:
        n = spec.samples or GENERATED_TRAIN
        if n * features(spec) > MAX_GENERATED_VALUES:
            most = MAX_GENERATED_VALUES // features(spec)
            raise InputError(f"field 'samples': at most {most} samples with {features(spec)} features (got {n})")
        return *points(spec, _random(spec, 3), n), *points(spec, _random(spec, 4), GENERATED_TEST)

    return read


def _mnist(spec: MNISTData, home: Path) -> Parts:
    folder = _path(spec, home, "mnist")
    (x_train, y_train), (x_test, y_test) = (read_idx_pair(folder, part) for part in ("train", "t10k"))
    if x_train.shape[1:] != x_test.shape[1:]:
        raise InputError(f"{folder}: training images are {x_train.shape[1:]}, test images {x_test.shape[1:]}")
    return x_train[:, None], y_train, x_test[:, None], y_test


def _cifar10(spec: CIFAR10Data, home: Path) -> Parts:
    return read_cifar10_folder(_path(spec, home, "cifar10"))


def _npz(spec: NPZData, home: Path) -> Parts:
    path = _path(spec, home, "npz")
    arrays = read_npz(path)
    if "x" not in arrays or "y" not in arrays or ("x_test" in arrays) != ("y_test" in arrays):
        raise InputError(f"{path} needs arrays x and y, and both or none of x_test and y_test (it has {sorted(arrays)})")
    pairs = [_checked(path, arrays, end) for end in ("", "_test") if "x" + end in arrays]
    if len(pairs) == 1:
        (x, y), order = pairs[0], _random(spec, 0).permutation(len(pairs[0][1]))
        held = max(1, len(y) // 5)
        return x[order[held:]], y[order[held:]], x[order[:held]], y[order[:held]]
    (x, y), (x_test, y_test) = pairs
    if x.shape[1:] != x_test.shape[1:]:
        raise InputError(f"{path}: samples in x have shape {x.shape[1:]}, in x_test {x_test.shape[1:]}")
    return x, y, x_test, y_test


def _checked(path: Path, arrays: dict[str, Array], end: str) -> tuple[Array, Array]:
    """Samples (N, d) or (N, C, H, W) and classes (N,), or InputError."""
    x, y = arrays["x" + end], arrays["y" + end]
    if x.ndim not in (2, 3, 4) or x.dtype.kind not in "fiub" or not x.size:
        raise InputError(
            f"{path}: x{end} must hold numbers of shape (N, d), (N, H, W) or (N, C, H, W) (got {x.dtype} {x.shape})"
        )
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise InputError(f"{path}: x{end} has values that are not finite")
    if y.shape != x.shape[:1] or y.dtype.kind not in "iu" or len(y) < 2:
        raise InputError(
            f"{path}: y{end} must hold one integer class for each of the {len(x)} samples (got {y.dtype} {y.shape})"
        )
    if y.min() < 0 or y.max() > 99_999 or (not end and y.max() == 0):
        raise InputError(f"{path}: classes in y{end} must count from 0, two at least (got {y.min()} to {y.max()})")
    return (x[:, None] if x.ndim == 3 else x), y


def _path(spec: FileData, home: Path, name: str) -> Path:
    return Path(spec.path).expanduser() if spec.path else home / "data" / name


def _random(spec: DataSpec, stream: int) -> np.random.Generator:
    """A generator of its own for each use, so that one choice does not shift another."""
    return np.random.default_rng([spec.split_seed, stream])


_READERS: dict[type[DataSpec], tuple[Callable[..., Parts], Callable[..., tuple[Tensor, Tensor]]]] = {
    DigitsData: (_digits, _standardised),
    MoonsData: (_generated(_moons, lambda _spec: 2), _as_given),
    SpiralsData: (_generated(_spirals, lambda _spec: 2), _as_given),
    BlobsData: (_generated(_blobs, lambda spec: spec.features), _as_given),
    MNISTData: (_mnist, _standardised_images),
    CIFAR10Data: (_cifar10, _standardised_images),
    NPZData: (_npz, _as_given),
}
