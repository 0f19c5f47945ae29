"""Scores of predicted texts: how answers are read, values by hand, and published ones of the COCO caption evaluation."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from rsdata import steps
from rsdata.captions.scores import (
    bleu4,
    box_iou,
    cider_d,
    cider_d_each,
    read_box,
    read_choice,
    read_yes_no,
    retrieval_recall,
    rouge_l,
    score_texts,
)
from rsdata.commands import app
from rsdata.errors import CaptionError
from rsdata.records import PixelBox, TextRow, arrow_schema


def row(row_id, category, output, type_="presence", **changes):
    values = {
        "row_id": row_id, "patch_id": f"patch of {row_id}", "s1_name": None, "split": "test", "category": category, "type": type_,
        "input": "?", "output": output, "options": [], "answer_index": None, "box": None, "point": None, "template_id": "t",
        "prompt_digest": None, "model": None, "facts_digest": "f", "checked": True, "seed": 0,
    }  # fmt: skip
    return TextRow.model_validate(values | changes)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("Yes", True), ("yes.", True), ("No, there is none", False), ("YES!", True), ("true", True), ("False", False),
        ("The answer is no.", False), ("No, not yes", False), ("I say yes or no", None),
        ("maybe", None), ("", None), ("nothing", None), ("Answer: Yes", True),
    ],
)  # fmt: skip
def test_yes_and_no_are_read_in_sentences(text, meant):
    assert read_yes_no(text) is meant


OPTIONS = ["forest", "Mixed forest", "a lake, or several", "3"]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("forest", 0), ("Mixed Forest.", 1), ("a lake, or several", 2), ("3", 3), ("1", 1), ("9", None), ("b", 1), ("B.", 1), ("(c)", 2),
        ("D) 3", 3), ("Answer: A", 0), ("answer is b", 1), ("The answer is (B).", None), ("E", None), ("It is mixed forest here", 1),
        ("forest and mixed forest", None), ("answer: a lake, or several", 2), ("nothing", None), ("", None), ("Option C", 2),
    ],
)  # fmt: skip
def test_a_choice_is_read_by_text_letter_or_index(text, place):
    assert read_choice(text, OPTIONS) == place


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("[0, 10, 20, 120]", (0, 10, 20, 120)), ("The box (of 2 lakes) is [1,2,3,4].", (1, 2, 3, 4)), ("1 2 3.5 4", (1, 2, 3.5, 4)),
        ("[1, 2, 3]", None), ("no box", None), ("x0=1, y0=2, x1=3, y1=4", None), ("(5, 6, 7, 8)", (5, 6, 7, 8)),
    ],
)  # fmt: skip
def test_a_box_is_read_from_brackets_or_four_numbers(text, box):
    assert read_box(text) == box


def test_overlap_of_boxes_by_hand():
    assert box_iou((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert box_iou((0, 0, 10, 10), (5, 0, 15, 10)) == 50 / 150
    assert box_iou((0, 0, 10, 10), (10, 0, 20, 10)) == 0  # half-open boxes side by side
    assert box_iou((0, 0, 10, 10), (5, 5, 5, 9)) == 0
    assert box_iou((0, 0, 10, 10), (8, 8, 2, 2)) == 0


def test_accuracy_counts_what_is_missing_or_not_readable_as_wrong():
    rows = [row(f"b{number}", "binary", "Yes" if number % 2 else "No") for number in range(4)]
    rows += [row(f"m{number}", "multiple_choice", OPTIONS[number], "counting", options=OPTIONS, answer_index=number) for number in range(4)]
    rows += [row("x", "referring_point", "[0, 0, 10, 10]", "region", box=PixelBox(x0=0, y0=0, x1=10, y1=10, raster="reference_map"))]
    rows += [row("y", "referring_point", "[0, 0, 9, 9]", "region", box=PixelBox(x0=0, y0=0, x1=9, y1=9, raster="reference_map"))]
    said = [
        ("b0", "no"),
        ("b1", "no"),
        ("b2", "perhaps"),
        ("m0", "A"),
        ("m1", "mixed forest"),
        ("m2", "0"),
        ("x", "[5, 0, 15, 10]"),
        ("z", "?"),
    ]
    scores = score_texts(rows, said)
    assert [(each.category, each.rows, each.answered, each.read, each.accuracy) for each in scores.tasks] == [
        ("binary", 4, 3, 2, 0.25),
        ("multiple_choice", 4, 3, 3, 0.5),
    ]
    assert [(each.rows, each.answered, each.read, each.miou, each.half) for each in scores.boxes] == [(2, 1, 1, pytest.approx(1 / 6), 0.0)]
    assert (scores.missing, scores.unknown, scores.captions) == (["b3", "m3", "y"], ["z"], None)


def test_the_rows_themselves_score_full_marks():
    rows = [row("b", "binary", "Yes"), row("m", "multiple_choice", "3", "counting", options=OPTIONS, answer_index=3)]
    rows += [row(f"c{number}", "caption", text, "caption") for number, text in enumerate(REFERENCES_1)]
    scores = score_texts(rows, [(each.row_id, each.output) for each in rows])
    assert all(task.accuracy == 1 for task in scores.tasks)
    assert scores.captions is not None
    assert scores.captions.bleu4 == pytest.approx(100)
    assert scores.captions.rouge_l == 1
    assert scores.captions.cider_d == pytest.approx(10)


def test_an_id_that_is_there_twice_is_refused():
    with pytest.raises(CaptionError, match="1 row ids have more than one prediction, a among them"):
        score_texts([row("a", "binary", "Yes")], [("a", "yes"), ("a", "no")])
    with pytest.raises(CaptionError, match="more than one row"):
        score_texts([row("a", "binary", "Yes")] * 2, [])


REFERENCES = [
    ["pastures cover half of the patch and forest the rest", "half of the patch is pasture"],
    ["a lake lies in the north west of the forest"],
    [
        "urban fabric dominates the scene with some arable land", "the scene is mainly urban fabric",
        "mostly urban fabric and a little arable land",
    ],
    ["mixed forest borders pastures in the south"],
]  # fmt: skip
REFERENCES_1 = [each[0] for each in REFERENCES]
SAID = [
    "half of the patch is covered by pastures",
    "a lake lies in the south of the forest forest forest",
    "the scene is mainly urban fabric with arable land",
    "mixed forest borders pastures in the south",
]


def test_cider_is_that_of_the_coco_caption_evaluation():
    # computed once with pycocoevalcap 1.2, Cider().compute_score, on these very words
    assert cider_d_each(SAID, REFERENCES) == pytest.approx([4.3366258663422865, 4.617795030850383, 3.887948381513515, 10.0], abs=1e-12)
    assert cider_d(SAID, REFERENCES) == pytest.approx(5.710592319676547, abs=1e-12)
    one_each = [[each] for each in REFERENCES_1]
    assert cider_d_each(SAID, one_each) == pytest.approx([2.894215253621633, 4.749723158706793, 2.8125, 10.0], abs=1e-12)


def test_cider_looks_at_words_alone():
    assert cider_d(["Mixed forest, pastures!", "lake"], [["mixed FOREST pastures"], ["Lake."]]) == cider_d(
        ["mixed forest pastures", "lake"], [["mixed forest pastures"], ["lake"]]
    )


def test_bleu_and_rouge_by_hand():
    # ROUGE-L: 4 of 4 and 4 of 6 words in common, so F = 2 · 1 · 2/3 / (5/3) = 0.8
    assert rouge_l(["forest lies in north"], [["the forest lies in the north"]]) == pytest.approx(0.8)
    # 5 words, of the reference's 6: precisions 5/5, 4/4, 3/3, 2/2 and a brevity penalty of exp(1 - 6/5)
    assert bleu4(["a lake lies in the"], [["a lake lies in the north"]]) == pytest.approx(100 * np.exp(-0.2))


# --- retrieval --------------------------------------------------------------------------------------------


def test_recall_by_hand():
    images = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    texts = np.array([[2.0, 0.1], [1.0, 1.1], [0.1, 3.0]])  # the second is nearest to the third image, the third to the second
    found = retrieval_recall(images, texts, ["a", "b", "c"], ["a", "b", "c"], most=(1, 2))
    # cosines of image c: 0.74, 0.999 and 0.73, so its own text comes last
    assert found == pytest.approx(
        {"text to image R@1": 1 / 3, "text to image R@2": 1.0, "image to text R@1": 1 / 3, "image to text R@2": 2 / 3}
    )


def test_recall_agrees_with_sorting_where_an_image_has_several_texts():
    rng = np.random.default_rng(0)
    images, texts = rng.normal(size=(40, 8)), rng.normal(size=(120, 8))
    image_ids, text_ids = [str(i) for i in range(40)], [str(i % 40) for i in range(120)]
    found = retrieval_recall(images, texts, image_ids, text_ids)
    nearness = (texts / np.linalg.norm(texts, axis=1)[:, None]) @ (images / np.linalg.norm(images, axis=1)[:, None]).T
    for k in (1, 5, 10):
        hits = [text_ids[t] in {image_ids[i] for i in np.argsort(-nearness[t])[:k]} for t in range(120)]
        assert found[f"text to image R@{k}"] == np.mean(hits)
        hits = [image_ids[i] in {text_ids[t] for t in np.argsort(-nearness[:, i])[:k]} for i in range(40)]
        assert found[f"image to text R@{k}"] == np.mean(hits)


def test_vectors_that_are_all_alike_find_nothing():
    found = retrieval_recall(np.ones((5, 3)), np.ones((5, 3)), list("abcde"), list("abcde"), most=(1, 5))
    assert found == {"text to image R@1": 0, "text to image R@5": 1, "image to text R@1": 0, "image to text R@5": 1}


@pytest.mark.parametrize(
    ("images", "texts", "ids", "said"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), "ab", "3 features and texts 4"),
        (np.ones((2, 3)), np.ones((2, 3)), "ac", "only images or only texts, b among them"),
        (np.zeros((2, 3)), np.ones((2, 3)), "ab", "no direction"),
        (np.full((2, 3), np.nan), np.ones((2, 3)), "ab", "no direction"),
        (np.ones(2), np.ones((2, 3)), "ab", r"expected \(n, feature\)"),
    ],
)
def test_embeddings_that_do_not_fit_are_refused(images, texts, ids, said):
    with pytest.raises(CaptionError, match=said):
        retrieval_recall(images, texts, list("ab"), list(ids))


# --- files and command line -------------------------------------------------------------------------------

ROWS = [
    row("1", "binary", "Yes"),
    row("2", "multiple_choice", "forest", "area", options=OPTIONS, answer_index=0),
    row("3", "referring_phrase", "[0, 0, 10, 10]", "region", box=PixelBox(x0=0, y0=0, x1=10, y1=10, raster="reference_map")),
    row("4", "caption", "A lake lies in the forest.", "caption"),
    row("5", "caption", "Pastures cover the patch.", "caption"),
]
ANSWERS = {"1": "Yes, it is.", "2": "A", "3": "[0, 0, 10, 5]", "4": "A lake lies in the forest.", "7": "who?"}


@pytest.fixture
def table(tmp_path):
    pq.write_table(pa.Table.from_pylist([each.model_dump() for each in ROWS], arrow_schema(TextRow)), tmp_path / "texts.parquet")
    return tmp_path / "texts.parquet"


def written(path):
    rows = [{"row_id": key, "output": value} for key, value in ANSWERS.items()]
    if path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    elif path.suffix == ".csv":
        with path.open("w", newline="") as lines:
            writer = csv.DictWriter(lines, ["row_id", "output"])
            writer.writeheader()
            writer.writerows(rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_predictions_are_read_from_every_kind_of_file(table, tmp_path, suffix):
    scores = steps.score_predictions(table, written(tmp_path / f"said{suffix}"))
    assert [each.accuracy for each in scores.tasks] == [1, 1]
    assert scores.boxes[0].miou == 0.5
    assert (scores.missing, scores.unknown) == (["5"], ["7"])
    assert scores == steps.score_predictions(tmp_path, written(tmp_path / f"said{suffix}"))  # a folder stands for its texts


def test_the_command_prints_tables_and_json(table, tmp_path):
    said = written(tmp_path / "said.jsonl")
    shown = CliRunner().invoke(app, ["caption", "score", str(table), str(said)])
    assert shown.exit_code == 0, shown.output
    assert all(word in shown.output for word in ("binary", "100.00%", "mIoU", "0.5000", "CIDEr-D"))
    found = json.loads(CliRunner().invoke(app, ["caption", "score", str(table), str(said), "--json"]).stdout)
    assert found["tasks"][0] == {"category": "binary", "type": "presence", "rows": 1, "answered": 1, "read": 1, "accuracy": 1.0}
    assert found["missing"] == ["5"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("said.txt", "1 yes", r"none of .jsonl, .csv, .parquet"),
        ("said.jsonl", '{"row_id": "1"}', "prediction 1, has no `row_id` or no `output` or `prediction`"),
        ("said.jsonl", '{"row_id": 1, "output": "yes"}', "prediction 1"),
        ("said.jsonl", "[1]", "prediction 1"),
        ("said.jsonl", '{"row_id": "1", "output": "y', "cannot be read"),
        ("said.jsonl", "[" * 200_000, "cannot be read .nested too deeply"),
        ("said.csv", "id,output\n1,yes", "prediction 1"),
        ("said.parquet", "no table", "cannot be read"),
    ],
)
def test_predictions_that_cannot_be_read_are_refused(table, tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    with pytest.raises(CaptionError, match=said):
        steps.score_predictions(table, tmp_path / name)


def test_recall_is_read_from_files(tmp_path):
    vectors = np.eye(4, dtype=np.float32)
    np.save(tmp_path / "images.npy", vectors)
    np.savez(tmp_path / "texts.npz", vectors=vectors[::-1], ids=np.array(["3", "2", "1", "0"]))
    found = steps.score_retrieval(tmp_path / "images.npy", tmp_path / "texts.npz")
    assert set(found.values()) == {1.0}
    shown = CliRunner().invoke(app, ["caption", "recall", str(tmp_path / "images.npy"), str(tmp_path / "texts.npz"), "--json"])
    assert json.loads(shown.stdout) == found
    (tmp_path / "broken.npz").write_bytes(b"PK")
    for name, said in (("broken.npz", "cannot be read"), ("images.txt", "neither .npy nor .npz"), ("absent.npy", "cannot be read")):
        with pytest.raises(CaptionError, match=said):
            steps.score_retrieval(tmp_path / name, tmp_path / "texts.npz")


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "rouge_score.rouge_scorer", None)
    with pytest.raises(CaptionError, match=r"rouge-score, which is not installed; run pip install \"rsdata\[score\]\""):
        rouge_l(["a"], [["a"]])
