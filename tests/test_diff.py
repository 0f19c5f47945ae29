"""What changed between two builds is told in words and counts, and nothing else is."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from rsdata import catalog, steps
from rsdata.catalog.differences import differences, differences_in_words
from rsdata.commands import app
from rsdata.records import BuildDifferences, Failure, Manifest
from rsdata.workspace import Workspace, read_record, write_record


@pytest.fixture
def other(built, tmp_path) -> Workspace:
    """A second dataset, the same as the first until a test changes it; without its pixels, which are not looked at."""
    copy = tmp_path / "other"
    copy.mkdir()
    for name in ("manifest.json", "recipe.yaml", "patches.parquet"):
        shutil.copyfile(built.root / name, copy / name)
    return Workspace(copy)


def changed(built: Workspace, other: Workspace) -> list[tuple[str, str]]:
    return differences_in_words(steps.compare_datasets(built, other))


def edit_patches(workspace: Workspace, change) -> None:
    table = catalog.read_patches(workspace.patches)
    catalog.write_patches(workspace.patches, change(table).reset_index(drop=True))


def edit_manifest(workspace: Workspace, **changes: object) -> None:
    write_record(workspace.manifest, read_record(workspace.manifest, Manifest).model_copy(update=changes))


def test_a_build_and_its_copy_are_the_same(built, other):
    assert changed(built, other) == []


def test_a_changed_key_of_the_recipe_is_named_with_both_values(built, other):
    said = yaml.safe_load(other.recipe.read_text(encoding="utf-8"))
    said["quality"]["max_snow_fraction"] = 0.5
    said["split"]["seed"] = 3
    other.recipe.write_text(yaml.safe_dump(said), encoding="utf-8")
    assert changed(built, other) == [
        ("recipe", "quality.max_snow_fraction was 1.0, and is 0.5"),
        ("recipe", "split.seed was 0, and is 3"),
    ]


def test_patches_that_came_went_and_moved_are_counted(built, other):
    def change(table):
        kept = table.index[table["kept"] & (table["split"] == "train")]
        table.loc[kept[:2], "split"] = "test"
        table.loc[kept[2], ["split", "kept", "drop_reason"]] = [None, False, "snow"]
        return table.drop(index=kept[3])

    table = catalog.read_patches(built.patches)
    train = list(table.loc[table["kept"] & (table["split"] == "train"), "patch_id"])
    edit_patches(other, change)
    assert changed(built, other) == [
        ("patches", f"1 patch was removed, such as {train[3]}"),
        ("patches", f"1 patch was kept and is dropped for snow, such as {train[2]}"),
        ("patches", f"2 patches moved from train to test, such as {train[0]}"),
    ]
    assert ("patches", f"1 patch was added, such as {train[3]}") in changed(other, built)


def test_patches_dropped_for_another_reason_and_other_flags_are_told(built, other):
    table = catalog.read_patches(built.patches)
    dropped, kept = list(table.loc[~table["kept"], "patch_id"])[:2], list(table.loc[table["kept"], "patch_id"])

    def reasons(*of: str):
        said = dict(zip(dropped, of, strict=True))
        return lambda table: table.assign(
            drop_reason=[said.get(patch_id, why) for patch_id, why in table[["patch_id", "drop_reason"]].values]
        )

    edit_patches(other, reasons("cloud", "snow"))
    before = Workspace(other.root.parent / "before")
    shutil.copytree(other.root, before.root)
    edit_patches(other, reasons("snow", "snow"))
    assert changed(before, other) == [("patches", f"1 patch was dropped for cloud and is dropped for snow, such as {dropped[0]}")]
    edit_patches(other, reasons("snow", "cloud"))
    assert [change.what for change in steps.compare_datasets(before, other).patches] == [
        "were dropped for cloud and are dropped for snow",
        "were dropped for snow and are dropped for cloud",
    ]
    edit_patches(other, reasons("cloud", "snow"))
    for column, patch_id in (("contains_cloud_or_shadow", kept[0]), ("contains_seasonal_snow", kept[1])):
        edit_patches(other, lambda table, c=column, p=patch_id: table.assign(**{c: table[c] ^ (table["patch_id"] == p)}))
    assert changed(before, other) == [
        ("patches", f"1 patch has another contains_cloud_or_shadow, such as {kept[0]}"),
        ("patches", f"1 patch has another contains_seasonal_snow, such as {kept[1]}"),
    ]


def test_labels_gained_and_lost_are_counted_by_name(built, other):
    def change(table):
        with_water = [index for index, labels in table["labels"].items() if "Marine waters" in labels][:3]
        for index in with_water:
            table.at[index, "labels"] = sorted({*table.at[index, "labels"], "Pastures"} - {"Marine waters"})
        return table

    before = catalog.read_patches(built.patches)
    water = [row for _, row in before.iterrows() if "Marine waters" in row["labels"]][:3]
    gained = sum("Pastures" not in row["labels"] for row in water)
    edit_patches(other, change)
    found = {change.what: change.count for change in steps.compare_datasets(built, other).patches}
    assert found == {"have other labels": 3, "gained the label Pastures": gained, "lost the label Marine waters": 3}


def test_a_missing_number_is_not_a_change_but_another_number_is(built, other):
    edit_patches(
        other, lambda table: table.assign(cloud_fraction=[table["cloud_fraction"].iloc[0] + 0.25, *table["cloud_fraction"].iloc[1:]])
    )
    assert changed(built, other) == [
        ("patches", f"1 patch has another cloud_fraction, such as {catalog.read_patches(built.patches)['patch_id'].iloc[0]}")
    ]


def test_inputs_software_counts_and_files_are_told_apart(built, other):
    was = read_record(built.manifest, Manifest)
    scene, *rest = was.inputs
    edit_manifest(
        other,
        inputs=[scene.model_copy(update={"sha256": "0" * 64, "version": "05.10", "made_by": "sen2cor 2.12.03"}), *rest[:-1]],
        software=was.software | {"numpy": "9.9"},
        counts=was.counts | {"kept": was.counts["kept"] + 1},
        failures=[Failure(stage="scenes", unit="x", error="SceneError", message="no")],
        outputs=[was.outputs[0].model_copy(update={"sha256": "1" * 64, "bytes": 7}), *was.outputs[2:]],
    )
    assert changed(built, other) == [
        ("inputs", f"countries {rest[-1].name} is no longer used"),
        ("inputs", f"scene {scene.name}: its contents differ; edition was 05.09, and is 05.10; made by was None, and is sen2cor 2.12.03"),
        ("software", f"numpy was {was.software['numpy']}, and is 9.9"),
        ("counts", f"kept was {was.counts['kept']}, and is {was.counts['kept'] + 1}"),
        ("counts", "failures was 0, and is 1"),
        ("files", f"{was.outputs[0].path} differs ({was.outputs[0].bytes:,} bytes, now 7)"),
        ("files", f"{was.outputs[1].path} is gone"),
    ]


def test_the_command_exits_as_diff_does(built, other, tmp_path):
    runner = CliRunner()
    assert runner.invoke(app, ["diff", str(built.root), str(other.root)]).exit_code == 0
    edit_manifest(other, rsdata_version="9")
    found = runner.invoke(app, ["diff", str(built.root), str(other.root), "--json"])
    assert found.exit_code == 1
    assert BuildDifferences.model_validate(json.loads(found.stdout)).software == [
        f"rsdata was {read_record(built.manifest, Manifest).rsdata_version}, and is 9"
    ]
    assert runner.invoke(app, ["diff", str(built.root), str(Path(tmp_path) / "nothing")]).exit_code == 2


def test_tables_of_two_tiles_that_share_no_patch_differ_in_all(built):
    table = catalog.read_patches(built.patches)
    tiles = sorted(set(table["tile_id"]))
    manifest = read_record(built.manifest, Manifest)
    a, b = (table[table["tile_id"] == tile] for tile in tiles)
    found = differences(manifest, manifest, ({}, {}), (a, b)).patches
    assert [(change.what, change.count) for change in found] == [("were removed", len(a)), ("were added", len(b))]
    assert len(found[0].examples) == 10
