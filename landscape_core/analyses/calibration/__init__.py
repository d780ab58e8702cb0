"""Calibration: how long one evaluation takes, the basis of every cost estimate."""

from ...specs import Analysis, Variable
from .spec import CalibrationSpec

ANALYSIS = Analysis(
    "calibration",
    "Calibration",
    "How long does one evaluation take here?",
    CalibrationSpec,
    version=3,
    listed=False,
    arrays=(
        Variable("seconds_forward", "Time of one forward pass over the sample.", unit="s"),
        Variable("seconds_gradient", "Time of one gradient.", unit="s"),
        Variable("seconds_product", "Time of one Hessian-vector product; NaN where there are none.", unit="s"),
        Variable("parameters", "Parameters of the network."),
        Variable("sample_size", "Samples of the loss.", unit="samples"),
        Variable("bytes_parameters", "Size of the parameters.", unit="bytes"),
        Variable("bytes_sample", "Size of the sample.", unit="bytes"),
    ),
)
