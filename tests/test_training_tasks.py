"""Tasks: one suite that all pass, and what each answers, against values worked out by hand or by scikit-learn."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")

import rasterio  # noqa: E402
from memory_shards import MemoryShard, make_shard  # noqa: E402
from suites import TaskTests  # noqa: E402
from torch.nn.functional import normalize  # noqa: E402

from rsdata.errors import TrainingError  # noqa: E402
from rsdata.grid import Tile  # noqa: E402
from rsdata.recipe import Training  # noqa: E402
from rsdata.records import LabelClass  # noqa: E402
from rsdata.training import TASKS, Normalisation, PatchDataset, SilentProgress, train_shard  # noqa: E402
from rsdata.training.metrics import Confusion, Errors, recall  # noqa: E402
from rsdata.training.protocol import Study  # noqa: E402
from rsdata.training.ranks import Ranks  # noqa: E402
from rsdata.training.tasks import Multilabel, Regression, Retrieval, Segmentation  # noqa: E402
from rsdata.training.tasks.rasters import IGNORED  # noqa: E402
from rsdata.training.tasks.texts import BUCKETS, tokens  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads that wait for each other on cores that others use are far slower than one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def task_shard() -> MemoryShard:
    return make_shard({"train": 24, "validation": 8, "test": 12})


class TestMultilabel(TaskTests):
    task = "multilabel"


class TestSegmentation(TaskTests):
    task, model = "segmentation", "small-unet"


class TestSegmentationOfCodes(TaskTests):
    task, model = "segmentation", "small-unet"
    said = {"classes": "codes"}  # noqa: RUF012


class TestRetrievalBetweenSensors(TaskTests):
    task = "retrieval"


class TestRetrievalByText(TaskTests):
    task = "retrieval"
    said = {"pair": ["text", "s2"]}  # noqa: RUF012
    bands = ("B02", "B11")

    def table(self, shard: MemoryShard, folder: Path) -> Path:
        """Two captions for each patch, and a question that is none."""
        rows = [
            {"patch_id": patch, "category": category, "output": text}
            for patch, labels in zip(shard.index["patch_id"], shard.index["labels"], strict=True)
            for category, text in (("caption", f"Much of {labels[0]}."), ("caption", f"{labels[0]} seen from above."), ("binary", "Yes."))
        ]
        pd.DataFrame(rows).to_parquet(folder / "texts.parquet")
        return folder / "texts.parquet"


class TestRetrievalByEmbedding(TaskTests):
    task = "retrieval"
    said = {"pair": ["embedding", "s2"]}  # noqa: RUF012
    bands = ("B02", "B11")

    def table(self, shard: MemoryShard, folder: Path) -> Path:
        random = np.random.default_rng(0)
        vectors = list(random.normal(size=(len(shard.index), 5)).astype(np.float32))
        pd.DataFrame({"patch_id": shard.index["patch_id"][::-1], "embedding": vectors}).to_parquet(folder / "vectors.parquet")
        return folder / "vectors.parquet"


class TestRegressionOfABand(TaskTests):
    task, model = "regression", "small-unet"
    said = {"target": "VH"}  # noqa: RUF012


class TestRegressionOfAColumn(TaskTests):
    task = "regression"
    said = {"target": "height"}  # noqa: RUF012

    def table(self, shard: MemoryShard, folder: Path) -> Path:
        means = [float(shard.values[patch]["B11"].mean()) for patch in shard.index["patch_id"]]
        pd.DataFrame({"patch_id": shard.index["patch_id"], "height": means}).to_parquet(folder / "heights.parquet")
        return folder / "heights.parquet"


def test_every_task_is_held_to_the_suite():
    assert {suite.task for suite in TaskTests.__subclasses__()} == set(TASKS)


def study(shard: MemoryShard, table: Path | None = None, **said: object) -> Study:
    return Study(shard, Training.model_validate({"model": "small-cnn", "input_px": 24, **said}), table, Ranks())


# --- segmentation -----------------------------------------------------------------------------------------


def with_maps(shard: MemoryShard, draw) -> MemoryShard:
    for key in shard.index["reference_map_key"]:
        shard.values[key] = {"Data": draw(np.zeros((120, 120), np.uint16))}
    return shard


def test_codes_become_the_classes_that_the_label_table_gives_them():
    shard = make_shard({"train": 2})
    labels = [
        LabelClass(index=1, name="water", color="#000000", codes=[512, 511]),
        LabelClass(index=0, name="land", color="#000000", codes=[231]),
    ]

    def draw(codes):
        codes[:] = 231
        codes[:, 60:] = 511
        codes[:, 90:] = 512
        codes[:60, :30] = 999
        return codes

    shard = with_maps(shard, draw).changed({"labels": labels}, shard.index.assign(labels=[[], []]))
    made = study(shard, task="segmentation", model="small-unet", input_px=4, bands=["B02"], augment=False)
    assert made.task.classes == ("land", "water")
    assert made.training[0][1].tolist() == [[IGNORED, 0, 1, 1]] * 2 + [[0, 0, 1, 1]] * 2
    codes = study(shard, task="segmentation", model="small-unet", input_px=4, bands=["B02"], augment=False, classes="codes")
    assert codes.task.classes == ("231 land", "511 water", "512 water")
    assert codes.training[0][1][3].tolist() == [0, 0, 1, 2]


def test_a_map_is_turned_as_its_image_is():
    shard = make_shard({"train": 16})
    for patch, key in shard.index[["patch_id", "reference_map_key"]].itertuples(index=False):
        shard.values[key]["Data"] = np.where(shard.values[patch]["B02"] > 3000, 231, 512).astype(np.uint16)
    made = study(shard, task="segmentation", model="small-unet", input_px=120, bands=["B02"])
    threshold = (3000 - made.normalisation.mean[0]) / made.normalisation.std[0]
    plain = PatchDataset(shard, "train", made.normalisation)
    for epoch in (0, 1):
        made.training.epoch = epoch
        pairs = [made.training[index] for index in range(16)]
        assert sum(not torch.equal(image, plain[index][0]) for index, (image, _) in enumerate(pairs)) > 8
        for image, target in pairs:
            assert torch.equal(target == 0, image[0] > threshold)


def test_unlabelled_pixels_have_no_part_in_loss_and_scores():
    task = Segmentation("Data", ("a", "b"), ((1,), (2,)))
    targets = torch.tensor([[[0, 1], [IGNORED, IGNORED]]])
    logits = torch.zeros(1, 2, 2, 2)
    logits[0, :, 0] = torch.tensor([[3.0, 3.0], [0.0, 0.0]])  # a, and a for b
    expected = (np.log1p(np.exp(-3)) + np.log1p(np.exp(3))) / 2
    for left_out in (0.0, 1e6):
        logits[0, 0, 1] = left_out
        assert float(task.loss(logits, targets)) == pytest.approx(expected, rel=1e-6)
        scorer = task.scorer()
        scorer.add(logits, targets)
        scores = scorer.scores()
        assert (scores.pixels, scores.accuracy, scores.loss) == (2, 0.5, pytest.approx(expected, rel=1e-6))
        assert [each.iou for each in scores.classes] == [0.5, 0.0]
    assert float(task.loss(logits, torch.full_like(targets, IGNORED))) == 0
    nothing = task.scorer()
    nothing.add(logits, torch.full_like(targets, IGNORED))
    with pytest.raises(TrainingError, match="no pixel of the 1 patches has a class"):
        nothing.scores()


@pytest.mark.parametrize("seed", [0, 1])
def test_overlap_equals_that_of_scikit_learn_with_a_class_absent(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(seed)
    targets = random.choice([0, 1, 3], size=(6, 9, 9), p=[0.6, 0.3, 0.1])  # never class 2
    found = np.where(random.random(targets.shape) < 0.6, targets, random.integers(4, size=targets.shape))
    ignored = random.random(targets.shape) < 0.2
    confusion = Confusion(["a", "b", "c", "d"], IGNORED)
    for part in (slice(0, 4), slice(4, 6)):
        confusion.add(torch.from_numpy(found[part]), torch.from_numpy(np.where(ignored, IGNORED, targets)[part]))
    scores = confusion.scores(0.0)
    true, said, present = targets[~ignored], found[~ignored], [0, 1, 3]
    assert scores.miou == pytest.approx(metrics.jaccard_score(true, said, labels=present, average="macro"), abs=1e-6)
    assert scores.f1_macro == pytest.approx(metrics.f1_score(true, said, labels=present, average="macro"), abs=1e-6)
    assert scores.accuracy == pytest.approx(metrics.accuracy_score(true, said), abs=1e-6)
    each = metrics.jaccard_score(true, said, labels=[0, 1, 2, 3], average=None, zero_division=0)
    for index, score in enumerate(scores.classes):
        assert score.pixels == (true == index).sum()
        assert score.iou == (pytest.approx(each[index], abs=1e-6) if index in present else None)


def test_what_cannot_be_segmented_is_refused_in_words():
    shard = make_shard({"train": 4, "test": 2})
    said = {"task": "segmentation", "model": "small-unet"}
    with pytest.raises(TrainingError, match="no reference map to learn"):
        study(shard.changed({"bands": [band for band in shard.manifest.bands if band.name != "Data"]}), **said)
    with pytest.raises(TrainingError, match="gives codes for 1 classes; segmentation needs at least two"):
        study(shard.changed({"labels": shard.manifest.labels[:1]}, shard.index.assign(labels=[[]] * 6)), **said)
    with pytest.raises(TrainingError, match="2 of 2 patches have no Data"):
        keys = [None if split == "test" else key for split, key in zip(shard.index["split"], shard.index["reference_map_key"], strict=True)]
        study(shard.changed(index=shard.index.assign(reference_map_key=pd.Series(keys, dtype=object))), **said)
    with pytest.raises(TrainingError, match="B02 is to be learned and cannot be input too"):
        study(shard, **said, target="B02", bands=["B02", "B03"])


# --- regression -------------------------------------------------------------------------------------------


def test_missing_pixels_of_a_target_have_no_part_in_the_loss():
    shard = make_shard({"train": 4})
    shard.values[shard.index["s1_key"][0]]["VH"][:60] = np.nan
    shard.values[shard.index["patch_id"][0]]["B03"][:] = 0  # no data in Sentinel-2
    said = {"task": "regression", "model": "small-unet", "bands": ["B02"], "augment": False}
    radar, optical = study(shard, **said, target="VH"), study(shard, **said, target="B03")
    target = radar.training[0][1]
    assert target.isnan().tolist() == [[[row < 12] * 24 for row in range(24)]]
    assert radar.task.weight(target[None]) == 12 * 24
    assert optical.training[0][1].isnan().all()
    statistics = next(band.statistics for band in shard.manifest.bands if band.name == "VH")
    stored = shard.values[shard.index["s1_key"][0]]["VH"][2 + 5 * 20, 2 + 5 * 7]
    assert float(target[0, 20, 7]) == pytest.approx((stored - statistics.mean) / statistics.std, abs=1e-5)
    answer = target.nan_to_num(1e6)[None] + 0.5
    assert float(radar.task.loss(answer, target[None])) == pytest.approx(0.25, rel=1e-5)


def test_errors_equal_those_of_scikit_learn_in_the_unit_of_the_target():
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(3)
    true = random.normal(400, 90, 200)
    found = true + random.normal(5, 30, 200)
    task = Regression("height", "patch", 380.0, 80.0, "m")
    scorer = task.scorer()
    targets = (true - 380) / 80
    targets[::7] = np.nan
    for part in (slice(0, 90), slice(90, 91), slice(91, 200)):
        scorer.add(torch.from_numpy((found[part] - 380) / 80)[:, None], torch.from_numpy(targets[part])[:, None])
    scores, known = scorer.scores(), np.isfinite(targets)
    assert (scores.patches, scores.values) == (200, known.sum())
    assert scores.r2 == pytest.approx(metrics.r2_score(true[known], found[known]), abs=1e-6)
    assert scores.rmse == pytest.approx(metrics.root_mean_squared_error(true[known], found[known]), rel=1e-6)
    assert scores.mae == pytest.approx(metrics.mean_absolute_error(true[known], found[known]), rel=1e-6)


def test_equal_values_have_no_share_of_variance():
    errors = Errors()
    errors.add(torch.tensor([1.0, 2.0]).double(), torch.tensor([2.0, 2.0]).double())
    assert errors.figures() == (None, 0.5, 0.5)


def test_a_column_that_cannot_be_learned_is_refused_in_words(tmp_path):
    shard = make_shard({"train": 4, "test": 2})
    ids = shard.index["patch_id"].tolist()

    def refused(message: str, ids: list[str], values: list[object], name: str = "height", **said: object) -> None:
        pd.DataFrame({"patch_id": ids, name: values}).to_parquet(tmp_path / "t.parquet")
        with pytest.raises(TrainingError, match=message):
            study(shard, tmp_path / "t.parquet", **{"task": "regression", "target": "height"} | said)

    refused("1 of 2 patches of the test split have no row", ids[:5], [1.0, 2, 3, 4, 5])
    refused("several rows for", [*ids[:5], ids[0]], [1.0, 2, 3, 4, 5, 6])
    refused("has no column height, which regression needs; it has patch_id, depth", ids, [1.0] * 6, "depth")
    refused("does not hold numbers", ids, list("abcdef"))
    refused("has 4 values for the train split, or all are equal", ids, [1.0] * 4 + [2, 3])
    with pytest.raises(TrainingError, match="has no band height; known are B02"):
        study(shard, task="regression", target="height")
    (tmp_path / "t.parquet").write_bytes(b"no parquet")
    with pytest.raises(TrainingError, match="cannot be read as Parquet"):
        study(shard, tmp_path / "t.parquet", task="regression", target="height")


# --- retrieval --------------------------------------------------------------------------------------------


def test_recall_counted_by_hand():
    # similarities: query 0 finds its own first, query 1 second, query 2 ties with another, which counts against it
    candidates = torch.eye(3)
    queries = torch.tensor([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.0, 0.5, 0.5]])
    found = recall(queries, candidates, "text", "s2")
    assert (found.queries, found.candidates) == ("text", "s2")
    assert (found.recall_1, found.recall_5, found.recall_10) == (pytest.approx(1 / 3), 1, 1)
    assert found.median_rank == 2


def test_recall_equals_that_of_torchmetrics():
    from torchmetrics.functional.retrieval import retrieval_recall

    random = torch.Generator().manual_seed(0)
    first = normalize(torch.randn(60, 8, generator=random), dim=1)
    second = normalize(first + 0.7 * torch.randn(60, 8, generator=random), dim=1)
    found = recall(first, second, "a", "b", at_once=17)
    for k in (1, 5, 10):
        each = [retrieval_recall(first[row] @ second.T, torch.arange(60) == row, top_k=k) for row in range(60)]
        assert getattr(found, f"recall_{k}") == pytest.approx(float(torch.stack(each).mean()), abs=1e-6)
    assert 0.1 < found.recall_1 < found.recall_5 < found.recall_10


def test_an_answer_that_says_nothing_finds_nothing():
    same = torch.ones(20, 4)
    assert recall(same, same, "a", "b").recall_10 == 0
    assert recall(same * torch.nan, same, "a", "b").recall_10 == 0


def test_the_loss_of_retrieval_is_that_of_picking_the_partner():
    task = Retrieval(("s1", "s2"), (("VV",), ("B02",)))
    first, second = torch.eye(2), torch.eye(2)
    loss = task.loss((first, second, torch.tensor(2.0)), torch.zeros(2, 0))
    assert float(loss) == pytest.approx(np.log1p(np.exp(-2)), rel=1e-6)
    assert float(task.loss((first, second.flip(0), torch.tensor(2.0)), torch.zeros(2, 0))) == pytest.approx(np.log1p(np.exp(2)), rel=1e-6)


def test_each_encoder_sees_its_own_sensor_alone():
    made = study(make_shard({"train": 4}), task="retrieval", bands=["B02", "VV", "B11", "VH"])
    network = made.task.network(
        lambda bands, outputs: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(bands * 4, outputs)), made.normalisation.bands
    )
    pixels = torch.randn(3, 4, 2, 2)
    first, second, _ = network(pixels, torch.zeros(3, 0))
    changed = pixels.clone()
    changed[:, [1, 3]] += 1  # radar
    radar_first, radar_second, _ = network(changed, torch.zeros(3, 0))
    assert torch.equal(second, radar_second)
    assert not torch.allclose(first, radar_first)


def test_views_that_share_a_cause_are_found(tmp_path):
    """Radar and optical images are dark or bright together, by an amount of each patch's own."""
    shard = make_shard({"train": 48, "validation": 12, "test": 24})
    for number, (patch, radar) in enumerate(shard.index[["patch_id", "s1_key"]].itertuples(index=False)):
        level = (number * 37 % len(shard.index)) / len(shard.index) - 0.5
        shard.values[patch]["B02"] = (shard.values[patch]["B02"] + 4000 * level).clip(1).astype(np.uint16)
        shard.values[radar]["VV"] = shard.values[radar]["VV"] + np.float32(20 * level)
    options = Training(task="retrieval", model="small-cnn", bands=["B02", "VV"], input_px=24, epochs=30, batch_size=16, learning_rate=3e-3)
    report = train_shard(shard, options, tmp_path, SilentProgress())
    chance = report.baselines[0].test.figures()
    assert chance["s1 to s2 R@5"] == pytest.approx(5 / 24)
    assert report.test["s1 to s2 R@5"].mean > 2.5 * chance["s1 to s2 R@5"]
    assert report.test["s2 to s1 R@5"].mean > 2.5 * chance["s2 to s1 R@5"]


def test_words_are_hashed_alike_whatever_their_case():
    assert tokens("Pastures, and WATER!") == tokens("pastures and water")
    assert len(tokens("pastures and water")) == 3 + 2  # words and pairs of neighbours
    assert tokens("water and pastures") != tokens("pastures and water")
    assert all(1 <= each <= BUCKETS for each in tokens("Größe 10 m²"))
    assert tokens("a") == [3904355907 % BUCKETS + 1]  # CRC-32 of "a" is E8B7BE43


def test_a_caption_is_drawn_anew_in_training_and_is_the_first_in_tests(tmp_path):
    shard = make_shard({"train": 12, "test": 6})
    table = TestRetrievalByText().table(shard, tmp_path)
    made = study(shard, table, task="retrieval", pair=["text", "s2"], bands=["B02"])
    epochs = [made.training.targets_of(range(12), epoch) for epoch in range(6)]
    assert any(not torch.equal(epochs[0], each) for each in epochs[1:])
    assert torch.equal(made.training.targets_of(range(12), 2), epochs[2])
    assert torch.equal(made.test.targets_of(range(6), 0), made.test.targets_of(range(6), 5))
    water = [labels == ["Inland waters"] for labels in shard.index.loc[shard.index["split"] == "test", "labels"]]
    first = [tokens(f"Much of {'Inland waters' if each else 'Pastures'}.") for each in water]
    assert [[token for token in row if token] for row in made.test.targets_of(range(6)).tolist()] == first
    assert not made.training.augment  # north would no longer be up


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"pair": ["s1", "s1"]}, "the pair s1, s1 is none"),
        ({"pair": ["s2", "text"]}, "the pair s2, text is none"),
        ({"pair": ["s1", "s2"], "bands": ["B02"]}, "none of the bands is of s1"),
        ({"pair": ["text", "s2"]}, "text retrieval needs a table with the columns patch_id and output, category"),
        ({"pair": ["embedding", "s2"]}, "retrieval by embeddings needs a table"),
    ],
)
def test_a_pair_that_cannot_be_is_refused_in_words(said, message):
    with pytest.raises(TrainingError, match=message):
        study(make_shard({"train": 4}), task="retrieval", **said)


def test_patches_without_a_text_are_named(tmp_path):
    shard = make_shard({"train": 4})
    table = TestRetrievalByText().table(shard.changed(index=shard.index[:3]), tmp_path)
    with pytest.raises(TrainingError, match=f"1 of 4 patches of the train split have no text .* {shard.index['patch_id'][3]} among them"):
        study(shard, table, task="retrieval", pair=["text", "s2"], bands=["B02"])


# --- predictions ------------------------------------------------------------------------------------------


def test_a_map_lies_where_its_patch_does(tmp_path):
    from rsdata.training.checkpoint import Checkpoint, ModelCard
    from rsdata.training.writing import TABLE_NAME, write_predictions

    class Constant(torch.nn.Module):
        """Class 1 in the upper left quarter, class 0 elsewhere."""

        def __init__(self) -> None:
            super().__init__()
            self.fc = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits = torch.zeros(len(x), 2, *x.shape[2:])
            logits[:, 1, : x.shape[2] // 2, : x.shape[3] // 2] = 1
            logits[:, 0] = 0.5
            return logits

    shard = make_shard({"test": 3})
    task = Segmentation("Data", ("Pastures", "Inland waters"), ((231,), (512,)))
    card = ModelCard("small-unet", "segmentation", task.card(), Normalisation(("B02",), (0.0,), (1.0,)), 60)
    assert write_predictions(Checkpoint(card, task, Constant()), shard, "test", tmp_path) == (3, 3)
    patch_id = shard.index["patch_id"][2]  # column 0, row 2
    tile = Tile.from_name("33UUP")
    with rasterio.open(tmp_path / "maps" / f"{patch_id}.tif") as raster:
        assert (raster.crs.to_epsg(), raster.res, raster.shape) == (32633, (20.0, 20.0), (60, 60))
        assert raster.bounds == (tile.ul_x_m, tile.ul_y_m - 3600, tile.ul_x_m + 1200, tile.ul_y_m - 2400)
        found = raster.read(1)
        assert raster.tags(1)["class_1"] == "Inland waters"
    assert found[:30, :30].all()
    assert found.sum() == 900
    rows = pd.read_parquet(tmp_path / TABLE_NAME).set_index("patch_id")
    assert rows.loc[patch_id, "Inland waters"] == 0.25


def test_probabilities_stand_under_the_names_of_their_classes():
    said = Multilabel(("a", "b")).columns(torch.tensor([[0.0, 2.0], [-1.0, -1.0]]))
    assert said["labels"] == [["b"], []]
    assert said["b"] == pytest.approx([1 / (1 + np.exp(-2)), 1 / (1 + np.e)])


def test_maps_of_patches_that_lie_nowhere_are_refused_and_the_table_is_not(tmp_path):
    from rsdata.training.checkpoint import Checkpoint, ModelCard, build_network
    from rsdata.training.writing import write_predictions

    shard = make_shard({"test": 1})
    shard.values["x"] = shard.values[shard.index["patch_id"][0]]
    shard = shard.changed(index=shard.index.assign(patch_id="x"))
    task = Segmentation("Data", ("Pastures", "Inland waters"), ((231,), (512,)))
    card = ModelCard("small-unet", "segmentation", task.card(), Normalisation(("B02",), (0.0,), (1.0,)), 24)
    checkpoint = Checkpoint(card, task, build_network("small-unet", task, ("B02",)))
    with pytest.raises(TrainingError, match="maps cannot be placed: 'x' is not a patch id"):
        write_predictions(checkpoint, shard, "test", tmp_path / "maps")
    assert not (tmp_path / "maps").exists()
    assert write_predictions(checkpoint, shard, "test", tmp_path / "table", maps=False) == (1, 0)
