"""The loss surface: what does the loss look like around and between these weights?"""

from ...specs import Analysis, Group, Measure, Thumbnail, View
from .arrays import ARRAYS
from .spec import SurfaceSpec

ANALYSIS = Analysis(
    "surface",
    "Loss surface",
    "What does the loss look like around and between these weights?",
    SurfaceSpec,
    version=3,
    order=10,
    icon="surface",
    form=(
        Group(
            "Plane",
            ("dimensions", "directions", "resolution", "extent"),
            words={
                "dimensions": {1: "1: a line", 2: "2: a plane"},
                "directions": {
                    "filter": "Random, filter-normalised",
                    "layer": "Random, layer-normalised",
                    "model": "Random, as long as the weights",
                    "gaussian": "Random, not normalised",
                    "essay": "Random, uncorrected rule",
                    "pca": "Principal axes of the path",
                    "gradient": "Gradient",
                    "difference": "To another checkpoint",
                    "through": "Through three checkpoints",
                    "eigenvectors": "Hessian eigenvectors",
                },
            },
        ),
        Group(
            "Path and other checkpoints",
            ("through", "trajectory", "centered"),
            advanced=True,
            labels={"through": "Through", "trajectory": "Path of", "centered": "About the mean of the path"},
            suggest={"through": "checkpoints", "trajectory": "runs"},
        ),
        Group(
            "Axes",
            ("seed", "ends", "repeats", "orthogonal", "ignore"),
            advanced=True,
            labels={"repeats": "Lines", "ends": "Eigenvectors"},
            words={"ends": {"both": "Largest and smallest", "top": "Largest", "bottom": "Smallest"}},
        ),
        Group(
            "Whole Hessian",
            ("spectrum", "convexity"),
            advanced=True,
            labels={"spectrum": "Compare with its spectrum", "convexity": "Convexity map, points along each axis"},
        ),
        Group(
            "Sample",
            ("split", "samples", "test", "batchnorm", "dtype", "device"),
            advanced=True,
            labels={"test": "Test samples as well"},
        ),
        Group("Arrows", ("flow",), advanced=True, labels={"flow": "Arrows along each axis"}),
    ),
    views=(
        View("kind", "Picture", {"3d": "3-D", "contour": "Contour", "heatmap": "Heat map", "line": "Line"}),
        View(
            "quantity",
            "Quantity",
            {
                "loss": "Loss",
                "accuracy": "Accuracy",
                "error": "Error",
                "loss_test": "Loss (test)",
                "accuracy_test": "Accuracy (test)",
                "error_test": "Error (test)",
                "convexity_plane": "Convexity in plane",
                "convexity": "Convexity overall",
            },
        ),
        View(
            "clip",
            "Range of values",
            {"100": "Full range", "99": "Lowest 99 %", "95": "Lowest 95 %", "90": "Lowest 90 %", "75": "Lowest 75 %"},
        ),
        View("log", "Log"),
        View("path", "Path", default=True),
        View("flow", "Arrows"),
        View("walk", "Random walk"),
        View("difference", "Difference"),
    ),
    arrays=ARRAYS,
    measures=(
        Measure("center_loss", "Loss"),
        Measure("center_accuracy", "Accuracy"),
        Measure("gradient_norm", "Norm of the gradient"),
    ),
    aligned=(),  # the pictures share their range of values, and each its own axes
    files=("vtk",),
    thumbnail=Thumbnail("surface, log scale", {"resolution": 31, "samples": 500, "flow": 0}, {"kind": "heatmap", "log": True}),
)
