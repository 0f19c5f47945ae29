"""Texts in the forms of others, each read back by something that is not rsdata: pyarrow, json, pycocotools, tarfile, webdataset."""

import io
import json
import re
import shutil
import tarfile
from collections import defaultdict

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pycocotools.coco import COCO
from typer.testing import CliRunner

from rsdata import steps
from rsdata.captions import bigearthnet_txt, coco_boxes, llava_conversation
from rsdata.catalog import read_table
from rsdata.commands import app
from rsdata.errors import WorkspaceError
from rsdata.records import PatchFacts, TextRow

CHOICE = {
    "row_id": "r1", "patch_id": "p", "s1_name": None, "split": "test", "category": "multiple_choice", "type": "relative_position",
    "input": "Where is it?", "output": "Beaches, dunes, sands", "options": ["A, or B", "Beaches, dunes, sands", "C", "D"],
    "answer_index": 1, "box": None, "point": None,
}  # fmt: skip
BINARY = CHOICE | {"category": "binary", "type": "climate", "input": "Is it?", "output": "yes", "options": [], "answer_index": None}


@pytest.fixture(scope="module")
def texts(built):
    return read_table(built.texts, TextRow)


def export(built, form, out, **options):
    return steps.export_texts(built, form, out, **options)


def test_a_build_asks_answers_and_checks(texts, built):
    assert texts["checked"].all()
    by_category = texts.groupby("category").size()
    assert set(by_category.index) == {"caption", "binary", "multiple_choice", "referring_phrase", "referring_point"}
    assert by_category["caption"] == texts["patch_id"].nunique()
    assert by_category["binary"] > 4 * by_category["caption"]
    assert texts["row_id"].is_unique
    assert list(texts["patch_id"].drop_duplicates()) == sorted(texts["patch_id"].unique())


def test_the_eight_columns_are_those_of_bigearthnet_txt(built, texts, tmp_path):
    counts = export(built, "bigearthnet-txt", tmp_path / "texts.parquet")
    table = pq.read_table(tmp_path / "texts.parquet")
    assert table.column_names == ["ID", "s1_name", "patch_id", "input", "output", "type", "category", "split"]
    assert counts == {"rows": len(texts)}
    assert table["ID"].to_pylist() == list(range(len(texts)))
    assert set(table["type"].to_pylist()) == {"captioning", "binary", "mcq", "bounding box"}
    assert "relative position" in set(table["category"].to_pylist())
    assert set(table["split"].to_pylist()) <= {"train", "validation", "test"}
    for row in table.to_pylist():
        if row["type"] == "mcq":
            assert re.search(rf"\n{row['output']}\. ", row["input"])


def test_options_are_spelled_out_with_letters_and_never_split_at_commas():
    mcq, binary = bigearthnet_txt([CHOICE, BINARY], first_id=7).to_pylist()
    assert mcq == {
        "ID": 7, "s1_name": None, "patch_id": "p", "split": "test", "type": "mcq", "category": "relative position", "output": "B",
        "input": "Where is it?\nA. A, or B\nB. Beaches, dunes, sands\nC. C\nD. D\nAnswer with the letter of the right option.",
    }  # fmt: skip
    assert (binary["type"], binary["category"], binary["input"], binary["output"]) == ("binary", "climate zone", "Is it?", "yes")


def test_a_conversation_has_two_turns_and_a_picture():
    said = llava_conversation(CHOICE, "images/p.png")
    assert said["id"] == "r1"
    assert said["image"] == "images/p.png"
    assert [turn["from"] for turn in said["conversations"]] == ["human", "gpt"]
    assert said["conversations"][0]["value"].startswith("<image>\nWhere is it?\nA. A, or B\n")
    assert said["conversations"][1]["value"] == "B"
    alone = llava_conversation(BINARY, None)
    assert "image" not in alone
    assert alone["conversations"][0]["value"] == "Is it?"


def test_llava_conversations_name_pictures_that_are_there(built, texts, tmp_path):
    export(built, "llava", tmp_path / "llava")
    found = json.loads((tmp_path / "llava" / "conversations.json").read_text(encoding="utf-8"))
    assert [each["id"] for each in found] == texts["row_id"].tolist()
    pictures = {each["image"] for each in found}
    assert len(pictures) == texts["patch_id"].nunique()
    for name in pictures:
        with Image.open(tmp_path / "llava" / name) as picture:
            assert (picture.size, picture.mode) == ((120, 120), "RGB")


def test_coco_boxes_enclose_the_regions_of_the_facts(built, tmp_path):
    counts = export(built, "coco", tmp_path / "coco", pictures=False)
    coco = COCO(tmp_path / "coco" / "boxes.json")
    facts = read_table(built.facts, PatchFacts).set_index("patch_id")
    assert counts == {"images": len(facts), "annotations": int(facts["regions"].map(len).sum())}
    names = {number: each["name"] for number, each in coco.cats.items()}
    assert sorted(names) == list(range(1, 20))
    for image in coco.imgs.values():
        regions = facts.loc[image["file_name"].removeprefix("images/").removesuffix(".png"), "regions"]
        found = [(names[each["category_id"]], *each["bbox"], each["area"]) for each in coco.imgToAnns[image["id"]]]
        wanted = [
            (each["name"], box["x0"], box["y0"], box["x1"] - box["x0"], box["y1"] - box["y0"], each["pixels"])
            for each in regions
            for box in [each["box"]]
        ]
        assert found == wanted
    assert any(each["phrases"] for each in coco.anns.values())
    assert not (tmp_path / "coco" / "images").exists()


def test_a_phrase_goes_to_the_region_it_names_where_two_fill_one_box(built):
    row = read_table(built.facts, PatchFacts).iloc[0].to_dict()
    box = {"x0": 0, "y0": 0, "x1": 9, "y1": 9, "raster": "reference_map"}
    region = row["regions"][0] | {"box": box}
    row["regions"] = [region | {"name": "Water"}, region | {"name": "Marine waters"}]
    phrase = {"input": "Where is the only region of marine waters?", "box": box, "point": None}
    out = io.StringIO()
    coco_boxes(out, [(PatchFacts.model_validate(row), [phrase])], ["Water", "Marine waters"], io.StringIO())
    assert [each["phrases"] for each in json.loads(out.getvalue())["annotations"]] == [[], [phrase["input"]]]


def test_tars_hold_a_picture_and_the_rows_of_each_patch(built, texts, tmp_path, monkeypatch):
    monkeypatch.setattr("rsdata.steps.exporting.PATCHES_PER_TAR", 30)
    counts = export(built, "webdataset", tmp_path / "tars")
    tars = sorted((tmp_path / "tars").glob("*.tar"))
    assert counts == {"tars": len(tars), "samples": texts["patch_id"].nunique()}
    assert len(tars) == -(-counts["samples"] // 30) > 1
    samples = defaultdict(dict)
    for path in tars:
        with tarfile.open(path) as tar:
            for member in tar:
                name, _, kind = member.name.partition(".")
                samples[name][kind] = tar.extractfile(member).read()
    assert {name: len(json.loads(parts["json"])) for name, parts in samples.items()} == texts.groupby("patch_id").size().to_dict()
    assert all(np.asarray(Image.open(io.BytesIO(parts["png"]))).shape == (120, 120, 3) for parts in samples.values())
    assert len({parts["png"] for parts in samples.values()}) == len(samples)


def test_webdataset_reads_the_tars(built, texts, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    export(built, "webdataset", tmp_path / "tars")
    found = list(webdataset.WebDataset(str(tmp_path / "tars" / "texts-000000.tar"), shardshuffle=False).decode("rgb8"))
    assert [each["__key__"] for each in found] == sorted(texts["patch_id"].unique())
    assert found[0]["png"].shape == (120, 120, 3)
    assert found[0]["json"][0]["category"] == "caption"


@pytest.mark.parametrize("form", ["llava", "coco", "webdataset", "bigearthnet-txt"])
def test_an_export_is_the_same_twice(built, tmp_path, form):
    def content(path):
        return path.read_bytes() if path.is_file() else {each.name: each.read_bytes() for each in path.rglob("*") if each.is_file()}

    for name in ("one", "two"):
        export(built, form, tmp_path / name, pictures=form == "webdataset")
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_an_unknown_form_and_a_target_that_exists_are_refused(built, tmp_path):
    with pytest.raises(WorkspaceError, match="no form 'csv' for texts; known are bigearthnet-txt, coco, llava, webdataset"):
        export(built, "csv", tmp_path / "out")
    with pytest.raises(WorkspaceError, match="exists; name another with --out"):
        export(built, "llava", tmp_path)


def test_the_verb_export_says_what_it_wrote(built, tmp_path):
    said = CliRunner().invoke(
        app, ["caption", "export", str(built.root), "--as", "coco", "--out", str(tmp_path / "c"), "--no-images", "--json"]
    )
    assert said.exit_code == 0, said.output
    assert json.loads(said.stdout)["counts"]["images"] > 0


def test_caption_without_a_verb_writes_the_texts_of_a_dataset_anew(built, texts, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(built.root, root)
    same = CliRunner().invoke(app, ["caption", str(root), "--json"])
    assert same.exit_code == 0, same.output
    assert json.loads(same.stdout)["done"] is False
    other = CliRunner().invoke(app, ["caption", str(root), "--seed", "77", "--json"])
    assert json.loads(other.stdout)["done"] is True
    workspace = steps.open_workspace(root)
    assert steps.verify_dataset(workspace)[1] == []
    assert "seed: 77" in workspace.recipe.read_text(encoding="utf-8")
    rewritten = read_table(workspace.texts, TextRow)
    assert set(rewritten["seed"]) == {77}
    assert not set(rewritten["row_id"]) & set(texts["row_id"])
