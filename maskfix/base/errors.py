"""The exceptions of maskfix: one line each, naming the thing and the way out."""

from __future__ import annotations


class MaskfixError(Exception):
    """Base of every error that maskfix raises on purpose; commands print it as one line and exit with code 2."""


class InputError(MaskfixError, ValueError):
    """An array, a picture or an argument has the wrong shape, type or range."""


class ImageError(MaskfixError, OSError):
    """A picture file is missing, truncated, too large or no picture at all."""


class DatasetError(MaskfixError, OSError):
    """A data folder is missing, is not what it should be, or lacks a file that its lists name."""


class WeightsError(MaskfixError, OSError):
    """A weights file is missing, has the wrong hash, or does not fit the network."""


class EmbedderError(MaskfixError, ValueError):
    """A recogniser is unknown, cannot be loaded, or is no recogniser."""


class DependencyError(MaskfixError, ImportError):
    """An optional package is needed and not installed; the message names the extra to install."""


class CheckpointError(MaskfixError, OSError):
    """A training checkpoint cannot be read or belongs to another configuration."""
