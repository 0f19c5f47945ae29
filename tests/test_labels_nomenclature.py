"""Nomenclatures and the tables between them, held to the official lists; and every way a table can be wrong."""

import csv
import json
from importlib import resources

import pytest

from rsdata.errors import LabelError
from rsdata.labels import NOMENCLATURES, SOURCES, load_nomenclature

TABLES = resources.files("rsdata.labels").joinpath("tables")
VALID = "code,index,name,color\n1,0,Forest,#00a600\n2,1,Built,#ff0000\n"


def test_the_nomenclature_of_19_classes_is_the_table_of_reben():
    clc = load_nomenclature("bigearthnet-19")
    assert len(clc.classes) == 19
    assert len(clc.code_names) == 44
    assert clc.unlabeled_codes == [122, 123, 124, 131, 132, 133, 141, 142, 332, 334, 335, 423, 999]
    codes = {each.name: each.codes for each in clc.classes}
    assert codes["Permanent crops"] == [221, 222, 223, 241]
    assert codes["Natural grassland and sparsely vegetated areas"] == [321, 333]
    assert sum(len(members) for members in codes.values()) == 44 - 12


def test_classes_are_numbered_by_their_first_code_and_have_its_colour():
    clc = load_nomenclature("bigearthnet-19")
    assert [each.index for each in clc.classes] == list(range(19))
    assert [each.codes[0] for each in clc.classes] == sorted(each.codes[0] for each in clc.classes)
    assert all(each.color == clc.code_colors[each.codes[0]] for each in clc.classes)


def test_corine_and_the_19_classes_equal_the_published_list(shared_data):
    published = json.loads((shared_data / "bigearthnet_v2" / "clc_metadata.json").read_text())["clc_data"]
    clc = load_nomenclature("bigearthnet-19")
    level_3 = [each for each in published if int(each["code"]) != 999]
    assert {int(each["code"]): each["name_clc"] for each in level_3} == clc.code_names
    assert {int(each["code"]): "#{:02x}{:02x}{:02x}".format(*each["color"][:3]) for each in level_3} == clc.code_colors
    assert {int(each["code"]): each["name_19"] for each in level_3 if each["name_19"] in {c.name for c in clc.classes}} == clc.class_of_code
    assert {each["name_19"] for each in level_3} - {c.name for c in clc.classes} <= {None, "", "UNLABELED", "Unlabeled", "unlabeled"}


def test_the_43_classes_are_those_that_published_patches_carry(shared_data):
    ben = load_nomenclature("bigearthnet-43")
    assert len(ben.classes) == 43
    assert ben.unlabeled_codes == [335, 999]
    labels = [json.loads(path.read_text())["labels"] for path in shared_data.glob("bigearthnet_v1_pairs/*S2*/*/*_labels_metadata.json")]
    assert len(labels) == 6
    assert {name for each in labels for name in each} <= {each.name for each in ben.classes}


@pytest.mark.parametrize(("name", "count"), [("clc-1", 5), ("clc-2", 15), ("clc-3", 44), ("dynamic-world-9", 9), ("worldcover-11", 11)])
def test_nomenclatures_have_as_many_classes_as_they_are_known_for(name, count):
    assert len(load_nomenclature(name).classes) == count


@pytest.mark.parametrize("level", [1, 2])
def test_corines_upper_levels_are_the_first_digits_of_a_code(level):
    upper = load_nomenclature(f"clc-{level}")
    with TABLES.joinpath(f"clc-{level}.csv").open() as stream:
        name_of = {row["code"]: row["name"] for row in csv.DictReader(stream)}
    assert upper.class_of_code == {code: name_of[str(code)[:level]] for code in load_nomenclature("clc-3").code_names}


@pytest.mark.parametrize(("source", "name"), [tuple(each.name[:-4].split("_to_")) for each in TABLES.iterdir() if "_to_" in each.name])
def test_every_conversion_covers_every_code_and_reaches_every_class(source, name):
    converted, own = load_nomenclature(name, source), load_nomenclature(name, name)
    assert set(converted.code_names) == set(load_nomenclature(source, source).code_names)
    assert [(each.index, each.name, each.color) for each in converted.classes] == [
        (each.index, each.name, each.color) for each in own.classes
    ]
    assert all(each.codes for each in converted.classes)


def test_what_dynamic_world_calls_the_classes_of_others():
    assert load_nomenclature("dynamic-world-9", "clc-3").class_of_code[213] == "Flooded vegetation"
    worldcover = load_nomenclature("dynamic-world-9", "worldcover-11")
    assert worldcover.class_of_code[50] == "Built"
    assert worldcover.unlabeled_codes == [100, 999]  # moss and lichen have no counterpart


def test_every_source_can_be_read_in_its_own_codes():
    for source in SOURCES.values():
        if source.codes is not None:
            own = load_nomenclature(source.codes, source.codes)
            assert own.unlabeled_codes == [999]


def test_unknown_nomenclatures_and_conversions_are_refused_with_the_known():
    with pytest.raises(LabelError, match="no nomenclature 'clc-4'; known are bigearthnet-19, bigearthnet-43, clc-1"):
        load_nomenclature("clc-4")
    with pytest.raises(
        LabelError, match="no table converts the codes of worldcover-11 to bigearthnet-19; known are clc-1, dynamic-world-9"
    ):
        load_nomenclature("bigearthnet-19", "worldcover-11")
    assert len(NOMENCLATURES) == 7


def test_a_users_own_table_and_conversion_serve(tmp_path):
    (tmp_path / "mine.csv").write_text("\ufeff" + VALID, encoding="utf-8")
    own = load_nomenclature(tmp_path / "mine.csv")
    assert (own.name, own.class_of_code, own.code_of_value) == ("mine", {1: "Forest", 2: "Built"}, {"1": 1, "2": 2})
    codes = load_nomenclature("clc-3").code_names
    (tmp_path / "map.csv").write_text("from_code,to_code\n" + "".join(f"{code},{1 if 311 <= code <= 313 else ''}\n" for code in codes))
    made = load_nomenclature(tmp_path / "mine.csv", "clc-3", tmp_path / "map.csv")
    assert made.class_of_code == {311: "Forest", 312: "Forest", 313: "Forest"}
    assert made.classes[1].codes == []
    assert made.digest != own.digest


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("code,name,color\n1,Forest,#00a600\n", "mine.csv has no column index, only code, name, color; expected code, index, name, color"),
        ("", "has no column code and no column index and no column name and no column color, only none at all"),
        (VALID + "2,2,Water,#0000ff\n", "mine.csv, line 4: code 2 stands in line 3 already"),
        (VALID + "3,1,Water,#0000ff\n", "line 4: index 1 stands in line 3 already"),
        (VALID + "3,2,Built,#0000ff\n", "line 4: name 'Built' stands in line 3 already"),
        (VALID + "3,3,Water,#0000ff\n", "the column index counts 0, 1, 3; expected 0, 1, 2 and so on without a gap"),
        (VALID + "3,2,Water,blue\n", "line 4: the color is 'blue'; expected # and six hexadecimal digits"),
        (VALID + "3,2,Water,#00f\n", "line 4: the color is '#00f'"),
        (VALID + "3,2,,#0000ff\n", "line 4: the name is empty"),
        (VALID + "x,2,Water,#0000ff\n", "line 4: the code is 'x'; expected a whole number from 0 to 65535"),
        (VALID + "-3,2,Water,#0000ff\n", "line 4: the code is '-3'"),
        (VALID + "70000,2,Water,#0000ff\n", "line 4: the code is '70000'"),
        (VALID + "3,two,Water,#0000ff\n", "line 4: the index is 'two'"),
        (VALID + "999,2,Water,#0000ff\n", "line 4: code 999 stands for ground without any label"),
        (VALID + "3,2,Water, still,#0000ff\n", "line 4: it has more or fewer cells than the first line"),
        (VALID + "3,2,Water\n", "line 4: it has more or fewer cells than the first line"),
        ("code,index,name,color\n", "the column index counts nothing"),
        (
            "code,index,name,color,values\n1,0,Forest,#00a600,wood\n2,1,Park,#00ff00,park|wood\n",
            "line 3: value 'wood' stands in line 2 already",
        ),
    ],
)
def test_a_malformed_table_is_refused_by_line_and_reason(tmp_path, text, finding):
    (tmp_path / "mine.csv").write_text(text)
    with pytest.raises(LabelError) as caught:
        load_nomenclature(tmp_path / "mine.csv")
    assert finding in str(caught.value)


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("from_code,to\n1,1\n", "map.csv has no column to_code, only from_code, to"),
        ("from_code,to_code\n1,1\n1,2\n", "line 3: from_code 1 stands there twice"),
        ("from_code,to_code\n1,1\n9,1\n", "line 3: from_code 9 is no code of mine"),
        ("from_code,to_code\n1,1\n2,7\n", "line 3: to_code 7 is no code of clc-1"),
        ("from_code,to_code\n1,1\n", "map.csv says nothing of the code 2 of mine; add a row for each"),
    ],
)
def test_a_malformed_conversion_is_refused(tmp_path, text, finding):
    (tmp_path / "mine.csv").write_text(VALID)
    (tmp_path / "map.csv").write_text(text)
    with pytest.raises(LabelError) as caught:
        load_nomenclature("clc-1", str(tmp_path / "mine.csv"), tmp_path / "map.csv")
    assert finding in str(caught.value)


def test_a_table_that_is_not_there_or_no_text_is_refused(tmp_path):
    with pytest.raises(LabelError, match="cannot be read: No such file"):
        load_nomenclature(str(tmp_path / "none.csv"))
    (tmp_path / "latin.csv").write_bytes("code,index,name,color\n1,0,Grünland,#00a600\n".encode("latin-1"))
    with pytest.raises(LabelError, match="it is not UTF-8 text"):
        load_nomenclature(tmp_path / "latin.csv")
