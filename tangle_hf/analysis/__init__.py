"""Pictures, tables and statistics of runs.

`differences`, `intervals` and `statistics` need scipy (extra `compare`) and are imported by their own names.
"""

from .anytime import AnytimeCurve, plot_anytime
from .architectures import plot_architecture, plot_architectures
from .cka import layer_cka, linear_cka, plot_cka
from .fronts import plot_front
from .tables import format_cell, format_table
from .timing import in_turns
from .trajectories import plot_diagnostics, plot_losses, plot_shares, read_metrics


__all__ = [
    "AnytimeCurve",
    "format_cell",
    "format_table",
    "in_turns",
    "layer_cka",
    "linear_cka",
    "plot_anytime",
    "plot_architecture",
    "plot_architectures",
    "plot_cka",
    "plot_diagnostics",
    "plot_front",
    "plot_losses",
    "plot_shares",
    "read_metrics",
]
