"""Facts of a patch, by hand."""

from datetime import UTC, datetime

import pandas as pd
import pytest

from rsdata.captions import facts_digest, facts_of, facts_table
from rsdata.captions.facts import unclassified_share
from rsdata.errors import CaptionError

ROW = {
    "patch_id": "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57",
    "label_fractions": {"Pastures": 0.25, "Mixed forest": 0.5, "Arable land": 0.25, "Inland waters": 0.0},
    "season": "summer",
    "country": "Austria",
    "datetime": datetime(2017, 6, 13, 10, 10, 31, tzinfo=UTC),
    "s1_product": "S1B_IW_GRDH_1SDV_20170612T165809",
    "cloud_fraction": 0.1,
}


def test_classes_fall_by_share_and_then_by_name():
    assert [(each.name, each.share) for each in facts_of(ROW).classes] == [("Mixed forest", 0.5), ("Arable land", 0.25), ("Pastures", 0.25)]


def test_time_place_and_sensors_come_from_the_row():
    facts = facts_of(ROW)
    assert (facts.season, facts.country, facts.year, facts.month, facts.sensors) == ("summer", "Austria", 2017, 6, ["s2", "s1"])


@pytest.mark.parametrize("absent", [None, float("nan"), pd.NA, ""])
def test_what_is_absent_stays_absent(absent):
    facts = facts_of(ROW | {"country": absent, "s1_product": absent})
    assert (facts.country, facts.sensors) == (None, ["s2"])


def test_a_table_gives_the_facts_of_its_rows_in_its_order():
    other = ROW | {"patch_id": "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_00_00", "country": None, "s1_product": None}
    assert facts_table(pd.DataFrame([ROW, other])) == [facts_of(ROW), facts_of(other)]


def test_shares_may_be_pairs_as_parquet_gives_them(tmp_path):
    assert facts_of(ROW | {"label_fractions": list(ROW["label_fractions"].items())}) == facts_of(ROW)


def test_digest_follows_the_facts_and_nothing_else():
    assert facts_digest(facts_of(ROW)) == facts_digest(facts_of(ROW | {"cloud_fraction": 0.2}))
    assert facts_digest(facts_of(ROW)) != facts_digest(facts_of(ROW | {"season": "spring"}))
    shuffled = dict(reversed(ROW["label_fractions"].items()))
    assert facts_digest(facts_of(ROW)) == facts_digest(facts_of(ROW | {"label_fractions": shuffled}))


def test_what_no_class_covers_is_unclassified():
    assert unclassified_share(facts_of(ROW)) == 0
    assert unclassified_share(facts_of(ROW | {"label_fractions": {"Pastures": 0.75}})) == 0.25


def test_a_missing_column_is_named():
    with pytest.raises(CaptionError, match="no column `season`"):
        facts_of({name: value for name, value in ROW.items() if name != "season"})
