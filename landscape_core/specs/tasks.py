"""What can be trained and looked at: data sets, architectures, losses, and the names `<data>-<architecture>`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import SerializeAsAny

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

    widths: tuple[int, ...] = field((64,), "Widths of the hidden layers.", unit="neurons", max_length=200)
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
TASKS: tuple[str, ...] = tuple(
    f"{data}-{architecture}" for data in DATA for architecture in ARCHITECTURES if architecture == "mlp" or data in IMAGE_DATA
)
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


def task_spec(name: str, *, remote: bool = False, **arguments: Any) -> TaskSpec:
    """The task `<data>-<architecture>` with flat arguments. Raises InputError for an unknown name or argument."""
    if name not in TASKS:
        raise InputError(f"unknown task '{name}'{suggestion(name, TASKS)}")
    data, architecture = name.rsplit("-", 1)
    fields = task_fields(name)
    for argument in arguments:
        if argument not in fields:
            raise InputError(f"unknown field '{argument}'{suggestion(argument, fields)}")
    owned = {cls: {k: v for k, v in arguments.items() if fields.get(k) is cls} for cls in set(fields.values())}
    loss = owned.get(TaskSpec, {})
    return TaskSpec.parse(
        {
            "name": name,
            "data": DATA[data].parse(owned.get(DATA[data], {}), remote=remote),
            "architecture": ARCHITECTURES[architecture].parse(owned.get(ARCHITECTURES[architecture], {}), remote=remote),
            **loss,
        }
    )


def task_fields(name: str) -> dict[str, type[Spec]]:
    """Every flat argument of the task `name`, with the Spec class that owns it."""
    data, architecture = name.rsplit("-", 1)
    owners: list[type[Spec]] = [DATA[data], ARCHITECTURES[architecture]]
    return {field_name: owner for owner in owners for field_name in owner.model_fields} | {"loss": TaskSpec}
