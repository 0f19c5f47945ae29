"""A picture of a partition: how many patches of each class every client holds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

_MOST_NAMED = 24  # bars that are labelled one by one
_LONGEST_NAME = 48  # of a class in the legend, characters


def draw_shares(path: Path, counts: npt.NDArray[np.int64], clients: Sequence[str], classes: Sequence[str], title: str) -> None:
    """One stacked bar per client: the share of each class among all its labels; written as SVG or PNG, by the path's ending.

    Args: counts: (client, class) patches of the client that have the class.
    """
    from matplotlib import colormaps, rc_context
    from matplotlib.figure import Figure

    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shares = counts / totals
    with rc_context({"svg.hashsalt": "rsdata", "svg.fonttype": "none"}):  # the same bytes each time
        figure = Figure(figsize=(max(6.0, 3.5 + 0.45 * len(clients)), 4.5), layout="constrained")
        axes = figure.subplots()
        below = np.zeros(len(clients))
        colors = colormaps["tab20"](np.arange(len(classes)) % 20)
        for index, name in enumerate(classes):
            short = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
            axes.bar(range(len(clients)), shares[:, index], bottom=below, color=colors[index], label=short, width=0.85)
            below += shares[:, index]
        axes.set_xlim(-0.6, len(clients) - 0.4)
        axes.set_ylim(0, 1)
        axes.set_ylabel("share of the client's labels")
        axes.set_title(title, fontsize=10)
        named = range(len(clients)) if len(clients) <= _MOST_NAMED else range(0, len(clients), -(-len(clients) // _MOST_NAMED))
        axes.set_xticks(list(named), [clients[index] for index in named], rotation=45, ha="right", fontsize=8)
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1, 0.5), fontsize=6, frameon=False)
        figure.savefig(path, format=path.suffix.lstrip(".") or "svg", dpi=120, metadata={"Date": None} if path.suffix == ".svg" else None)
