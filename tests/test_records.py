"""Ids and records: what they say, what they refuse, and the columns their tables get."""

from datetime import UTC, datetime
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from suites import facts

from rsdata.errors import CatalogError
from rsdata.records import (
    PUBLISHED_COLUMNS,
    RECORDS,
    PatchFacts,
    PatchId,
    PatchRow,
    Record,
    ShardIndexRow,
    TextRow,
    arrow_schema,
    is_s1_product,
    parse_start,
    reference_map_id,
    s1_patch_id,
    s1_scene_id,
    s1_start,
    s2_scene_id,
)

SCENE = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP"
S1_PRODUCT = "S1B_IW_GRDH_1SDV_20170612T165809_20170612T165834_006022_00A937_4BCF"


# --- ids --------------------------------------------------------------------------------------------------

scenes = st.from_regex(
    r"S2[A-D]_MSIL(1C|2A)_20[0-9]{2}(0[1-9]|1[0-2])(0[1-9]|1[0-9]|2[0-8])T[01][0-9][0-5][0-9][0-5][0-9]"
    r"_N[0-9]{4}_R[0-9]{3}_T[0-6][0-9][C-X][A-Z]{2}",
    fullmatch=True,
)


@given(scenes, st.integers(0, 90), st.integers(0, 90))
def test_a_patch_id_reads_back_as_what_it_was_built_from(scene, col, row):
    patch = PatchId(scene, col, row)
    assert PatchId.parse(str(patch)) == patch
    assert str(patch) == f"{scene}_{col:02d}_{row:02d}"
    assert patch.tile == scene[-5:]


def test_a_published_patch_id_is_taken_apart():
    patch = PatchId.parse(f"{SCENE}_26_57")
    assert (patch.scene, patch.tile, patch.col, patch.row) == (SCENE, "33UUP", 26, 57)


@pytest.mark.parametrize(
    "text",
    [
        "",
        SCENE,
        f"{SCENE}_26",
        f"{SCENE}_6_57",
        f"{SCENE}_26_057",
        f"{SCENE}_26_57_reference_map",
        f" {SCENE}_26_57",
        f"{SCENE}_26_57\n",
        f"{SCENE}_２６_57",
        f"../{SCENE}_26_57",
        "S2A_MSIL2A_20170613T101031_26_57",
        "S2E_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57",
        "S1B_IW_GRDH_1SDV_20170612T165809_33UUP_26_57",
    ],
)
def test_what_is_no_patch_id_is_refused_with_an_example(text):
    with pytest.raises(CatalogError, match="is not a patch id; expected a name such as S2A_MSIL2A_") as caught:
        PatchId.parse(text)
    assert caught.value.context["patch_id"] == text


def test_a_scene_is_a_product_without_its_processing_time():
    assert s2_scene_id(f"{SCENE}_20200827T101031") == SCENE
    assert s2_scene_id(f"{SCENE}_20200827T101031.SAFE") == SCENE


@pytest.mark.parametrize("product", [SCENE, "S2A_OPER_PRD_MSIL1C_PDMC_20160101T000000", "", S1_PRODUCT, f"{SCENE}_20200827T101031.zip"])
def test_what_is_no_sentinel_2_product_is_refused(product):
    with pytest.raises(CatalogError, match="is not a Sentinel-2 product name"):
        s2_scene_id(product)


def test_a_sentinel_1_scene_ends_with_its_start():
    scene = s1_scene_id(f"{S1_PRODUCT}.SAFE")
    assert scene == "S1B_IW_GRDH_1SDV_20170612T165809"
    assert s1_start(scene) == datetime(2017, 6, 12, 16, 58, 9, tzinfo=UTC)
    assert s1_patch_id(scene, PatchId(SCENE, 26, 57)) == "S1B_IW_GRDH_1SDV_20170612T165809_33UUP_26_57"


def test_what_is_no_sentinel_1_product_is_refused():
    assert is_s1_product(S1_PRODUCT)
    assert not is_s1_product(SCENE)
    with pytest.raises(CatalogError, match="is not a Sentinel-1 GRD product name"):
        s1_scene_id(SCENE)


def test_times_in_names_are_utc():
    assert parse_start("20170613T101031") == datetime(2017, 6, 13, 10, 10, 31, tzinfo=UTC)


def test_ids_follow_the_published_metadata(shared_data):
    table = pq.read_table(shared_data / "bigearthnet_v2" / "metadata_sample" / "metadata_3tiles.parquet")
    assert table.column_names == list(PUBLISHED_COLUMNS)
    assert all(str(PatchId.parse(text)) == text for text in table["patch_id"].to_pylist())


def test_sentinel_1_ids_follow_the_published_metadata(shared_data):
    table = pq.read_table(shared_data / "bigearthnet_v2" / "metadata_sample" / "metadata_3tiles.parquet")
    for text, s1_name in zip(table["patch_id"].to_pylist(), table["s1_name"].to_pylist(), strict=True):
        assert s1_patch_id("_".join(s1_name.split("_")[:5]), PatchId.parse(text)) == s1_name


def test_a_reference_map_is_named_after_its_patch():
    assert reference_map_id(f"{SCENE}_26_57") == f"{SCENE}_26_57_reference_map"


# --- records ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_every_record_refuses_fields_it_does_not_know(record):
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        record.model_validate({"surprise": 1})


def test_record_names_are_distinct_as_their_schemas_are_files():
    assert len({record.__name__.casefold() for record in RECORDS}) == len(RECORDS)


# --- tables -----------------------------------------------------------------------------------------------


def test_columns_of_the_patch_table_have_the_documented_names_and_types():
    schema = arrow_schema(PatchRow)
    assert schema.names == [
        "patch_id", "tile_id", "s2_product", "s1_product", "col", "row", "epsg", "ul_x_m", "ul_y_m", "datetime", "season",
        "country", "labels", "label_fractions", "unlabeled_fraction", "nodata_fraction", "cloud_fraction", "shadow_fraction",
        "snow_fraction", "contains_cloud_or_shadow", "contains_seasonal_snow", "s1_time_gap_h", "split", "kept", "drop_reason",
        "bbox",
    ]  # fmt: skip
    assert schema.field("patch_id") == pa.field("patch_id", pa.string(), nullable=False)
    assert schema.field("country") == pa.field("country", pa.string(), nullable=True)
    assert schema.field("col").type == pa.int64()
    assert schema.field("datetime").type == pa.timestamp("us", tz="UTC")
    assert schema.field("labels").type == pa.list_(pa.string())
    assert schema.field("label_fractions").type == pa.map_(pa.string(), pa.float64())
    assert schema.field("contains_seasonal_snow").type == pa.bool_()
    assert schema.field("s1_time_gap_h") == pa.field("s1_time_gap_h", pa.float64(), nullable=True)
    assert schema.field("bbox").type == pa.struct([(name, pa.float64()) for name in ("xmin", "ymin", "xmax", "ymax")])


def test_lists_of_records_become_lists_of_structs():
    columns = [("first", pa.string()), ("second", pa.string()), ("border_m", pa.float64())]
    assert arrow_schema(PatchFacts).field("adjacent").type == pa.list_(pa.struct(columns))


def test_a_choice_of_words_becomes_text():
    class Coloured(Record):
        annotated: PatchRow | None
        maybe: float | None
        colour: Literal["red", "green"]
        either: Literal["red"] | Literal["green"]
        absent: Literal["red"] | None

    assert arrow_schema(Coloured).field("maybe") == pa.field("maybe", pa.float64(), nullable=True)
    assert pa.types.is_struct(arrow_schema(Coloured).field("annotated").type)
    assert [arrow_schema(Coloured).field(name) for name in ("colour", "either", "absent")] == [
        pa.field("colour", pa.string(), nullable=False),
        pa.field("either", pa.string(), nullable=False),
        pa.field("absent", pa.string(), nullable=True),
    ]


@pytest.mark.parametrize("model", [PatchRow, PatchFacts, TextRow, ShardIndexRow], ids=lambda model: model.__name__)
def test_rows_of_a_table_come_back_as_they_went(model, tmp_path):
    examples = {
        PatchFacts: facts({"Pastures": 0.5, "Mixed forest": 0.5}, country=None),
        TextRow: TextRow(
            row_id="r", patch_id="p", s1_name=None, split="test", category="referring_phrase", type="region", input="Wo?",
            output="[0, 1, 2, 3]", options=["a, b", "c"], answer_index=1,
            box={"x0": 0, "y0": 1, "x1": 2, "y1": 3, "raster": "reference_map"},
            point=None, template_id="t", prompt_digest=None, model=None, facts_digest="0", checked=True, seed=0,
        ),
        ShardIndexRow: ShardIndexRow(patch_id="p", sensor="s2", s1_key=None, reference_map_key="p_reference_map", split="test", labels=[]),
        PatchRow: PatchRow(
            patch_id="p", tile_id="33UUP", s2_product="s", s1_product=None, col=0, row=90, epsg=32633, ul_x_m=0, ul_y_m=0,
            datetime=datetime(2017, 6, 13, tzinfo=UTC), season="summer", country=None, labels=["Pastures"],
            label_fractions={"Pastures": 1.0}, unlabeled_fraction=0.0, nodata_fraction=0.0, cloud_fraction=0.0,
            shadow_fraction=0.0, snow_fraction=0.0, contains_cloud_or_shadow=False, contains_seasonal_snow=True,
            s1_time_gap_h=None, split=None, kept=False, drop_reason="snow", bbox={"xmin": 0, "ymin": 0, "xmax": 1, "ymax": 1},
        ),
    }  # fmt: skip
    row = examples[model]
    table = pa.Table.from_pylist([row.model_dump()], schema=arrow_schema(model))
    pq.write_table(table, tmp_path / "rows.parquet")
    (back,) = pq.read_table(tmp_path / "rows.parquet").to_pylist(maps_as_pydicts="strict")
    assert model.model_validate(back) == row
