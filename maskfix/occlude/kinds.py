"""The kinds of mask by name: the paper's nine, any cloth colour besides, and the templates of a folder of one's own."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

from maskfix.base import InputError

PAPER_KINDS: tuple[str, ...] = (
    "surgical",
    "surgical_blue",
    "surgical_green",
    "N95",
    "KN95",
    "cloth#333333",
    "cloth#515151",
    "cloth#929292",
    "cloth#dadad9",
)
"""The nine test masks of the paper (section 4.1), in the order of its tables."""

TEMPLATES: tuple[str, ...] = ("surgical", "surgical_blue", "surgical_green", "N95", "KN95", "cloth")
"""The templates that the kinds are made from."""

_COLOURED = re.compile(r"cloth#([0-9a-fA-F]{6})")


class MaskKind(NamedTuple):
    """What a kind's name means.

    Attributes:
        template: Name of the template.
        colour: Lower-case `#rrggbb` that is mixed half and half with the template, or None for the template as it is.
    """

    template: str
    colour: str | None

    @property
    def rgb(self) -> tuple[int, int, int] | None:
        """The colour as three integers in [0, 255], or None."""
        if self.colour is None:
            return None
        red, green, blue = bytes.fromhex(self.colour[1:])
        return red, green, blue


def parse_kind(name: str, templates: Collection[str] = TEMPLATES) -> MaskKind:
    """Take a kind's name apart.

    Args:
        name: Name of a template, or `cloth#rrggbb`: the cloth template with any colour.
        templates: The templates that there are, see `TemplateSource.templates`.

    Returns:
        Template and colour; the colour is mixed as 0.5 template + 0.5 colour (MaskTheFace, `color_the_mask`).

    Raises:
        InputError: If the name is none of these; the message lists the known ones.

    Example:
        >>> parse_kind("cloth#DADAD9")
        MaskKind(template='cloth', colour='#dadad9')
        >>> parse_kind("scarf")
        Traceback (most recent call last):
        ...
        maskfix.base.errors.InputError: mask kind: 'scarf' is unknown; known: surgical, surgical_blue, \
surgical_green, N95, KN95, cloth, cloth#rrggbb
    >>> parse_kind("scarf", ["scarf"])
    MaskKind(template='scarf', colour=None)
    """
    if name in templates:
        return MaskKind(name, None)
    coloured = _COLOURED.fullmatch(name)
    if coloured is None or "cloth" not in templates:
        colours = ["cloth#rrggbb"] if "cloth" in templates else []
        raise InputError(f"mask kind: {name!r} is unknown; known: {', '.join([*templates, *colours])}")
    return MaskKind("cloth", f"#{coloured.group(1).lower()}")
