"""Panels of pictures: what the network saw, what it made of it, and its maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from maskfix.base import Completion, FloatArray, InputError, UInt8Array, check_crops, check_shape
from maskfix.plot.style import INK, Display, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

COLOUR_MAPS = {"occlusion": "magma", "u": "viridis", "v": "viridis"}
"""Perceptually uniform maps, dark for 0 and bright for 1; other maps are drawn in grey."""

_GAP = 0.05
"""Width of the gap between cells, in cells."""


class CompletionPanelDisplay(Display):
    """Pictures and maps in a table: a row a pair, a column a stage.

    All cells are put together into one picture, so a panel of a dozen rows is drawn and written in a moment and has the
    same place for every pixel in PNG and PDF.

    Args:
        columns: Title of each column and its cells: pictures `(N, S, S, 3)` uint8 RGB, or maps `(N, S, S)` float in
            [0, 1] (clipped to it; nan is drawn as 0). S may differ between columns; cells are scaled to the largest.
        labels: Label of each row, one or more lines; empty for none.

    Attributes:
        canvas: All cells in one picture, `(H, W, 3)` uint8 RGB.
        image_: The picture as matplotlib's artist, after `plot`.
        ax_: The matplotlib axes, after `plot`.
        figure_: The matplotlib figure, after `plot`.

    Example:
        >>> crops = np.zeros((2, 32, 32, 3), dtype=np.uint8)
        >>> display = CompletionPanelDisplay(columns={"clean": crops, "occlusion": np.ones((2, 32, 32))})
        >>> display.titles, display.rows, display.cell
        (('clean', 'occlusion'), 2, 32)
    """

    ax_: Axes
    image_: AxesImage

    def __init__(self, *, columns: Mapping[str, NDArray[Any]], labels: Sequence[str] = ()) -> None:
        if not columns:
            raise InputError("panel: expected at least one column, got none")
        self.columns = dict(columns)
        self.titles = tuple(self.columns)
        self.rows = len(next(iter(self.columns.values())))
        self.labels = tuple(labels)
        if self.rows < 1 or (self.labels and len(self.labels) != self.rows):
            raise InputError(f"panel: expected at least one row and one label a row, got {self.rows}, {len(labels)}")
        for title, cells in self.columns.items():
            _check_cells(title, cells, self.rows)
        self.cell = max(cells.shape[1] for cells in self.columns.values())
        self.canvas = self._compose()

    @classmethod
    def from_completion(
        cls, clean: UInt8Array, masked: UInt8Array, completion: Completion, *, labels: Sequence[str] = ()
    ) -> Self:
        """The usual six columns: clean, masked, completed, occlusion, u, v.

        Args:
            clean: Crops without an occluder, `(N, S, S, 3)` uint8 RGB.
            masked: The same crops with one, as the network saw them.
            completion: What the network made of `masked`.
            labels: Label of each row.

        Raises:
            InputError: If shapes or types differ from these.
        """
        check_shape("completion.uv", completion.uv, (len(clean), None, None, 2))
        columns: dict[str, NDArray[Any]] = {
            "clean": clean,
            "masked": masked,
            "completed": completion.images,
            "occlusion": completion.occlusion,
            "u": completion.uv[..., 0],
            "v": completion.uv[..., 1],
        }
        return cls(columns=columns, labels=labels)

    def plot(self, ax: Any = None, *, title: str = "") -> Self:
        """Draw the panel.

        Args:
            ax: Matplotlib axes to draw on; a new figure with cells of about an inch when None.
            title: Title above the column titles; none when empty.

        Returns:
            Self.
        """
        height, width = self.canvas.shape[:2]
        if ax is None:
            scale = 1.05 / self.cell
            margin = 1.5 if self.labels else 0.2
            ax = new_figure(margin + scale * width, 0.8 + scale * height).subplots()
        self.ax_, self.figure_ = ax, ax.figure
        self.image_ = ax.imshow(self.canvas, interpolation="antialiased")
        gap = self._gap
        middles = np.arange(max(len(self.titles), self.rows)) * (self.cell + gap) + (self.cell - 1) / 2
        # Labels hold file names, in which a dollar sign begins no formula.
        look = {"color": INK, "parse_math": False}
        ax.set_xticks(middles[: len(self.titles)], self.titles, fontsize=11, **look)
        ax.set_yticks(middles[: len(self.labels)], self.labels, fontsize=9, **look)
        ax.xaxis.tick_top()
        ax.tick_params(length=0, pad=4)
        ax.spines[:].set_visible(False)
        if any(cells.ndim == 3 for cells in self.columns.values()):
            ax.set_xlabel("maps: dark 0, bright 1", fontsize=8.5, color="#606060", loc="right")
        if title:
            ax.set_title(title, color=INK, fontsize=12, loc="left", pad=10).set_parse_math(False)
        return self

    @property
    def _gap(self) -> int:
        """Width of the gap between cells, in pixels."""
        return max(1, round(_GAP * self.cell))

    def _compose(self) -> UInt8Array:
        """Put all cells on white ground."""
        step = self.cell + self._gap
        canvas = np.full((self.rows * step - self._gap, len(self.titles) * step - self._gap, 3), 255, dtype=np.uint8)
        for column, (title, cells) in enumerate(self.columns.items()):
            pictures = cells if cells.ndim == 4 else _coloured(cells, COLOUR_MAPS.get(title, "gray"))
            for row, picture in enumerate(pictures):
                top, left = row * step, column * step
                canvas[top : top + self.cell, left : left + self.cell] = _resized(picture, self.cell)
        return canvas


def _check_cells(title: str, cells: NDArray[Any], rows: int) -> None:
    """Check one column: pictures, or maps."""
    if getattr(cells, "ndim", 0) == 3:
        check_shape(title, cells, (rows, cells.shape[2], cells.shape[1]))
        if cells.dtype.kind not in "fb":
            raise InputError(f"{title}: expected maps as float in [0, 1], got dtype {cells.dtype}")
        return
    check_crops(title, cells)
    check_shape(title, cells, (rows, None, None, 3))


def _coloured(maps: FloatArray, name: str) -> UInt8Array:
    """Colour maps `(N, S, S)` in [0, 1] by one of matplotlib's colour maps; gives `(N, S, S, 3)` uint8."""
    from matplotlib import colormaps

    values = np.nan_to_num(maps.astype(np.float64), nan=0.0).clip(0, 1)
    coloured: UInt8Array = colormaps[name](values, bytes=True)[..., :3]
    return coloured


def _resized(picture: UInt8Array, size: int) -> UInt8Array:
    """Scale a square picture up to `size` pixels."""
    if picture.shape[0] == size:
        return picture
    return np.asarray(cv2.resize(picture, (size, size), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
