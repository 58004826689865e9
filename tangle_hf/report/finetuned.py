"""The part of a report about a run of fine-tuning: the scores of its modes, over their seeds."""

from ..analysis import format_cell
from .blocks import Block, Picture, Section, Table
from .figures import color, figure, rounded
from .run_folder import RunFolder


def finetuned_section(run: RunFolder) -> Section:
    """A mark for each trained net, and the table."""
    rows = list(run.rows.values())
    if not rows:
        return Section("Scores", [])
    names = [name for name in rows[0]["test"] if all(name in row["test"] for row in rows)]
    blocks: list[Block] = []
    shown = "accuracy" if "accuracy" in names else "loss" if "loss" in names else names[0]
    modes = list(dict.fromkeys(row["mode"] for row in rows))
    traces = [
        {
            "type": "scatter",
            "x": [row["mode"] for row in rows if row["mode"] == mode],
            "y": [rounded(row[split][shown], 6) for row in rows if row["mode"] == mode],
            "mode": "markers",
            "marker": {"size": 11, "color": color(number), "symbol": "circle" if split == "test" else "circle-open"},
            "name": split,
            "showlegend": number == 0,
            "legendgroup": split,
            "hovertemplate": f"{split} {shown}: %{{y:.4g}}",
        }
        for number, mode in enumerate(modes)
        for split in ("test", "validation")
    ]
    drawn = figure(traces, 320, "", shown)
    drawn["layout"]["xaxis"] |= {"type": "category", "range": [-0.6, len(modes) - 0.4]}
    blocks.append(Picture(drawn, caption="One mark for each seed."))
    table = [
        {"mode": row["mode"], "seed": "" if row["seed"] is None else row["seed"], "parameters": row["parameters"]}
        | {
            f"{split} {name}": format_cell(float(row[split][name]))
            for split in ("validation", "test")
            for name in names
        }
        for row in rows
    ]
    blocks.append(Table(table, f"Of {run.settings['checkpoint']}."))
    return Section("Scores", blocks)
