"""Verification and picture metrics: pure NumPy functions, fractions in [0, 1], a higher score means more alike."""

from maskfix.metrics.bootstrap import (
    BootstrapResult,
    Interval,
    MethodIntervals,
    own_subjects,
    subject_bootstrap,
    weighted_statistics,
)
from maskfix.metrics.calibration import calibrate, cllr, min_cllr
from maskfix.metrics.folds import FoldAccuracy, kfold_accuracy
from maskfix.metrics.image import laplacian_variance, psnr, ssim
from maskfix.metrics.ranking import DetCurve, OperatingPoint, RocCurve, SortedScores
from maskfix.metrics.verification import (
    ErrorRates,
    auc,
    eer,
    fmr_fnmr,
    operating_points,
    roc_curve,
    split_scores,
    tpr_at_fpr,
)

__all__ = [
    "BootstrapResult",
    "DetCurve",
    "ErrorRates",
    "FoldAccuracy",
    "Interval",
    "MethodIntervals",
    "OperatingPoint",
    "RocCurve",
    "SortedScores",
    "auc",
    "calibrate",
    "cllr",
    "eer",
    "fmr_fnmr",
    "kfold_accuracy",
    "laplacian_variance",
    "min_cllr",
    "operating_points",
    "own_subjects",
    "psnr",
    "roc_curve",
    "split_scores",
    "ssim",
    "subject_bootstrap",
    "tpr_at_fpr",
    "weighted_statistics",
]
