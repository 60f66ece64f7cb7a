"""Display classes: one figure each, numbers in, matplotlib loaded only when something is drawn."""

from maskfix.plot.curve import WeightCurveDisplay
from maskfix.plot.det import DetDisplay
from maskfix.plot.panel import CompletionPanelDisplay
from maskfix.plot.roc import RocDisplay
from maskfix.plot.scores import ScoreHistogramDisplay

__all__ = ["CompletionPanelDisplay", "DetDisplay", "RocDisplay", "ScoreHistogramDisplay", "WeightCurveDisplay"]
