"""What can be asked of a calibration."""

from __future__ import annotations

from ...specs import AnalysisSpec


class CalibrationSpec(AnalysisSpec):
    """Time one forward pass, one gradient and one Hessian-vector product: what every cost estimate rests on."""

    def work(self, _parameters: int = 0, /) -> dict[str, float]:
        return {"forwards": 4, "gradients": 2, "products": 2}
