"""The report says what the table says, stands alone, and treats every text as text."""

import base64
import hashlib
import io
import json
import math
import re
import time
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from reports import CLASSES, HOSTILE, NAMES, Page, audit, patch_table, report, sample, scores, training
from skimage.color import rgb2lab

from rsdata.catalog import plots
from rsdata.catalog.colors import CLASS_COLORS, class_colors, ink_on, rgb
from rsdata.catalog.report import MAX_SAMPLES, Sample, ShardFacts, choose_samples
from rsdata.catalog.report.classes import by_month
from rsdata.errors import CatalogError
from rsdata.records import (
    DROP_REASONS,
    SPLITS,
    Artifact,
    Failure,
    GapDistribution,
    InputDigest,
    LabelClass,
    Manifest,
    NearPatches,
    SplitPair,
)


def number(cell: str) -> int:
    return int(cell.split()[0].replace(",", ""))


def test_class_counts_equal_a_recount_of_the_table(tmp_path):
    patches = patch_table()
    rows = Page(report(tmp_path, patches)).tables["class-table"][1:]
    assert [row[0] for row in rows] == [f"{index}{name}" for index, name in enumerate(NAMES, start=1)]
    kept = patches[patches["kept"]]
    for cell, total, area, *splits in rows:
        name = cell[1:]
        shows = kept["labels"].map(lambda labels, name=name: name in labels)
        assert number(total) == shows.sum() > 0
        assert area == f"{kept['label_fractions'].map(lambda f, name=name: f.get(name, 0)).mean() * 100:.1f}\u00a0%"
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
        label_classes=[LabelClass(index=0, name=HOSTILE, color="red;background:url(https://example.org/x)", codes=[1])],
        captions={patches["patch_id"][0]: f"{HOSTILE}\" onload='x'"},
        samples=[sample(patches)],
        code_names={211: HOSTILE},
        failures=[Failure(stage="scenes", unit=HOSTILE, error="SceneError", message=HOSTILE)],
        audit=audit(largest_ratio_class=HOSTILE),
        provenance={HOSTILE: HOSTILE},
    )
    page = Page(text)
    assert not [tag for tag, _ in page.elements if tag in ("iframe", "object", "embed")]
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert HOSTILE not in text and "url(" not in text and "alert(" in page.words
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", text, re.S)
    assert [kind for kind, _ in scripts] == [' type="application/json" id="map-data"', "", "", ""]
    assert not any("alert" in code for _, code in scripts[1:])
    (policy,) = [attributes["content"] for tag, attributes in page.elements if attributes.get("http-equiv")]
    digests = [base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for _, code in scripts[1:]]
    assert policy.endswith("script-src " + " ".join(f"'sha256-{digest}'" for digest in digests))


def test_a_hostile_split_stays_text_in_the_map_too(tmp_path):
    patches = patch_table()
    patches["split"] = [f"</script>{HOSTILE}"] * len(patches)
    text = report(tmp_path, patches)
    assert text.count("<script") == text.count("</script>") == 4


def test_the_page_loads_nothing_from_outside(tmp_path):
    patches = patch_table()
    text = report(tmp_path, patches, samples=[sample(patches, 1)], training=training(test=scores(0.8)))
    for tag, attributes in Page(text).elements:
        for name in ("src", "href", "xlink:href", "srcset", "action", "poster", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
    assert "@import" not in text and "url(" not in text and "default-src 'none'" in text
    assert not re.search(r"fetch\(|XMLHttpRequest|WebSocket|sendBeacon|import\(|https?://(?!example\.org)", text)


def test_tables_and_pictures_speak_to_a_screen_reader(tmp_path):
    patches = patch_table()
    text = report(tmp_path, patches, samples=[sample(patches, 1)], training=training(test=scores(0.8)))
    elements = Page(text).elements
    assert all(attributes.get("scope") in ("row", "col") for tag, attributes in elements if tag == "th")
    assert all(attributes.get("alt") for tag, attributes in elements if tag == "img")
    assert all(attributes.get("aria-label") for tag, attributes in elements if tag == "svg")
    assert text.count("<table") == text.count("<caption") > 8
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {attributes["href"] for tag, attributes in elements if tag == "a"} <= {f"#{name}" for name in ids}


def test_two_writes_give_the_same_page(tmp_path):
    patches = patch_table()
    assert report(tmp_path, patches, samples=[sample(patches)]) == report(tmp_path, patches, samples=[sample(patches)])


def images_of(page: Page) -> list[Image.Image]:
    sources = [attributes["src"] for tag, attributes in page.elements if tag == "img"]
    return [Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))) for source in sources]


def test_a_sample_shows_its_pixels_and_the_key_of_its_map(tmp_path):
    patches = patch_table()
    one = sample(patches, 1)
    page = Page(report(tmp_path, patches, samples=[one], captions={one.patch_id: "Fields under a thin cloud."}))
    images = [np.asarray(image) for image in images_of(page)]
    assert np.abs(images[0].astype(int) - one.rgb).max() < 24 and np.abs(images[1].astype(int) - one.false_color).max() < 24
    assert np.abs(images[2].astype(int) - one.s1).mean() < 10  # noise, squeezed by JPEG
    palette = np.array(images_of(page)[3].getpalette()).reshape(-1, 3)
    assert images[3].shape == (240, 240) and palette[images[3][200, 20]].tolist() == list(rgb(class_colors(CLASSES)["Arable land"]))
    assert palette[images[3][60, 100]].tolist() == [0, 0, 0]  # the edge between the two codes
    assert (images[3][61:] != images[3][200, 20]).sum() > 20  # 211 is written there
    words = " ".join(page.words.split())
    assert "Non-irrigated arable land (211)75.0 %" in words and "no polygon (999)25.0 %" in words
    assert "Fields under a thin cloud." in words and one.patch_id in words and "13 June 2022" in words


def test_a_page_full_of_large_samples_stays_small(tmp_path):
    patches = patch_table()
    text = report(tmp_path, patches, samples=[sample(patches, index, side=240) for index in range(MAX_SAMPLES + 6)])
    assert text.count('class="card"') == MAX_SAMPLES and "6 more samples are not shown" in text
    assert len(text) < 15e6


def test_a_map_of_very_many_codes_is_drawn_without_numbers(tmp_path):
    patches = patch_table()
    one = sample(patches, side=20)
    many = Sample(one.patch_id, one.rgb, None, np.arange(400, dtype=np.uint16).reshape(20, 20))
    assert images_of(Page(report(tmp_path, patches, samples=[many])))[1].size == (20, 20)


def test_every_split_and_every_class_is_among_the_samples():
    patches = patch_table()
    rare = patches.index[patches["kept"] & (patches["split"] == "test")][7]
    patches.at[rare, "labels"] = ["Glaciers"]
    chosen = patches.set_index("patch_id").loc[choose_samples(patches, 3)]
    assert chosen["split"].value_counts().to_dict() == {"train": 3, "validation": 3, "test": 4} and chosen["kept"].all()
    assert {name for labels in chosen["labels"] for name in labels} == {*NAMES, "Glaciers"}


def test_co_occurrence_is_counted_by_hand(tmp_path):
    patches = patch_table()
    patches["labels"] = [
        ["Arable land", "Pastures"] if i % 4 == 0 else ["Arable land"] if i % 4 == 1 else ["Pastures"] for i in range(len(patches))
    ]
    labels = patches.loc[patches["kept"], "labels"]
    both, arable = sum(len(each) == 2 for each in labels), sum("Arable land" in each for each in labels)
    rows = Page(report(tmp_path, patches)).tables["matrix-table"]
    assert rows[0] == ["Class", "1", "2"]
    assert rows[1] == ["1 Arable land", "100", f"{100 * both / arable:.0f}"]


def test_area_distributions_are_the_quantiles_of_the_table(tmp_path):
    patches = patch_table()
    rows = Page(report(tmp_path, patches)).tables["area-table"][1:]
    shares = [each["Pastures"] for each in patches.loc[patches["kept"], "label_fractions"] if each.get("Pastures", 0) > 0]
    assert rows[1][:3] == ["2Pastures", f"{np.median(shares) * 100:.1f}\u00a0%", f"{np.mean(shares) * 100:.1f}\u00a0%"]


def test_months_without_patches_are_shown_between_others():
    kept = patch_table()
    months = by_month(kept[kept["kept"]], {"train": "train", "validation": "validation", "test": "test"})
    assert [month for month, _ in months] == ["2022-06", "2022-07", "2022-08", "2022-09", "2022-10"]
    of_june = kept[kept["kept"] & (kept["season"] == "summer")]["split"].value_counts().to_dict()
    assert months[0][1] == of_june and months[1][1] == {"train": 0, "validation": 0, "test": 0}


def test_shards_and_the_chain_of_digests_are_told(tmp_path):
    manifest = Manifest(
        name="two", title="Two", rsdata_version="9.9", recipe_sha256="ab" * 32, inputs=[InputDigest(name="S2A_<scene>", sha256="cd" * 32)],
        counts={}, dropped={}, splits={}, coregistration=[], failures=[],
        outputs=[Artifact(path="patches.parquet", bytes=1_500, sha256="ef" * 32)],
    )  # fmt: skip
    facts = ShardFacts("two", "lmdb", "none", patches=100, keys=300, bytes=50_000_000, raw_bytes=100_000_000, read_patches=10,
                       read_bytes=2_000_000, read_seconds=0.5)  # fmt: skip
    page = Page(report(tmp_path, patch_table(), manifest=manifest, shards=[facts], recipe_text="name: <two>"))
    (row,) = page.tables["shard-table"][1:]
    assert row == ["two", "lmdbnone", "100", "300", "50.0\u00a0MB", "500.0\u00a0kB", "2.00", "20 patches/s4.0\u00a0MB/s"]
    assert page.tables["input-table"][1][0] == "S2A_<scene>" and page.tables["input-table"][1][3] == "cd" * 32
    assert page.tables["output-table"][1] == ["patches.parquet", "1.5\u00a0kB", "ef" * 32]
    assert "name: <two>" in page.words and "rsdata 9.9" in page.words


# Machado, Oliveira and Fernandes (2009), severity 1: what is left of linear RGB without one kind of receptor.
MISSING_RECEPTORS = {
    "none": np.eye(3),
    "red": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    "green": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
    "blue": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]),
}


@pytest.mark.parametrize("receptor", MISSING_RECEPTORS)
def test_class_colours_are_told_apart_without_one_kind_of_receptor(receptor):
    stored = np.array([rgb(color) for color in CLASS_COLORS]) / 255
    linear = np.where(stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ MISSING_RECEPTORS[receptor].T, 0, 1)
    lab = rgb2lab(np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)[None])[0]
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=2)[np.triu_indices(len(lab), 1)]
    assert apart.min() > 20


def test_classes_have_colours_of_their_own_and_numbers_that_can_be_read_on_them():
    many = [LabelClass(index=i, name=f"c{i}", color=f"#{i * 10:02x}8040", codes=[i]) for i in range(23)]
    colors = class_colors(many)
    assert len({colors[f"c{i}"] for i in range(20)}) == 20 and set(colors.values()) <= set(CLASS_COLORS)
    assert ink_on("#ffe100") == "#000000" and ink_on("#2d00a5") == "#ffffff"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch_id": "S2A_nowhere"}, "is not in the patch table"),
        ({"rgb": np.zeros((120, 120, 3))}, r"rgb of sample \S+ is float64"),
        ({"s1": np.zeros((120, 120, 1), np.uint8)}, r"expected uint8 with shape \(y, x\) or \(y, x, 3\)"),
        ({"false_color": np.zeros((120, 120), np.uint8)}, r"false-colour image of sample \S+ is uint8"),
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


@pytest.mark.parametrize("distances_m", [[0], [0, 1750, 5000, 12_000]])
def test_every_row_of_the_distances_is_as_wide_as_their_head(tmp_path, distances_m):
    near = [NearPatches(distance_m=distance_m, pairs=0, patches_a=0, patches_b=0) for distance_m in distances_m]
    gaps = GapDistribution(min_m=1, p5_m=1, median_m=1, quantiles_m=[1.0] * 41)
    known = SplitPair(a="train", b="test", min_gap_m=1, touching_a=0, touching_b=0, shared_places=0, gaps_a=gaps, gaps_b=gaps, near=near)
    empty = known.model_copy(update={"b": "validation", "min_gap_m": None, "gaps_a": None, "gaps_b": None})
    for pairs, rows in (([known, empty], 5), ([], 2)):
        text = report(tmp_path, patch_table(), audit=audit(pairs=pairs))
        table = re.search(r"<table>\s*<caption><span>Gap to the nearest.*?</table>", text, re.S)[0]
        cells = [re.findall(r'<t[hd](?: colspan="(\d+)")?[ >]', row) for row in re.findall("<tr>.*?</tr>", table)]
        assert [sum(int(span or 1) for span in row) for row in cells] == [6 + (len(distances_m) if pairs else 0)] * rows


def test_training_scores_stand_beside_chance(tmp_path):
    page = Page(report(tmp_path, patch_table(), training=training(test=scores(0.8, none="Pastures"))))
    (row,) = page.tables["result-table"][1:]
    assert [cell.strip() for cell in row] == ["resnet18", "1", "0.800", "0.800", "0.800", "0.800"]
    assert "Chance is 0.250" in page.words
    rows = {row[0].lstrip("1234"): row for row in page.tables["score-table"][1:]}
    assert rows["Arable land"][2:5] == ["10", "25.0\u00a0%", "0.800"]
    assert [cell.strip() for cell in rows["Pastures"][4:]] == ["–", "–"]


@pytest.mark.parametrize("epochs", [0, 1, 200])
def test_training_of_any_length_is_drawn(tmp_path, epochs):
    text = report(tmp_path, patch_table(), training=training(epochs))
    assert "There is no score on test." in text and not re.search(r"\bnan\b", text, re.I)
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
    assert panels[0].frame.plot_width > 3 * panels[0].frame.plot_height


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
    start = time.process_time()
    text = report(tmp_path, patches)
    assert len(patches) == 10_368 and time.process_time() - start < 10
    assert "<image href=" in text and len(text) < 1.2e6


def test_ticks_are_round_numbers_inside_the_range():
    assert plots.ticks(12.43, 12.69, 4) == [12.45, 12.5, 12.55, 12.6, 12.65]
    assert plots.ticks(0.13, 0.61, 3, outward=True) == [0.0, 0.2, 0.4, 0.6, 0.8]
    assert json.dumps(plots.ticks(0, 1, 4)) == "[0.0, 0.2, 0.4, 0.6, 0.8, 1.0]"
