"""Reports of small made-up datasets, for the tests that read them and those that open them in a browser."""

from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd

from rsdata.catalog.report import Sample, write_report
from rsdata.grid import Tile, corners, footprints
from rsdata.records import (
    DROP_REASONS,
    SPLITS,
    ClassScore,
    EpochLog,
    LabelClass,
    MultilabelScores,
    PatchId,
    SplitAudit,
    SplitPair,
    Spread,
    TrainingReport,
    TrainingRun,
)

NAMES = ("Arable land", "Pastures", "Coniferous forest", "Inland waters")
COLORS = ("#ffffa8", "#e6e64d", "#00a600", "#00ccf2")
CLASSES = [
    LabelClass(index=i, name=name, color=color, codes=[code])
    for i, (name, color, code) in enumerate(zip(NAMES, COLORS, (211, 231, 312, 511), strict=True))
]
HOSTILE = '<script>alert("1")</script>'


class Page(HTMLParser):
    """What a browser would see: elements with their attributes, and the cells of each table by its id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.words = ""
        self._table: str | None = None
        self._hidden = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._hidden = tag in ("style", "script")
        if tag == "table":
            self._table = dict(attrs).get("id") or f"table{len(self.tables)}"
            self.tables[self._table] = []
        elif tag == "tr" and self._table:
            self.tables[self._table].append([])
        elif tag in ("th", "td") and self._table:
            self.tables[self._table][-1].append("")

    def handle_endtag(self, tag):
        self._hidden = False
        self.words += " " if tag in ("dt", "dd") else ""
        if tag == "table":
            self._table = None

    def handle_data(self, data):
        if self._hidden:
            return
        self.words += data
        data = data.rstrip("\n")  # of the template
        if self._table and self.tables[self._table] and self.tables[self._table][-1]:
            self.tables[self._table][-1][-1] += data


def patch_table(tiles=("33UUP", "32UMC"), side=(6, 9), country="Austria") -> gpd.GeoDataFrame:
    """Two dates over two tiles; columns 0 to 4 train, 5 and 6 validation, then test; every eleventh patch is dropped."""
    draw, parts = np.random.default_rng(1), []
    for tile in map(Tile.from_name, tiles):
        row, col = (axis.ravel() for axis in np.meshgrid(np.arange(side[0]), np.arange(side[1]), indexing="ij"))
        x, y = corners(tile, col, row)
        for day in (datetime(2022, 6, 13, 10, 10, 31, tzinfo=UTC), datetime(2022, 10, 21, 10, 20, 29, tzinfo=UTC)):
            scene = f"S2A_MSIL2A_{day:%Y%m%dT%H%M%S}_N0400_R022_T{tile.name}"
            shares = [dict(zip(NAMES, part, strict=True)) for part in draw.dirichlet([0.3] * 4, len(col)).round(2)]
            fractions = [{name: share for name, share in part.items() if share > 0.1} for part in shares]
            gone = np.arange(len(col)) % 11 == 5
            reason = [DROP_REASONS[(5 * len(parts) + i // 11) % len(DROP_REASONS)] if out else None for i, out in enumerate(gone)]
            split = [None if out else "train" if c < 5 else "validation" if c < 7 else "test" for c, out in zip(col, gone, strict=True)]
            rows = {
                "patch_id": [str(PatchId(scene, c, r)) for c, r in zip(col, row, strict=True)],
                "tile_id": tile.name, "s2_product": f"{scene}_20221101T101010",
                "s1_product": f"S1A_IW_GRDH_1SDV_{day + timedelta(hours=7):%Y%m%dT%H%M%S}",
                "col": col, "row": row, "epsg": tile.epsg, "ul_x_m": x, "ul_y_m": y, "datetime": day,
                "season": "summer" if day.month == 6 else "autumn", "country": country,
                "labels": [sorted(part) for part in fractions], "label_fractions": fractions,
                "unlabeled_fraction": 0.0, "nodata_fraction": 0.0, "cloud_fraction": draw.random(len(col)).round(2),
                "shadow_fraction": 0.0, "snow_fraction": 0.0, "contains_cloud_or_shadow": False, "contains_seasonal_snow": False,
                "s1_time_gap_h": 7.0, "split": split, "kept": ~gone, "drop_reason": reason,
            }  # fmt: skip
            parts.append(gpd.GeoDataFrame(rows, geometry=footprints(x, y, tile.epsg), crs=4326))
    return pd.concat(parts, ignore_index=True)


def audit(**change) -> SplitAudit:
    pairs = [
        SplitPair(a="train", b="validation", min_gap_m=0, touching_a=38, touching_b=35, shared_places=0),
        SplitPair(a="train", b="test", min_gap_m=11_900, touching_a=0, touching_b=0, shared_places=0),
    ]
    values = {"counts": dict.fromkeys(SPLITS, 9), "pairs": pairs, "largest_ratio": 4.5, "largest_ratio_class": "Pastures"}
    return SplitAudit(**{**values, "class_shares": {"train": {"Pastures": 0.45}, "test": {"Pastures": 0.1}}, **change})


def scores(level: float, none: str = "") -> MultilabelScores:
    classes = [
        ClassScore(name=n, positives=0 if n == none else 10, average_precision=None if n == none else level, f1=level) for n in NAMES
    ]
    return MultilabelScores(
        patches=40, loss=1 - level, average_precision_macro=level, average_precision_micro=level, f1_macro=level, f1_micro=level,
        chance_average_precision_macro=0.25, classes=classes,
    )  # fmt: skip


def training(epochs: int = 3, test: MultilabelScores | None = None) -> TrainingReport:
    logs = [EpochLog(epoch=e, train_loss=1 / e, validation=scores(1 - 1 / (e + 1)), seconds=1.5) for e in range(1, epochs + 1)]
    return TrainingReport(
        name="resnet18", model="resnet18", task="multilabel", bands=["B02", "VV"], classes=list(NAMES), options={}, parameters=11_200_000,
        shard_manifest_sha256="0" * 64, runs=[TrainingRun(seed=0, key="0" * 64, epochs=logs, best_epoch=epochs, test=test)],
        test={name: Spread(mean=value) for name, value in test.figures().items()} if test else {},
    )  # fmt: skip


def sample(patches: pd.DataFrame, index: int = 0, side: int = 120) -> Sample:
    draw = np.random.default_rng(index)
    codes = np.full((side, side), 211, np.uint16)
    codes[: side // 4] = 999
    grey = draw.integers(0, 255, (side, side), dtype=np.uint8)
    smooth = np.linspace(20, 230, side).astype(np.uint8)
    rgb = np.stack(
        [np.broadcast_to(smooth, (side, side)), np.broadcast_to(smooth[:, None], (side, side)), np.full((side, side), 40 + index)], -1
    )
    rgb = rgb.astype(np.uint8)
    return Sample(patches["patch_id"].iloc[index], rgb, grey if index % 2 else None, codes, rgb[:, :, ::-1].copy())


def report(path: Path, patches: gpd.GeoDataFrame, **change) -> str:
    values = {
        "title": "Two tiles", "attribution": ["Contains modified Copernicus Sentinel data 2022. https://example.org"],
        "label_classes": CLASSES, "audit": audit(), "captions": {}, "samples": [], "code_names": {211: "Non-irrigated arable land"},
        "failures": [], "training": None, "provenance": {"recipe digest": "ab" * 32},
    }  # fmt: skip
    write_report(path / "index.html", patches=patches, **(values | change))
    return (path / "index.html").read_text(encoding="utf-8")
