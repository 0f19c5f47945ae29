"""The report says what the table says, stands alone, and treats every text as text."""

import base64
import io
import json
import math
import re
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rsdata.catalog import plots
from rsdata.catalog.report import Sample, write_report
from rsdata.errors import CatalogError
from rsdata.grid import Tile, corners, footprints
from rsdata.records import (
    DROP_REASONS,
    SPLITS,
    ClassScore,
    EpochLog,
    Failure,
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
        self._style = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._style = tag == "style"
        if tag == "table":
            self._table = dict(attrs).get("id") or f"table{len(self.tables)}"
            self.tables[self._table] = []
        elif tag == "tr" and self._table:
            self.tables[self._table].append([])
        elif tag in ("th", "td") and self._table:
            self.tables[self._table][-1].append("")

    def handle_endtag(self, tag):
        self._style = False
        self.words += " " if tag in ("dt", "dd") else ""
        if tag == "table":
            self._table = None

    def handle_data(self, data):
        if self._style:
            return
        self.words += data
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
    return Sample(
        patches["patch_id"].iloc[index], draw.integers(0, 255, (side, side, 3), dtype=np.uint8), grey if index % 2 else None, codes
    )


def report(path: Path, patches: gpd.GeoDataFrame, **change) -> str:
    values = {
        "title": "Two tiles", "attribution": ["Contains modified Copernicus Sentinel data 2022. https://example.org"], "classes": CLASSES,
        "audit": audit(), "captions": {}, "samples": [], "code_colors": {211: "#ffffa8"}, "code_names": {211: "Non-irrigated arable land"},
        "failures": [], "training": None, "provenance": {"recipe digest": "ab" * 32},
    }  # fmt: skip
    write_report(path / "index.html", patches=patches, **(values | change))
    return (path / "index.html").read_text(encoding="utf-8")


def number(cell: str) -> int:
    return int(cell.split()[0].replace(",", ""))


def test_class_counts_equal_a_recount_of_the_table(tmp_path):
    patches = patch_table()
    rows = Page(report(tmp_path, patches)).tables["class-table"][1:]
    assert [row[0].strip() for row in rows] == list(NAMES)
    kept = patches[patches["kept"]]
    for name, total, area, *splits in rows:
        shows = kept["labels"].map(lambda labels, name=name: name.strip() in labels)
        assert number(total) == shows.sum() > 0
        assert area == f"{kept['label_fractions'].map(lambda f, name=name: f.get(name.strip(), 0)).mean() * 100:.1f}\u00a0%"
        for split, cell in zip(SPLITS, splits, strict=True):
            of_split = shows[kept["split"] == split]
            assert number(cell) == of_split.sum()
            assert cell.split()[1:] == [f"{of_split.mean() * 100:.1f}", "%"]


def test_every_reason_is_counted_and_explained(tmp_path):
    patches = patch_table(side=(9, 9))
    counts = Counter(patches["drop_reason"].dropna())
    assert set(counts) == set(DROP_REASONS)
    rows = Page(report(tmp_path, patches)).tables["reason-table"][1:]
    assert {row[0]: number(row[1]) for row in rows} == counts
    assert all(len(row[2]) > 20 and "no further explanation" not in row[2] for row in rows)


def test_headline_numbers_are_those_of_the_table(tmp_path):
    patches = patch_table()
    words = " ".join(Page(report(tmp_path, patches)).words.split())
    kept = patches["kept"].sum()
    assert f"{len(patches)} patches of 1.2 × 1.2 km were cut from 4 Sentinel-2 scenes" in words
    assert f"Kept {kept}" in words and f"Dropped {len(patches) - kept}" in words
    for split in SPLITS:
        assert f"{split.capitalize()} {(patches['split'] == split).sum()}" in words


def test_hostile_names_stay_text(tmp_path):
    patches = patch_table(country=HOSTILE)
    patches["labels"] = [[HOSTILE] for _ in range(len(patches))]
    patches["season"] = HOSTILE
    text = report(
        tmp_path,
        patches,
        title=HOSTILE,
        attribution=[HOSTILE],
        classes=[LabelClass(index=0, name=HOSTILE, color="red;background:url(https://example.org/x)", codes=[1])],
        captions={patches["patch_id"][0]: f"{HOSTILE}\" onload='x'"},
        samples=[sample(patches)],
        code_colors={211: '"/><script>', 999: "url(x)"},
        code_names={211: HOSTILE},
        failures=[Failure(stage="scenes", unit=HOSTILE, error="SceneError", message=HOSTILE)],
        audit=audit(largest_ratio_class=HOSTILE),
        provenance={HOSTILE: HOSTILE},
    )
    page = Page(text)
    assert not [tag for tag, _ in page.elements if tag in ("script", "iframe", "object", "embed", "form")]
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert "url(" not in text and "alert(" in page.words


def test_the_page_loads_nothing_from_outside(tmp_path):
    patches = patch_table()
    text = report(tmp_path, patches, samples=[sample(patches, 1)], training=training(test=scores(0.8)))
    for tag, attributes in Page(text).elements:
        for name in ("src", "href", "xlink:href", "srcset", "action", "poster", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
    assert "@import" not in text and "url(" not in text and "default-src 'none'" in text


def test_tables_and_pictures_speak_to_a_screen_reader(tmp_path):
    patches = patch_table()
    text = report(tmp_path, patches, samples=[sample(patches, 1)], training=training(test=scores(0.8)))
    elements = Page(text).elements
    assert all(attributes.get("scope") in ("row", "col") for tag, attributes in elements if tag == "th")
    assert all(attributes.get("alt") for tag, attributes in elements if tag == "img")
    assert all(attributes.get("aria-label") for tag, attributes in elements if tag == "svg")
    assert text.count("<table") == text.count("<caption") > 5
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {attributes["href"] for tag, attributes in elements if tag == "a"} <= {f"#{name}" for name in ids}


def test_two_writes_give_the_same_page(tmp_path):
    patches = patch_table()
    assert report(tmp_path, patches, samples=[sample(patches)]) == report(tmp_path, patches, samples=[sample(patches)])


def test_a_sample_shows_its_pixels_and_the_key_of_its_map(tmp_path):
    patches = patch_table()
    one = sample(patches, 1)
    page = Page(report(tmp_path, patches, samples=[one], captions={one.patch_id: "Fields under a thin cloud."}))
    images = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(attributes["src"].split(",")[1]))))
        for tag, attributes in page.elements
        if tag == "img"
    ]
    assert np.array_equal(images[0], one.rgb) and np.array_equal(images[1], one.s1)
    assert images[2][60, 60].tolist() == [0xFF, 0xFF, 0xA8]
    words = " ".join(page.words.split())
    assert "Non-irrigated arable land (211)75.0 %" in words and "no polygon (999)25.0 %" in words
    assert "Fields under a thin cloud." in words and one.patch_id in words and "13 June 2022" in words


def test_a_page_full_of_large_samples_stays_small(tmp_path):
    patches = patch_table()
    text = report(tmp_path, patches, samples=[sample(patches, index, side=240) for index in range(30)])
    assert text.count('class="card"') == 24 and "6 more samples are not shown" in text
    assert len(report(tmp_path, patches, samples=[sample(patches, index) for index in range(24)])) < 5e6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch_id": "S2A_nowhere"}, "is not in the patch table"),
        ({"rgb": np.zeros((120, 120, 3))}, r"rgb of sample \S+ is float64"),
        ({"s1": np.zeros((120, 120, 1), np.uint8)}, r"expected uint8 with shape \(y, x\)"),
        ({"reference_map": np.zeros((120, 120), np.int32)}, "expected uint16"),
    ],
)
def test_a_wrong_sample_is_refused_in_words(tmp_path, change, message):
    patches = patch_table()
    one = sample(patches)
    wrong = {"patch_id": one.patch_id, "rgb": one.rgb, "s1": one.s1, "reference_map": one.reference_map} | change
    with pytest.raises(CatalogError, match=message):
        report(tmp_path, patches, samples=[Sample(**wrong)])


def test_the_audit_is_told_in_sentences(tmp_path):
    words = Page(report(tmp_path, patch_table())).words
    assert "Train and validation touch: 38 train patches and 35 validation patches have a direct neighbour" in words
    assert "No train patch lies within 11.9\u00a0km of a test patch." in words
    assert (
        "least balanced class is Pastures: its share in one split is 4.5 times that in another (45.0\u00a0% of train, 10.0\u00a0% of test)"
        in words
    )
    shared = SplitPair(a="train", b="test", min_gap_m=None, touching_a=0, touching_b=0, shared_places=3)
    words = Page(report(tmp_path, patch_table(), audit=audit(pairs=[shared], largest_ratio=math.inf))).words
    assert "3 places lie in both train and test" in words and "one split has none of it" in words


def test_training_scores_stand_beside_chance(tmp_path):
    page = Page(report(tmp_path, patch_table(), training=training(test=scores(0.8, none="Pastures"))))
    (row,) = page.tables["result-table"][1:]
    assert [cell.strip() for cell in row] == ["resnet18", "1", "0.800", "0.800", "0.800", "0.800"]
    assert "Chance is 0.250" in page.words
    rows = {row[0].strip(): row for row in page.tables["score-table"][1:]}
    assert rows["Arable land"][2:5] == ["10", "25.0\u00a0%", "0.800"]
    assert [cell.strip() for cell in rows["Pastures"][4:]] == ["–", "–"]


@pytest.mark.parametrize("epochs", [0, 1, 200])
def test_training_of_any_length_is_drawn(tmp_path, epochs):
    text = report(tmp_path, patch_table(), training=training(epochs))
    assert "There is no score on test." in text and "nan" not in text.lower().replace("–", "")
    assert text.count("<circle") == 4 * epochs


def test_a_loss_that_is_no_number_leaves_a_gap():
    chart = plots.epoch_chart("Loss", [1, 2, 3, 4], {"train": ("#000000", [1.0, 0.5, math.nan, 0.25])})
    assert len(chart.curves[0].dots) == 3 and len(chart.curves[0].runs) == 1


@pytest.mark.parametrize("keep", [[], ["dropped"], ["kept"]])
def test_a_dataset_of_nothing_still_has_a_report(tmp_path, keep):
    patches = patch_table()
    patches = patches[patches["kept"]] if keep == ["kept"] else patches[~patches["kept"]] if keep else patches.iloc[:0]
    words = Page(report(tmp_path, patches, audit=audit(pairs=[], counts={"train": 0}, largest_ratio=None, largest_ratio_class=None))).words
    assert "No patch is in train" in words and ("No patch was dropped." in words) == (keep != ["dropped"])


def test_folds_and_patches_without_a_split_are_shown(tmp_path):
    patches = patch_table()
    patches["split"] = [f"fold {i % 5}" if i % 7 else None for i in range(len(patches))]
    words = Page(report(tmp_path, patches)).words
    assert "Fold 4" in words and "Without a split" in words


def test_tiles_far_apart_have_a_map_each_in_true_proportion():
    patches = patch_table(side=(5, 20))
    group = patches["split"].where(patches["kept"], "dropped").astype(object)
    panels, left_out = plots.map_panels(patches, group, {**dict.fromkeys(SPLITS, "#0072b2"), "dropped": "#c4cad1"})
    assert [panel.title for panel in panels] == ["Tile 32UMC", "Tile 33UUP"] and not left_out
    assert sum(sum(panel.counts.values()) for panel in panels) == 2 * 5 * 20  # two dates, each place once
    first = next(layer for layer in panels[0].layers if layer.group == "train").path
    corners_px = np.array([[float(v) for v in point.split()] for point in re.findall(r"[\d.]+ [\d.]+", first.split("z")[0])])
    width, height = np.ptp(corners_px, axis=0)
    assert width == pytest.approx(height, rel=0.1)  # a patch is a square
    assert panels[0].plot_width > 3 * panels[0].plot_height


def test_neighbouring_tiles_share_a_map():
    patches = patch_table(tiles=("33UUP", "33UUQ"))
    panels, _ = plots.map_panels(patches, pd.Series("train", index=patches.index), {"train": "#0072b2"})
    assert [panel.title for panel in panels] == ["Tile 33UUP", "Tile 33UUQ"]  # their corners are a tile apart
    patches["tile_id"] = ["33UUP" if col < 5 else "33UUQ" for col in patches["col"]]
    patches = patches[patches["ul_y_m"] == patches["ul_y_m"].min()]
    panels, _ = plots.map_panels(patches, pd.Series("train", index=patches.index), {"train": "#0072b2"})
    assert [panel.title for panel in panels] == ["Tiles 33UUP, 33UUQ"]


def test_ten_thousand_patches_make_a_small_page_quickly(tmp_path):
    patches = patch_table(tiles=("33UUP",), side=(72, 72))
    start = time.monotonic()
    text = report(tmp_path, patches)
    assert len(patches) == 10_368 and time.monotonic() - start < 10
    assert "<image href=" in text and len(text) < 1e6


def test_ticks_are_round_numbers_inside_the_range():
    assert plots.ticks(12.43, 12.69, 4) == [12.45, 12.5, 12.55, 12.6, 12.65]
    assert plots.ticks(0.13, 0.61, 3, outward=True) == [0.0, 0.2, 0.4, 0.6, 0.8]
    assert json.dumps(plots.ticks(0, 1, 4)) == "[0.0, 0.2, 0.4, 0.6, 0.8, 1.0]"
