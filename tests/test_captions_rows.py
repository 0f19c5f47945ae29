"""Rows of texts: their columns, their balance, and that they do not depend on how the work is divided."""

from collections import Counter

import pyarrow as pa
import pytest
from suites import CLASS_NAMES

from rsdata.captions import TemplateCaptioner, TextOptions, TextRows, caption_all, facts_digest, rows_of
from rsdata.errors import CaptionError
from rsdata.records import TextRow, arrow_schema
from rsdata.testing.text_trial import around_generated, facts_and_maps

OPTIONS = TextOptions(around_generated(), seed=4)


@pytest.fixture(scope="module")
def many():
    return [facts for portion in facts_and_maps(150, seed=8) for facts, _ in portion]


@pytest.fixture(scope="module")
def table(many):
    return TextRows(OPTIONS).table(many)


def test_rows_have_the_columns_of_their_record_and_unique_ids(table, many):
    assert table.schema == arrow_schema(TextRow)
    assert table["row_id"].to_pylist() == [row.row_id for row in rows_of(many, OPTIONS)]
    assert len(set(table["row_id"].to_pylist())) == len(table)
    digest_of = {each.patch_id: facts_digest(each) for each in many}
    assert [digest_of[patch_id] for patch_id in table["patch_id"].to_pylist()] == table["facts_digest"].to_pylist()
    assert {(each.patch_id, each.s1_name, each.split) for each in many} >= set(
        zip(*(table[name].to_pylist() for name in ("patch_id", "s1_name", "split")), strict=True)
    )


def test_boxes_and_points_stand_where_they_belong(table):
    for row in table.to_pylist():
        referring = row["category"].startswith("referring")
        assert (row["box"] is not None) == referring
        assert (row["point"] is not None) == (row["category"] == "referring_point")
        assert (row["type"] == "region") == referring
        if referring:
            assert row["output"] == f"[{row['box']['x0']}, {row['box']['y0']}, {row['box']['x1']}, {row['box']['y1']}]"
            assert row["box"]["raster"] == "reference_map"


def test_the_right_option_is_the_answer(table):
    for row in table.to_pylist():
        if row["category"] == "multiple_choice":
            assert len(row["options"]) == 4
            assert row["options"][row["answer_index"]] == row["output"]
        else:
            assert row["options"] == []
            assert row["answer_index"] is None


def test_each_place_is_right_once_in_four_questions_of_a_split_and_subject(table):
    places = {}
    for row in table.to_pylist():
        if row["options"]:
            places.setdefault((row["split"], row["type"]), []).append(row["answer_index"])
    assert len(places) == 3 * 8
    orders = set()
    for found in places.values():
        whole = [tuple(found[first : first + 4]) for first in range(0, len(found) - 3, 4)]
        assert all(sorted(each) == [0, 1, 2, 3] for each in whole)
        orders.update(whole)
    assert len(orders) > 15  # of 24, so the place cannot be guessed from the one before


def test_yes_and_no_are_equally_many_in_every_patch(table):
    answers = Counter((row["patch_id"], row["type"], row["output"]) for row in table.to_pylist() if row["category"] == "binary")
    assert {answer for *_, answer in answers} == {"yes", "no"}
    assert all(answers[patch_id, subject, "yes"] == answers[patch_id, subject, "no"] for patch_id, subject, _ in answers)


def test_portions_of_any_size_give_the_same_rows(table, many):
    maker = TextRows(OPTIONS)
    assert pa.concat_tables(maker.table(many[first : first + 7]) for first in range(0, len(many), 7)) == table


def test_what_is_asked_of_a_patch_does_not_depend_on_its_company(table, many):
    alone = TextRows(OPTIONS).table(many[50:51]).to_pylist()
    among = [row for row in table.to_pylist() if row["patch_id"] == many[50].patch_id]
    assert len(alone) == len(among) > 5
    for one, other in zip(alone, among, strict=True):
        assert sorted(one.pop("options")) == sorted(other.pop("options"))
        one.pop("answer_index"), other.pop("answer_index")
        assert one == other


def test_another_seed_asks_something_else(table, many):
    other = TextRows(TextOptions(OPTIONS.around, seed=5)).table(many)
    assert not set(other["row_id"].to_pylist()) & set(table["row_id"].to_pylist())
    assert len(set(other["input"].to_pylist()) - set(table["input"].to_pylist())) > 500


def test_a_caption_comes_before_the_questions_of_its_patch(many):
    many = [each.model_copy(update={"climate": None}) for each in many]
    captions = caption_all(many, TemplateCaptioner(4), CLASS_NAMES, seed=4)
    rows = TextRows(OPTIONS).table(many, captions).to_pylist()
    first_of = {}
    for row in rows:
        first_of.setdefault(row["patch_id"], row)
    assert len(first_of) == len(many)
    assert {row["category"] for row in first_of.values()} == {"caption"}
    assert sum(row["category"] == "caption" for row in rows) == len(many)
    assert first_of[many[3].patch_id]["output"] == captions[3].output


@pytest.mark.parametrize("order", [(1, 0), (0, 0)])
def test_patches_out_of_order_are_refused(many, order):
    with pytest.raises(CaptionError, match=r"comes after .* rising order of patch ids, each once"):
        TextRows(OPTIONS).table([many[index] for index in order])


def test_a_caption_of_another_patch_is_refused(many):
    captions = caption_all(many[5:6], TemplateCaptioner(4), CLASS_NAMES)
    with pytest.raises(CaptionError, match=f"a caption of {many[5].patch_id}, whose facts are not at hand"):
        TextRows(OPTIONS).table(many[:5], captions)


def test_only_what_is_confirmed_is_written_and_marked(table, many):
    assert set(table["checked"].to_pylist()) == {False}
    maker = TextRows(OPTIONS, lambda facts, question: "pastures" not in question.text.lower())
    rows = maker.table(many).to_pylist()
    assert {row["checked"] for row in rows} == {True}
    assert rows
    assert not any("pastures" in row["input"].lower() for row in rows)
    assert maker.left_out == len(table) - len(rows) > 0
    answers = Counter(row["output"] for row in rows if row["category"] == "binary")
    assert answers["yes"] == answers["no"]  # a pair is left out whole
