"""What can be made of the Results of any analysis: pictures, a reading, rows, files. No torch."""

from .pictures import drawn, figure, label, of_result, reading, rows, side_by_side

__all__ = ["drawn", "figure", "label", "of_result", "reading", "rows", "side_by_side"]
