"""Where the seams that have the photograph look for faces that the detector misses."""

from __future__ import annotations

from typing import Any, Literal

from maskfix.base import InputError

Hidden = bool | Literal["beside"]
"""`True`: where the detector finds no face; `beside`: on every photograph; `False`: never."""


def check_hidden(value: Any) -> None:
    """Refuse what is no `Hidden`.

    Raises:
        InputError: If it is none.

    Example:
        >>> check_hidden("beside")
    """
    if not isinstance(value, bool) and value != "beside":
        raise InputError(f"hidden: expected True, False or 'beside', got {value!r}")
