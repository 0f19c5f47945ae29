"""From a shard to a trained model and back: dataset, loop and checkpoint, on a small shard held in memory."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")

from memory_shards import MemoryShard, make_shard, with_statistics  # noqa: E402
from rich.console import Console  # noqa: E402
from safetensors import safe_open  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from rsdata.errors import TrainingError, WorkspaceError  # noqa: E402
from rsdata.recipe import Training  # noqa: E402
from rsdata.records import LabelClass, TrainingReport  # noqa: E402
from rsdata.sensors import REFERENCE_MAP, SENTINEL1, SENTINEL2  # noqa: E402
from rsdata.shards import open_shard, pack, write_part  # noqa: E402
from rsdata.training import (  # noqa: E402
    CHECKPOINT_NAME,
    ConsoleProgress,
    Normalisation,
    PatchDataset,
    SilentProgress,
    load_checkpoint,
    predict,
    run_folder,
    score,
    train,
    train_shard,
)
from rsdata.training import loop as training_loop  # noqa: E402

OPTIONS = Training(
    model="small-cnn", bands=["B11", "VV"], epochs=6, batch_size=16, input_px=32, learning_rate=1e-3, seeds=[1], baselines=False
)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads that wait for each other on cores that others use are far slower than one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def shard() -> MemoryShard:
    return make_shard({"train": 64, "validation": 24, "test": 40})


@pytest.fixture(scope="module")
def trained(shard, tmp_path_factory) -> tuple[TrainingReport, Path]:
    out = tmp_path_factory.mktemp("trained")
    return train_shard(shard, OPTIONS, out, SilentProgress()), run_folder(out, 1) / CHECKPOINT_NAME


def without_seconds(report: TrainingReport) -> dict[str, object]:
    content = report.model_dump()
    for run in content["runs"]:
        for epoch in run["epochs"]:
            del epoch["seconds"]
    return content


# --- dataset ----------------------------------------------------------------------------------------------


def test_pixels_are_normalised_as_by_hand(shard):
    dataset = PatchDataset(shard, "test", Normalisation(("B02", "VH"), (3000.0, -12.0), (500.0, 4.0)), input_px=120)
    pixels, _ = dataset[3]
    row = shard.index[shard.index["split"] == "test"].iloc[3]
    assert dataset.patch_ids[3] == row["patch_id"]
    assert pixels.dtype == torch.float32
    np.testing.assert_allclose(pixels[0], (shard.values[row["patch_id"]]["B02"].astype(float) - 3000) / 500, atol=1e-5)
    np.testing.assert_allclose(pixels[1], (shard.values[row["s1_key"]]["VH"].astype(float) + 12) / 4, atol=1e-5)


def test_the_train_split_comes_out_with_mean_0_and_deviation_1(shard):
    dataset = PatchDataset(shard, "train", input_px=120)
    pixels = torch.stack([dataset[index][0] for index in range(len(dataset))])
    assert pixels.shape == (64, 14, 120, 120)
    np.testing.assert_allclose(pixels.mean(dim=(0, 2, 3)), 0, atol=1e-3)
    np.testing.assert_allclose(pixels.std(dim=(0, 2, 3)), 1, atol=1e-3)


def test_bands_come_in_the_order_asked_for_whatever_the_sensor(shard):
    asked = ["VV", "B12", "B02", "VH", "B01"]
    every = PatchDataset(shard, "test", Normalisation.from_manifest(shard.manifest))
    some = PatchDataset(shard, "test", Normalisation.from_manifest(shard.manifest, asked))
    names = list(every.normalisation.bands)
    assert names == [*SENTINEL2.band_names, *SENTINEL1.band_names]  # and no reference map
    assert torch.equal(some[0][0], every[0][0][[names.index(band) for band in asked]])


@pytest.mark.parametrize(
    ("band", "input_px", "rows"),
    [
        ("B11", 120, np.arange(120) // 2),
        ("B01", 120, np.arange(120) // 6),
        ("B02", 60, np.arange(60) * 2 + 1),
        ("B01", 60, np.arange(60) // 3),
        ("B01", 30, [0, 1, 1, 2, 3, 3, 4, 5, 5, 6, 7, 7, 8, 9, 9, 10, 11, 11, 12, 13, 13, 14, 15, 15, 16, 17, 17, 18, 19, 19]),
    ],
)
def test_each_input_pixel_is_the_native_pixel_under_its_centre(shard, band, input_px, rows):
    pixels, _ = PatchDataset(shard, "test", Normalisation((band,), (0.0,), (1.0,)), input_px)[0]
    native = shard.values[PatchDataset(shard, "test").patch_ids[0]][band]
    np.testing.assert_array_equal(pixels[0], native[np.ix_(rows, rows)])


def test_targets_follow_the_label_table_by_its_index():
    shard = make_shard({"train": 4})
    table = [
        LabelClass(index=place, name=name, color="#000000", codes=[])
        for place, name in ((2, "Pastures"), (0, "Marine waters"), (1, "Inland waters"))
    ]
    index = shard.index.assign(labels=[["Pastures"], ["Inland waters", "Pastures"], np.array(["Marine waters"]), []])
    dataset = PatchDataset(shard.changed({"labels": table}, index), "train")
    assert dataset.classes == ["Marine waters", "Inland waters", "Pastures"]
    assert dataset.targets.tolist() == [[0, 0, 1], [0, 1, 1], [1, 0, 0], [0, 0, 0]]
    assert dataset[1][1].tolist() == [0, 1, 1]


def test_missing_pixels_become_the_train_mean():
    shard = make_shard({"train": 2})
    row = shard.index.iloc[0]
    shard.values[row["s1_key"]]["VV"][5, 7] = np.nan
    shard.values[row["patch_id"]]["B02"][5, 8] = 0  # no data in Sentinel-2
    pixels, _ = PatchDataset(shard, "train", Normalisation(("VV", "B02"), (-12.0, 3000.0), (2.0, 400.0)))[0]
    assert pixels[0, 5, 7] == 0
    assert pixels[1, 5, 8] == 0
    assert torch.isfinite(pixels).all()
    assert (pixels == 0).sum() < 200


def test_a_band_that_never_changes_is_zero_and_not_infinite(shard):
    flat = with_statistics(shard, "B02", mean=3000.0, std=0.0)
    normalisation = Normalisation.from_manifest(flat.manifest, ["B02"])
    assert normalisation.std == (1.0,)
    assert torch.isfinite(PatchDataset(flat, "test", normalisation)[0][0]).all()


def test_turning_is_seeded_per_epoch_and_keeps_every_pixel(shard):
    normalisation = Normalisation.from_manifest(shard.manifest, ["B02", "B11"])
    plain, first, second = (PatchDataset(shard, "train", normalisation, 60, augment=augment, seed=5) for augment in (False, True, True))
    assert all(torch.equal(first[index][0], second[index][0]) for index in range(16))
    assert all(torch.equal(first[index][0].flatten().sort()[0], plain[index][0].flatten().sort()[0]) for index in range(16))
    second.epoch = 1
    assert not all(torch.equal(first[index][0], second[index][0]) for index in range(16))
    turns = {
        name: torch.rot90(flipped, turn, (1, 2))
        for turn in range(4)
        for name, flipped in ((f"{turn}", plain[0][0]), (f"{turn}m", plain[0][0].flip(2)))
    }
    seen = set()
    for first.epoch in range(100):
        seen |= {name for name, turned in turns.items() if torch.equal(turned, first[0][0])}
    assert seen == set(turns)


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        (["B02", "B99"], r"no band B99; known are B02, B03, .*, VH, VV"),
        (["Data"], r"no band Data; known are B02"),
        (["B02", "B02"], "each once"),
        ([], "at least one"),
    ],
)
def test_a_choice_of_bands_that_cannot_be_is_answered_with_the_known_ones(shard, bands, message):
    with pytest.raises(TrainingError, match=message):
        Normalisation.from_manifest(shard.manifest, bands)


def test_a_band_without_statistics_is_refused():
    with pytest.raises(TrainingError, match="no train statistics for band B02"):
        Normalisation.from_manifest(make_shard({"test": 2}).manifest, ["B02"])


def test_a_patch_without_its_radar_twin_is_named(shard):
    keys = shard.index["s1_key"].to_list()
    keys[0] = None
    lacking = shard.changed(index=shard.index.assign(s1_key=pd.Series(keys, dtype=object)))
    with pytest.raises(TrainingError, match=f"1 patches of the train split have no VV, {shard.index['patch_id'][0]} among them"):
        PatchDataset(lacking, "train", Normalisation.from_manifest(shard.manifest, ["B02", "VV"]))
    assert len(PatchDataset(lacking, "train", Normalisation.from_manifest(shard.manifest, ["B02"]))) == 64


def test_an_entry_without_a_band_is_named():
    shard = make_shard({"train": 2})
    patch_id = shard.index["patch_id"][0]
    del shard.values[patch_id]["B05"]
    with pytest.raises(TrainingError, match=f"{patch_id} holds .* but not band B05"):
        PatchDataset(shard, "train")[0]


def test_a_label_outside_the_table_and_an_unknown_split_are_named(shard):
    with pytest.raises(TrainingError, match="carries Glacier, which the label table does not list"):
        PatchDataset(shard.changed(index=shard.index.assign(labels=[["Glacier"]] * len(shard.index))), "train")
    with pytest.raises(TrainingError, match="no split 'val'; known are train, validation, test"):
        PatchDataset(shard, "val")


# --- loop -------------------------------------------------------------------------------------------------


def test_classes_that_one_band_separates_are_learned(trained):
    report, _ = trained
    (run,) = report.runs
    assert run.test is not None
    assert run.test.average_precision_macro > 0.95
    assert run.test.chance_average_precision_macro == pytest.approx(0.5, abs=0.01)
    assert run.epochs[-1].train_loss < run.epochs[0].train_loss
    assert [log.epoch for log in run.epochs] == [1, 2, 3, 4, 5, 6]
    assert (report.model, report.bands, report.classes) == ("small-cnn", ["B11", "VV"], ["Pastures", "Inland waters"])


def test_the_best_validation_epoch_is_kept(trained):
    (run,) = trained[0].runs
    ranks = [(log.validation.average_precision_macro, -log.validation.loss) for log in run.epochs if log.validation]
    assert run.best_epoch == ranks.index(max(ranks)) + 1


def test_labels_that_were_shuffled_are_not_learned(shard, tmp_path):
    labels = shard.index["labels"].sample(frac=1, random_state=0).to_list()
    report = train_shard(shard.changed(index=shard.index.assign(labels=labels)), OPTIONS, tmp_path, SilentProgress())
    assert report.runs[0].test is not None
    assert report.runs[0].test.average_precision_macro < 0.75


def test_the_same_seed_gives_the_same_report_and_file(shard, trained, tmp_path):
    report, checkpoint = trained
    torch.rand(7)  # what others draw in between changes nothing
    again = train_shard(shard, OPTIONS, tmp_path, SilentProgress())
    assert without_seconds(again) == without_seconds(report)
    assert (run_folder(tmp_path, 1) / CHECKPOINT_NAME).read_bytes() == checkpoint.read_bytes()


def test_training_leaves_the_random_numbers_of_others_alone(shard, tmp_path):
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    train_shard(shard, OPTIONS.model_copy(update={"epochs": 1}), tmp_path, SilentProgress())
    assert torch.equal(torch.rand(3), expected)


@pytest.fixture(scope="module")
def shard_path(shard, tmp_path_factory) -> Path:
    """The same patches on disk."""
    folder = tmp_path_factory.mktemp("shards")
    part = folder / "part"
    write_part(part, shard.values)
    pack(
        folder / "lmdb", [part], name="disk", index=shard.index, sensors=(SENTINEL2, SENTINEL1, REFERENCE_MAP), offsets={},
        quantification=10_000, labels=shard.manifest.labels, unlabeled_codes=[999], recipe_sha256="0" * 64,
    )  # fmt: skip
    return folder / "lmdb"


def test_a_shard_on_disk_trains_like_one_in_memory(shard, shard_path, tmp_path):
    options = OPTIONS.model_copy(update={"epochs": 1})
    expected = train_shard(shard, options, tmp_path / "memory", SilentProgress())
    report = train(shard_path, options, tmp_path / "disk", SilentProgress())
    assert report.runs[0].epochs[0].train_loss == pytest.approx(expected.runs[0].epochs[0].train_loss, rel=1e-3)
    assert report.shard_manifest_sha256 == hashlib.sha256((shard_path / "manifest.json").read_bytes()).hexdigest()
    left = {path.name for path in run_folder(tmp_path / "disk", 1).iterdir()}
    assert left - {"tensorboard"} == {CHECKPOINT_NAME, "log.csv", "run.json"}


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_worker_processes_read_the_same_patches(shard_path, start):
    with open_shard(shard_path) as shard:
        dataset = PatchDataset(shard, "validation", Normalisation.from_manifest(shard.manifest, ["B01", "VV"]), 20, augment=True)
        expected = [dataset[index][0] for index in range(len(dataset))]  # opens the database before the workers start
        loader = DataLoader(dataset, batch_size=5, num_workers=1, multiprocessing_context=start)
        assert torch.equal(torch.cat([pixels for pixels, _ in loader]), torch.stack(expected))


def test_without_validation_the_last_epoch_is_kept_and_said_so(tmp_path):
    console = Console(file=io.StringIO(), width=200)
    shard = make_shard({"train": 17, "test": 4})  # 17 = one batch of 16 and a single patch, which is left out
    report = train_shard(shard, OPTIONS.model_copy(update={"epochs": 2}), tmp_path, ConsoleProgress(console))
    lines = console.file.getvalue().splitlines()
    assert report.runs[0].best_epoch == 2
    assert "the validation split is empty: the last epoch's weights are kept" in lines
    assert [line[:10] for line in lines if line.startswith("epoch")] == ["epoch   1/", "epoch   2/"]
    assert any("AP macro" in line for line in lines)


def test_without_a_test_split_there_are_no_test_scores(tmp_path):
    report = train_shard(make_shard({"train": 8, "validation": 4}), OPTIONS.model_copy(update={"epochs": 1}), tmp_path, SilentProgress())
    assert report.runs[0].test is None
    assert report.test == {}


def test_a_terminal_shows_a_bar_and_keeps_the_epoch_lines(shard, tmp_path):
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    train_shard(shard, OPTIONS.model_copy(update={"epochs": 1}), tmp_path, ConsoleProgress(console))
    assert "batch 4/4" in console.file.getvalue()
    assert "epoch   1/1  loss" in console.file.getvalue()


@pytest.mark.parametrize(
    ("patches", "changes", "message"),
    [
        ({"validation": 2, "test": 2}, {}, "no train statistics"),
        ({"train": 1, "test": 2}, {}, "has 1 patches; training needs at least two"),
        ({"train": 4}, {"labels": []}, "label table of shard 'memory' is empty"),
    ],
)
def test_a_shard_that_cannot_be_trained_on_is_refused_in_words(tmp_path, patches, changes, message):
    with pytest.raises(TrainingError, match=message):
        train_shard(make_shard(patches).changed(changes), OPTIONS, tmp_path, SilentProgress())
    assert not list(tmp_path.rglob(CHECKPOINT_NAME))


def test_an_empty_train_split_is_refused_even_with_statistics(shard, tmp_path):
    empty = shard.changed(index=shard.index[shard.index["split"] != "train"])
    with pytest.raises(TrainingError, match="train split of shard 'memory' has 0 patches"):
        train_shard(empty, OPTIONS, tmp_path, SilentProgress())


def test_a_split_without_any_label_is_refused_before_training(shard, tmp_path):
    labels = [[] if split == "validation" else names for split, names in zip(shard.index["split"], shard.index["labels"], strict=True)]
    with pytest.raises(TrainingError, match="none of the 24 patches in the validation split"):
        train_shard(shard.changed(index=shard.index.assign(labels=labels)), OPTIONS, tmp_path, SilentProgress())


def test_an_unknown_model_is_refused(shard, tmp_path):
    with pytest.raises(TrainingError, match="no model 'vgg'"):
        train_shard(shard, OPTIONS.model_copy(update={"model": "vgg"}), tmp_path, SilentProgress())


def test_the_learning_rate_rises_and_falls():
    rates = [training_loop.learning_rate_factor(step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0)
    assert [training_loop.learning_rate_factor(step, 1) for step in range(2)] == pytest.approx([1, 1])


# --- checkpoint -------------------------------------------------------------------------------------------


def test_a_reloaded_checkpoint_gives_equal_scores(shard, trained):
    report, path = trained
    assert score(load_checkpoint(path), shard, "test") == report.runs[0].test


def test_predictions_rank_as_the_scores_say(shard, trained):
    predictions = predict(load_checkpoint(trained[1]), shard, "test")
    assert predictions.probabilities.shape == (40, 2)
    assert predictions.patch_ids == shard.index.loc[shard.index["split"] == "test", "patch_id"].to_list()
    water = shard.index.loc[shard.index["split"] == "test", "labels"].str[0] == "Inland waters"
    assert predictions.probabilities[water, 1].mean() > predictions.probabilities[~water, 1].mean() + 0.2


def test_a_checkpoint_says_what_it_must_be_fed(shard, trained):
    with safe_open(trained[1], framework="pt") as file:
        card = json.loads(file.metadata()["rsdata"])
    assert card["model"] == "small-cnn"
    assert card["about"]["classes"] == ["Pastures", "Inland waters"]
    assert card["input_px"] == 32
    assert card["normalisation"]["bands"] == ["B11", "VV"]
    statistics = {band.name: band.statistics for band in shard.manifest.bands}
    assert card["normalisation"]["mean"] == [statistics["B11"].mean, statistics["VV"].mean]


def test_a_shard_of_other_bands_or_classes_is_refused(shard, trained):
    checkpoint = load_checkpoint(trained[1])
    with pytest.raises(TrainingError, match="has no band VV; known are B02"):
        score(checkpoint, shard.changed({"bands": [band for band in shard.manifest.bands if band.sensor != "s1"]}), "test")
    with pytest.raises(TrainingError, match="the model answers Pastures, Inland waters; shard 'memory' has the classes Urban fabric"):
        score(checkpoint, make_shard({"train": 2, "test": 2}, classes=("Urban fabric", "Arable land")), "test")
    with pytest.raises(TrainingError, match="test split of shard 'memory' is empty"):
        predict(checkpoint, make_shard({"train": 2}), "test")


def test_a_checkpoint_of_one_mean_is_not_fed_with_another(shard, trained):
    shifted = with_statistics(shard, "B11", mean=0.0, std=5.0)
    assert score(load_checkpoint(trained[1]), shifted, "test") == trained[0].runs[0].test


def test_a_damaged_or_foreign_file_is_refused_in_words(trained, tmp_path):
    damaged, foreign = tmp_path / "damaged.safetensors", tmp_path / "foreign.safetensors"
    damaged.write_bytes(trained[1].read_bytes()[:1000])
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(2)}, foreign)
    deep = tmp_path / "deep.safetensors"
    with safe_open(trained[1], framework="pt") as file:
        save_file({"weight": torch.zeros(2)}, deep, metadata=dict.fromkeys(file.metadata(), "[" * 200_000))
    with pytest.raises(TrainingError, match="of another version"):
        load_checkpoint(deep)
    for path, message in ((damaged, "cannot be read"), (tmp_path / "none", "cannot be read"), (foreign, "not what they must be fed")):
        with pytest.raises(TrainingError, match=message):
            load_checkpoint(path)


def test_an_unwritable_folder_is_said_in_words(trained, shard, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WorkspaceError, match="cannot be written"):
        train_shard(shard, OPTIONS.model_copy(update={"epochs": 1}), tmp_path / "file" / "below", SilentProgress())
