"""The page of a split audit: a map to zoom into, curves, shares and findings, all inside one HTML file."""

from pathlib import Path

import pandas as pd

from rsdata.catalog.audit_sentences import audit_sentences
from rsdata.catalog.audit_values import audit_values, marks
from rsdata.catalog.colors import split_colors
from rsdata.catalog.map_data import pack_squares
from rsdata.catalog.pages import render
from rsdata.records import SplitAudit


def write_audit_page(path: Path, audit: SplitAudit, where: pd.DataFrame, title: str) -> None:
    """Write an audit as one HTML page that opens from disk.

    Args:
        path: the page; its folder exists.
        audit: what was measured.
        where: one row per place and split: ``lon``, ``lat``, ``side_m``, ``turn_deg``, ``split``, ``patches``.
        title: the table's name.
    """
    splits = list(audit.counts)
    colors = split_colors(splits)
    data, merged = pack_squares(where, {name: colors[name] for name in splits}, marks(audit))
    page = render(
        "audit.html.j2",
        ["map.js", "paper.js"],
        title=title,
        audit=audit,
        total=sum(audit.counts.values()),
        splits=splits,
        colors=colors,
        sentences=audit_sentences(audit),
        merged=merged,
        legend=[{"name": name, "color": colors[name], "count": None, "layer": index} for index, name in enumerate(splits)],
        map_data=data,
        values=audit_values(audit, colors),
    )
    path.write_text(page, encoding="utf-8")
