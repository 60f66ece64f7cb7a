"""The family of errors: one base for commands, and the built-in kind that a library user expects."""

from __future__ import annotations

import pickle

import pytest

from maskfix.base import errors


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.InputError, ValueError),
        (errors.ImageError, OSError),
        (errors.DatasetError, OSError),
        (errors.WeightsError, OSError),
        (errors.EmbedderError, ValueError),
        (errors.DependencyError, ImportError),
        (errors.CheckpointError, OSError),
    ],
)
def test_kinds(error: type[errors.MaskfixError], builtin: type[Exception]) -> None:
    raised = error("x.png: no such picture")
    assert isinstance(raised, errors.MaskfixError)
    assert isinstance(raised, builtin)
    assert str(raised) == "x.png: no such picture"
    # Worker processes send their errors home.
    back = pickle.loads(pickle.dumps(raised))  # noqa: S301
    assert (type(back), str(back)) == (error, str(raised))
