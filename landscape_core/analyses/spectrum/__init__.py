"""The Hessian spectrum: how curved is it, and is this a minimum or a saddle?"""

from ...specs import Analysis, Group, Measure, View
from .arrays import ARRAYS
from .spec import SpectrumSpec

CHOICES = {
    "hessian": "Hessian of the loss",
    "ggn": "Gauss-Newton",
    "fisher": "Fisher, model's labels",
    "empirical_fisher": "Fisher, data's labels",
}

ANALYSIS = Analysis(
    "spectrum",
    "Hessian spectrum",
    "How curved is it, and is this a minimum or a saddle?",
    SpectrumSpec,
    version=6,
    order=20,
    icon="spectrum",
    form=(
        Group(
            "Curvature",
            ("over", "operator", "beside", "k", "k_bottom"),
            words={
                "over": {"checkpoint": "This checkpoint", "run": "All of its training"},
                "operator": CHOICES,
                "beside": {None: "none", **CHOICES},
            },
            labels={"over": "Of", "operator": "Matrix", "beside": "Beside it", "k": "Largest", "k_bottom": "Smallest"},
        ),
        Group(
            "Accuracy",
            ("method", "tolerance", "multiples", "probes", "lanczos_steps", "trace_tolerance", "seed"),
            advanced=True,
            words={"method": {"auto": "Exact where it can be", "dense": "Exact matrix", "lanczos": "Lanczos and estimates"}},
            labels={
                "multiples": "Every copy of equal eigenvalues",
                "probes": "Random vectors",
                "lanczos_steps": "Products for each",
            },
        ),
        Group("What counts as zero", ("zero_tolerance", "gradient_tolerance", "damping"), advanced=True),
        Group("Layers and symmetry", ("layers", "rescale", "labels", "weight_decay"), advanced=True),
        Group("Over training", ("checkpoints",), advanced=True),
        Group("Result", ("vectors",), advanced=True, labels={"vectors": "Keep the eigenvectors"}),
    ),
    views=(
        View("kind", "Picture", {"density": "Density", "eigenvalues": "Eigenvalues", "layers": "Layers"}),
        View("log", "Logarithmic axis"),
    ),
    arrays=ARRAYS,
    measures=(
        Measure("sharpness", "Largest eigenvalue"),
        Measure("trace", "Trace"),
        Measure("negative_share", "Negative eigenvalues"),
        Measure("sharpness_invariant", "Sharpness, rescaling-invariant"),
        Measure("effective_dimension", "Effective dimension"),
    ),
)
