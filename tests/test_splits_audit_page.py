"""The verb `rsdata split audit`: what it prints, its exit code, its JSON, and the page with the map."""

import base64
import hashlib
import json
import re
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pyproj
import pytest
from typer.testing import CliRunner

from rsdata import steps
from rsdata.catalog.audit_page import write_audit_page
from rsdata.catalog.map_data import MOST_SQUARES
from rsdata.commands import app
from rsdata.errors import CatalogError, SplitError
from rsdata.records import SplitAudit
from rsdata.splits import positions
from rsdata.splits.audit import examine
from rsdata.testing.patch_table import patch_table

HOSTILE = "</script><script>alert(1)</script>"


@pytest.fixture(scope="module")
def table_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up table over tiles of two zones, split by columns."""
    table = patch_table(6_000, ["31UGR", "32ULA", "31UFS"], seed=1)
    where = positions(table["patch_id"])
    table["split"] = np.array(["train", "validation", "test"], object)[where["col"].to_numpy() // 20 % 3]
    path = tmp_path_factory.mktemp("audit") / "table.parquet"
    table.to_parquet(path)
    return path


def run(*words: object):
    return CliRunner().invoke(app, ["split", "audit", *map(str, words)])


def map_data(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="map-data">(.*?)</script>', page, re.S)[1])


def test_the_verb_prints_gaps_balance_and_findings(table_path):
    result = run(table_path)
    assert result.exit_code == 0, result.output
    for words in ("train → validation", "≤ 1,750 m", "country", "season", "overlap (train and validation)", "a buffer of"):
        assert words in result.output


def test_json_is_the_record_and_follows_its_schema(table_path):
    result = run(table_path, "--json")
    audit = SplitAudit.model_validate_json(result.stdout)
    schema = json.loads((Path(__file__).parents[1] / "schemas" / "SplitAudit.schema.json").read_text())
    jsonschema.validate(json.loads(result.stdout), schema)
    assert sum(audit.counts.values()) == 6_000
    assert audit == steps.audit_table(table_path)


def test_a_condition_that_is_met_ends_in_exit_code_1_and_one_line(table_path):
    result = run(table_path, "--fail-on", "touching[train/validation],gap[train/test]<0.001,duplicates,mismatch")
    assert result.exit_code == 1
    assert [line.split(":")[0] for line in result.stderr.strip().splitlines()] == ["touching[train/validation]", "gap[train/test]<0.001"]
    assert run(table_path, "--fail-on", "duplicates,mismatch,empty").exit_code == 0


def test_an_unknown_condition_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(SplitError, match="'leaking' is no condition"):
        CliRunner().invoke(app, ["split", "audit", str(tmp_path / "none.parquet"), "--fail-on", "leaking"], catch_exceptions=False)


def test_the_distances_asked_for_are_counted(table_path):
    result = run(table_path, "--distance", 2400, "--json")
    assert [each.distance_m for each in SplitAudit.model_validate_json(result.stdout).pairs[0].near] == [0, 2400]


def test_against_a_table_itself_every_place_is_shared(table_path):
    against = SplitAudit.model_validate_json(run(table_path, "--against", table_path, "--json").stdout).against
    own = pd.read_parquet(table_path)
    where = positions(own["patch_id"])
    train = where[(own["split"] == "train").to_numpy()]
    same = next(each for each in against.pairs if each.a == each.b == "train")
    assert against.name == "table.parquet"
    assert same.overlapping_a == len(train)
    assert same.shared_places == len(train.drop_duplicates(["epsg", "ul_x_m", "ul_y_m"]))


def test_the_page_stands_alone_and_holds_every_place(table_path, tmp_path):
    audit = steps.audit_table(table_path, out=tmp_path / "page")
    assert SplitAudit.model_validate_json((tmp_path / "page" / "audit.json").read_text()) == audit
    page = (tmp_path / "page" / "index.html").read_text()
    assert not re.search(r"""(?:src|href)=["'](?!#|data:)|url\(|@import|https?://(?!www\.w3\.org)""", page)
    scripts = re.findall(r"<script>(.*?)</script>", page, re.S)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert len(scripts) == 2
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    assert f'script-src {allowed}"' in page.replace("&#39;", "'")
    data = map_data(page)
    own = pd.read_parquet(table_path)
    where = positions(own["patch_id"]).assign(split=own["split"])
    assert data["count"] == len(where.drop_duplicates(["epsg", "ul_x_m", "ul_y_m", "split"]))
    split = np.frombuffer(base64.b64decode(data["split"]), "u1")
    for index, each in enumerate(data["splits"]):
        assert (split == index).sum() == len(where[where["split"] == each["name"]].drop_duplicates(["epsg", "ul_x_m", "ul_y_m"]))


def test_squares_lie_and_turn_on_the_map_as_the_patches_do(tmp_path):
    table = pd.DataFrame({"patch_id": ["S2A_MSIL2A_20170613T101031_N9999_R022_T31UGR_80_10"], "split": ["train"]})
    audit, where = examine(table)
    write_audit_page(tmp_path / "page.html", audit, where, "one")
    data = map_data((tmp_path / "page.html").read_text())
    left, bottom, _ = data["blocks"][0]
    x, y = (np.frombuffer(base64.b64decode(data[name]), "<u2")[0].item() * data["step"] for name in ("x", "y"))
    corner = positions(table["patch_id"]).iloc[0]
    to_mercator = pyproj.Transformer.from_crs(32631, 3857, always_xy=True)
    east, north = to_mercator.transform(corner["ul_x_m"] + 600, corner["ul_y_m"] - 600)
    assert (left * data["block"] + x, bottom * data["block"] + y) == pytest.approx((east, north), abs=data["step"])
    up_east, up_north = to_mercator.transform(corner["ul_x_m"] + 600, corner["ul_y_m"])
    turn_deg = np.frombuffer(base64.b64decode(data["turn"]), "i1")[0].item() * data["turnStep"]
    assert turn_deg == pytest.approx(np.degrees(np.arctan2(up_east - east, up_north - north)), abs=0.1)
    assert turn_deg > 2  # east of the zone's middle, grid north points east of north


def test_names_cannot_become_markup(tmp_path):
    table = pd.DataFrame(
        {
            "patch_id": [f"S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_{col:02d}_00" for col in (1, 1, 3)],
            "split": [HOSTILE, "train", "train"],
            "labels": [[HOSTILE], ["A"], ["A"]],
            "country": [HOSTILE, "Austria", "Austria"],
        }
    )
    audit, where = examine(table)
    write_audit_page(tmp_path / "page.html", audit, where, HOSTILE)
    page = (tmp_path / "page.html").read_text()
    assert HOSTILE not in page
    assert page.count("</script>") == 3
    assert {each["name"] for each in map_data(page)["splits"]} == {"train", HOSTILE}


def test_a_map_of_very_many_squares_is_merged_and_says_so(tmp_path, monkeypatch):
    audit, where = examine(patch_table(6_000, ["31UGR", "32ULA"], seed=1).assign(split="train"))
    assert len(where) < MOST_SQUARES
    monkeypatch.setattr("rsdata.catalog.map_data.MOST_SQUARES", 1_000)
    write_audit_page(tmp_path / "page.html", audit, where, "many")
    page = (tmp_path / "page.html").read_text()
    data = map_data(page)
    assert 200 < data["count"] <= 1_000
    merged = round(max(data["sides"]) / 1200)
    assert f"up to {merged} × {merged} patches" in page


def test_a_table_of_footprints_alone_is_audited(table_path, tmp_path):
    own = pd.read_parquet(table_path)
    where = positions(own["patch_id"])[["epsg", "ul_x_m", "ul_y_m"]]
    pd.concat([where, own[["split", "labels"]]], axis=1).to_parquet(tmp_path / "footprints.parquet")
    found, expected = steps.audit_table(tmp_path / "footprints.parquet"), steps.audit_table(table_path)
    assert (found.pairs, found.autocorrelation) == (expected.pairs, expected.autocorrelation)


def test_a_file_that_is_no_table_is_refused(tmp_path):
    (tmp_path / "table.parquet").write_text("no")
    with pytest.raises(CatalogError, match="cannot be read as Parquet"):
        steps.audit_table(tmp_path / "table.parquet")


def test_the_real_sample_is_audited_from_its_patch_ids_alone(shared_data, tmp_path):
    folder = shared_data / "bigearthnet_v2" / "metadata_sample"
    real = pd.concat([pd.read_parquet(folder / f"metadata_3tiles{suffix}.parquet") for suffix in ("", "_snow_cloud_shadow")])
    real.to_parquet(tmp_path / "real.parquet")
    audit = steps.audit_table(tmp_path / "real.parquet")
    real[["patch_id", "split"]].to_parquet(tmp_path / "ids.parquet")
    assert steps.audit_table(tmp_path / "ids.parquet").pairs == audit.pairs
    pairs = {(each.a, each.b): each for each in audit.pairs}
    assert pairs["train", "test"].min_gap_m == 10_800
    assert audit.findings == []
    assert {each.of for each in audit.balance} == {"class", "country", "season"}


def test_the_real_bounds_agree_with_the_ids(shared_data, tmp_path):
    folder = shared_data / "bigearthnet_v2" / "metadata_sample"
    real = pd.read_parquet(folder / "metadata_3tiles.parquet").merge(
        pd.read_parquet(folder / "patch_bounds_3tiles.parquet"), on="s2v1_name", validate="one_to_one"
    )
    real = real.rename(columns={"minx": "ul_x_m", "maxy": "ul_y_m"})[["patch_id", "split", "epsg", "ul_x_m", "ul_y_m"]]
    assert examine(real)[0].findings == []
    real.loc[100, "ul_x_m"] += 1200
    (finding,) = examine(real)[0].findings
    assert (finding.kind, finding.examples[0].patch_ids) == ("mismatch", [real["patch_id"][100]])
