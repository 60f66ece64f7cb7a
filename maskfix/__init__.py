"""maskfix: completes occluded faces before face verification."""

__version__ = "0.1.0"
