"""Pictures, tables and statistics of runs.

`differences`, `intervals` and `statistics` need scipy (extra `compare`) and are imported by their own names.
"""

from .anytime import AnytimeCurve, anytime_chart, looked_up_chart, plot_anytime
from .charts import Chart, Curve, plot_charts
from .cka import layer_cka, linear_cka, plot_cka
from .drawings import drawing, plot_architecture, plot_architectures
from .fronts import plot_front
from .tables import format_cell, format_column, format_table
from .timing import in_turns
from .trajectories import (
    decision_charts,
    loss_chart,
    plot_diagnostics,
    plot_losses,
    plot_shares,
    read_metrics,
    share_charts,
)


__all__ = [
    "AnytimeCurve",
    "anytime_chart",
    "Chart",
    "Curve",
    "decision_charts",
    "drawing",
    "format_cell",
    "format_column",
    "format_table",
    "in_turns",
    "layer_cka",
    "linear_cka",
    "looked_up_chart",
    "loss_chart",
    "plot_anytime",
    "plot_architecture",
    "plot_architectures",
    "plot_charts",
    "plot_cka",
    "plot_diagnostics",
    "plot_front",
    "plot_losses",
    "plot_shares",
    "read_metrics",
    "share_charts",
]
