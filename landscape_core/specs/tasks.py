"""What can be trained and looked at: data sets, architectures, losses, and the tasks made of them under their names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny

from .base import InputError, Spec, field, suggestion


class DataSpec(Spec):
    """A data set with a fixed split into training and test samples."""

    samples: int | None = field(None, "How many training samples to keep; null keeps all.", unit="samples", ge=10, le=1_000_000)
    label_noise: float = field(0.0, "Share of training labels replaced by a random other class.", ge=0, le=1)
    split_seed: int = field(0, "Seed of the train/test split, the label noise and generated data.", ge=0, le=2**31 - 1)


class DigitsData(DataSpec):
    """scikit-learn digits: 8x8 grey images, 10 classes, 1437 train / 360 test, scaled by one training mean and deviation."""


class MoonsData(DataSpec):
    """Two interleaving half circles in the plane, 2 classes (generated)."""

    noise: float = field(0.1, "Standard deviation of the noise added to each point.", ge=0, le=2)


class SpiralsData(DataSpec):
    """Three interleaving spirals in the plane, 3 classes (generated)."""

    noise: float = field(0.05, "Standard deviation of the noise added to each point.", ge=0, le=2)


class BlobsData(DataSpec):
    """Gaussian blobs with unit deviation in `features` dimensions (generated)."""

    classes: int = field(4, "Number of classes.", ge=2, le=100)
    features: int = field(10, "Dimension of the points.", ge=1, le=10_000)


class FileData(DataSpec):
    """A data set read from the operator's disk."""

    path: str | None = field(None, "File or folder; null takes data/<name> under the home directory.", local=True)


class MNISTData(FileData):
    """MNIST-format IDX files (train-images-idx3-ubyte, ..., plain or .gz): 28x28 grey images, 10 classes."""


class CIFAR10Data(FileData):
    """CIFAR-10 binary format (data_batch_1.bin ... test_batch.bin): 32x32 colour images, 10 classes."""


class NPZData(FileData):
    """A .npz file with arrays x and y (integer classes), and x_test and y_test or a split of one fifth for testing."""


class ArchitectureSpec(Spec):
    """A network; input and output sizes come from the data."""


class MLPArchitecture(ArchitectureSpec):
    """Fully connected network."""

    widths: tuple[Annotated[int, Field(ge=1, le=100_000)], ...] = field(
        (64,), "Widths of the hidden layers.", unit="neurons", max_length=200
    )
    depth: int | None = field(
        None, "Number of hidden layers after an input layer, all of the width widths[0]; overrides widths.", ge=1, le=200
    )
    activation: Literal["relu", "tanh", "gelu", "silu", "identity"] = field("relu", "Activation function.")
    skip: bool = field(False, "Residual hidden layers h + act(W h + b), W scaled by 1/sqrt(depth).")
    init: Literal["default", "he"] = field("default", "Initialisation: PyTorch's, or He-normal weights with zero biases.")
    norm: Literal["batch", "layer"] | None = field(None, "Normalisation before each activation.")


class LeNetArchitecture(ArchitectureSpec):
    """LeNet-5 (LeCun et al. 1998) with ReLU and max pooling."""


class ResNetArchitecture(ArchitectureSpec):
    """ResNet for small images (He et al. 2016): depth 6n+2, widths 16-32-64, BatchNorm."""

    depth: int = field(20, "Depth, 6n+2.", ge=8, le=200)
    width: int = field(16, "Channels of the first stage.", unit="channels", ge=1, le=256)
    skip: bool = field(True, "Skip connections; without them the plain network of Li et al. 2018.")
    norm: Literal["batch"] | None = field("batch", "Normalisation after each convolution.")


class ViTArchitecture(ArchitectureSpec):
    """A small vision transformer (Dosovitskiy et al. 2021), pre-norm, mean-pooled."""

    patch: int | None = field(None, "Side of a patch; null takes a quarter of the image.", unit="pixels", ge=1, le=64)
    dim: int = field(64, "Embedding width.", ge=4, le=1024)
    heads: int = field(4, "Attention heads; must divide dim.", ge=1, le=64)
    layers: int = field(2, "Transformer blocks.", ge=1, le=48)


DATA: dict[str, type[DataSpec]] = {
    "digits": DigitsData,
    "moons": MoonsData,
    "spirals": SpiralsData,
    "blobs": BlobsData,
    "mnist": MNISTData,
    "cifar10": CIFAR10Data,
    "npz": NPZData,
}
ARCHITECTURES: dict[str, type[ArchitectureSpec]] = {
    "mlp": MLPArchitecture,
    "lenet": LeNetArchitecture,
    "resnet": ResNetArchitecture,
    "vit": ViTArchitecture,
}
IMAGE_DATA = ("digits", "mnist", "cifar10", "npz")
DATA_WORDS = {
    "digits": "Digits",
    "moons": "Two moons",
    "spirals": "Spirals",
    "blobs": "Blobs",
    "mnist": "MNIST",
    "cifar10": "CIFAR-10",
    "npz": "NPZ file",
}
ARCHITECTURE_WORDS = {"mlp": "fully connected", "lenet": "LeNet-5", "resnet": "ResNet", "vit": "vision transformer"}
Loss = Literal["cross-entropy", "squared-error"]


class TaskSpec(Spec):
    """What turns weights into a loss: data, architecture and loss function."""

    name: str = field("digits-mlp", "`<data>-<architecture>`.")
    data: SerializeAsAny[DataSpec] = field(DigitsData(), "The data set.")
    architecture: SerializeAsAny[ArchitectureSpec] = field(MLPArchitecture(), "The network.")
    loss: Loss = field("cross-entropy", "Mean cross-entropy, or mean squared error against one-hot targets.")

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments that differ from their defaults, flat, as JSON values: `task_spec(name, **arguments)` is this Spec."""
        changed = {"loss": self.loss} if self.loss != "cross-entropy" else {}
        return {**self.data.changed(), **self.architecture.changed(), **changed}

    @property
    def network(self) -> str:
        """The name of the architecture: part of every cache key."""
        return task_entry(self.name).network


@dataclass(frozen=True)
class TaskEntry:
    """A task that can be named: what its flat arguments are, what makes it, and its words for people.

    `loader` is `module:function`, imported only where there is torch: `(spec, home, dtype)` gives the Task.
    """

    name: str
    network: str  # the name of the architecture
    data: type[DataSpec]
    architecture: type[ArchitectureSpec]
    group: str  # words for its data, under which it is listed
    title: str
    folder: str | None = None  # under data/ of the home directory: what must be there, unless `path` says otherwise
    loader: str = "landscape_core.tasks.task:Task"

    @property
    def fields(self) -> dict[str, type[Spec]]:
        """Every flat argument, with the Spec class that owns it."""
        return {name: owner for owner in (self.data, self.architecture) for name in owner.model_fields} | {"loss": TaskSpec}

    def spec(self, arguments: Mapping[str, Any], *, remote: bool = False) -> TaskSpec:
        """The task with flat arguments. Raises InputError for an unknown or impossible one."""
        fields = self.fields
        for argument in arguments:
            if argument not in fields:
                raise InputError(f"unknown field '{argument}'{suggestion(argument, fields)}")

        def owned(owner: type[Spec]) -> dict[str, Any]:
            return {name: value for name, value in arguments.items() if fields[name] is owner}

        data, architecture = (owner.parse(owned(owner), remote=remote) for owner in (self.data, self.architecture))
        return TaskSpec.parse({"name": self.name, "data": data, "architecture": architecture, **owned(TaskSpec)})


def _entry(data: str, architecture: str) -> TaskEntry:
    group = DATA_WORDS[data]
    return TaskEntry(
        f"{data}-{architecture}",
        architecture,
        DATA[data],
        ARCHITECTURES[architecture],
        group,
        f"{group}, {ARCHITECTURE_WORDS[architecture]}",
        data if issubclass(DATA[data], FileData) else None,
    )


TASKS: dict[str, TaskEntry] = {
    entry.name: entry
    for entry in (
        _entry(data, architecture)
        for data in DATA
        for architecture in ARCHITECTURES
        if architecture == "mlp" or data in IMAGE_DATA
    )
}


def task_entry(name: str) -> TaskEntry:
    """The registered task. Raises InputError for an unknown name, suggesting the nearest one."""
    if name not in TASKS:
        raise InputError(f"unknown task '{name}'{suggestion(name, TASKS)}")
    return TASKS[name]


def task_spec(name: str, *, remote: bool = False, **arguments: Any) -> TaskSpec:
    """The task `name` with flat arguments. Raises InputError for an unknown name or argument."""
    return task_entry(name).spec(arguments, remote=remote)


def task_fields(name: str) -> dict[str, type[Spec]]:
    """Every flat argument of the task `name`, with the Spec class that owns it. Raises InputError for an unknown name."""
    return task_entry(name).fields
