"""One look for all pictures: as wide as the text of a model page, and readable on a light and on a dark one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np


WIDTH = 7.0  # inches
# Of middle lightness, as are the letters, since the page behind a picture may be white or nearly black.
COLORS = ("#e07a3f", "#3f8fd2", "#2ca58d", "#b565c9", "#c9980a", "#d6406b", "#8a9a2f", "#5c7cfa")
MUTED = "#8a8f98"
TEXT = "#7d828c"
STYLE = {
    "font.size": 9, "axes.titlesize": 10, "axes.titleweight": "bold", "legend.fontsize": 8, "legend.frameon": False,
    "text.color": TEXT, "axes.labelcolor": TEXT, "axes.titlecolor": TEXT, "xtick.color": TEXT, "ytick.color": TEXT,
    "axes.edgecolor": MUTED, "axes.linewidth": 0.8, "axes.spines.top": False, "axes.spines.right": False,
    "axes.axisbelow": True, "grid.color": MUTED, "grid.alpha": 0.3, "grid.linewidth": 0.6, "axes.grid": True,
}  # fmt: skip


@contextmanager
def picture(
    path: str | Path, size: tuple[float, float], rows: int = 1, columns: int = 1, **layout: Sequence[float]
) -> Iterator[np.ndarray]:
    """The panels of a PNG with a transparent ground, which is written when the block ends.

    Args:
        path: Where to write.
        size: Inches.
        rows: Rows of panels.
        columns: Columns of panels.
        **layout: `width_ratios` and `height_ratios` of the panels.

    Yields:
        Axes (rows, columns).
    """
    import matplotlib.figure  # takes a second, for which a command that draws nothing need not wait

    with matplotlib.rc_context(STYLE):
        figure = matplotlib.figure.Figure(figsize=size, layout="constrained")
        yield figure.subplots(rows, columns, squeeze=False, **layout)
        figure.savefig(path, dpi=150, transparent=True)
