"""Shards in other training code: every example of the documentation as it stands, and what it promises beside them."""

import contextlib
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from memory_shards import CODES, MemoryShard, make_shard  # noqa: E402
from test_layout import imports, sources  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from rsdata.errors import TrainingError  # noqa: E402
from rsdata.recipe import Training  # noqa: E402
from rsdata.sensors import REFERENCE_MAP, SENTINEL1, SENTINEL2  # noqa: E402
from rsdata.shards import open_shard, pack, write_part  # noqa: E402
from rsdata.training import Normalisation, PatchDataset, RandomTurn, Turned  # noqa: E402
from rsdata.training.tasks import Segmentation  # noqa: E402
from rsdata.training.torchgeo import SampleDataset  # noqa: E402

PAGE = Path(__file__).parents[1] / "docs" / "integration.md"
TORCH, LIGHTNING, OLDER, TORCHGEO = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
TRAIN = 20


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def shard() -> MemoryShard:
    return make_shard({"train": TRAIN, "validation": 6, "test": 10})


@pytest.fixture(scope="module")
def path(shard, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    write_part(folder / "part", shard.values)
    pack(
        folder / "lmdb", [folder / "part"], name="disk", index=shard.index, sensors=(SENTINEL2, SENTINEL1, REFERENCE_MAP), offsets={},
        quantification=10_000, labels=shard.manifest.labels, unlabeled_codes=[999], recipe_sha256="0" * 64,
    )  # fmt: skip
    return folder / "lmdb"


@pytest.fixture(scope="module")
def bands(shard) -> Normalisation:
    return Normalisation.from_manifest(shard.manifest, ["B11", "B04"])


def run(example: str, **names: object) -> dict[str, Any]:
    names["__name__"] = __name__
    exec(example, names)
    return names


def printed(capsys) -> list[str]:
    return capsys.readouterr().out.splitlines()


# --- torch and torchgeo -----------------------------------------------------------------------------------


def test_the_example_for_torch_gives_all_train_patches_in_batches(path, capsys):
    run(TORCH, path=path)
    assert printed(capsys) == ["torch.Size([8, 3, 60, 60]) torch.Size([8, 2])"] * 2 + ["torch.Size([4, 3, 60, 60]) torch.Size([4, 2])"]


def test_the_example_for_torchgeo_gives_image_label_and_mask(path, capsys):
    names = run(TORCHGEO, path=path)
    assert [line.count("torch.Size") for line in printed(capsys)] == [3, 3, 3]
    batch = names["batch"]
    assert list(batch) == ["image", "label", "mask"]
    assert [(value.dtype, value.shape[1:]) for value in batch.values()] == [
        (torch.float32, (3, 64, 64)),
        (torch.int64, (2,)),
        (torch.int64, (64, 64)),
    ]


def test_every_example_has_about_ten_lines():
    assert [len(each.strip().splitlines()) <= 12 for each in (TORCH, LIGHTNING, OLDER, TORCHGEO)] == [True] * 4


def test_a_mask_says_of_each_pixel_what_the_map_says(shard, bands):
    samples = SampleDataset(PatchDataset(shard, "train", bands), mask=True)
    assert samples.mask_classes == ("Pastures", "Inland waters")
    for number, patch_id in enumerate(samples.patches.patch_ids):
        codes = shard.values[f"{patch_id}_reference_map"]["Data"]
        expected = np.select([codes == CODES[0], codes == CODES[1]], [0, 1], -100)
        sample = samples[number]
        assert np.array_equal(sample["mask"].numpy(), expected) and (expected[0] == -100).all()
        assert sample["label"].tolist() == [int(expected[1, 0] == 0), int(expected[1, 0] == 1)]


def test_image_and_mask_are_turned_alike_in_every_epoch(shard, bands):
    straight = SampleDataset(PatchDataset(shard, "train", bands, 60), mask=True)
    turned = SampleDataset(PatchDataset(shard, "train", bands, 60, augment=True, seed=3), mask=True)
    seen = set()
    for epoch in (0, 1):
        turned.patches.epoch = epoch
        for number, symmetry in enumerate(turned.patches.turns_of(np.arange(TRAIN), epoch)):
            expected, found = Turned(int(symmetry))(straight[number]), turned[number]
            assert torch.equal(found["image"], expected["image"]) and torch.equal(found["mask"], expected["mask"])
            seen.add((epoch, int(symmetry)))
    assert len(seen) > 8


def test_transforms_get_whole_samples_one_by_one_and_also_in_workers(path, bands):
    with open_shard(path) as shard:
        patches = PatchDataset(shard, "test", bands, 60)
        seen: list[list[str]] = []
        plain = SampleDataset(patches, mask=True)
        turn = SampleDataset(patches, mask=True, transforms=lambda sample: seen.append(list(sample)) or Turned(1)(sample))
        assert torch.equal(turn.__getitems__([4, -1])[1]["mask"], torch.rot90(plain[9]["mask"], 1, (-2, -1)))
        assert seen == [["image", "label", "mask"]] * 2
        random = SampleDataset(patches, mask=True, transforms=RandomTurn(seed=None))
        assert [len(batch["mask"]) for batch in DataLoader(random, 4, num_workers=1)] == [4, 4, 2]


def test_a_shard_without_labels_gives_no_label(shard, bands):
    assert list(SampleDataset(PatchDataset(shard.changed({"labels": []}), "train", bands))[0]) == ["image"]


def test_samples_refuse_raw_pixels_a_shard_without_map_and_targets_of_a_task(shard, bands):
    with pytest.raises(TrainingError, match="without `raw`"):
        SampleDataset(PatchDataset(shard, "train", bands, raw=True))
    optical = [band for band in shard.manifest.bands if band.sensor == SENTINEL2.name]
    with pytest.raises(TrainingError, match="has no reference map"):
        SampleDataset(PatchDataset(shard.changed({"bands": optical}), "train", bands), mask=True)
    patches = PatchDataset(shard, "train", bands)
    patches.target_reader = Segmentation.of(shard, Training(task="segmentation"), bands.bands, None).reader(shard, patches, None, True)
    with pytest.raises(TrainingError, match="no task has replaced"):
        SampleDataset(patches)
    with pytest.raises(IndexError):
        SampleDataset(PatchDataset(shard, "train", bands))[TRAIN]


# --- Lightning --------------------------------------------------------------------------------------------

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lightning.pytorch as pl

        from rsdata.training.lightning import PatchDataModule
except ModuleNotFoundError:
    pl = None  # type: ignore[assignment]

lightning_only = pytest.mark.skipif(pl is None, reason="lightning is not installed; see the extra `lightning`")


def make_network(package: Any, bands: int, classes: int) -> Any:
    class Network(package.LightningModule):
        """Logits from the mean of each band; remembers the pixels it was trained on."""

        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.linear, self.seen, self.losses = nn.Linear(bands, classes), [], []

        def forward(self, pixels):
            return self.linear(pixels.mean((2, 3)))

        def training_step(self, batch, index):
            pixels, targets = batch
            self.seen.append(pixels.sum((1, 2, 3)).tolist())
            loss = nn.functional.binary_cross_entropy_with_logits(self(pixels), targets)
            self.losses.append(loss.item())
            return loss

        def validation_step(self, batch, index):
            self.log("validation", nn.functional.binary_cross_entropy_with_logits(self(batch[0]), batch[1]))

        def test_step(self, batch, index):
            self.log("accuracy", ((self(batch[0]) > 0) == (batch[1] > 0)).float().mean())

        def predict_step(self, batch, index):
            return batch[1]

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1.0, momentum=0.9)

    return Network()


def quiet(package: Any, **options: Any) -> Any:
    return package.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, **options)


def fit(shard: Any, bands: Normalisation, ckpt: Path | None = None, callbacks: Any = (), data: Any = None, **options: Any) -> Any:
    network = make_network(pl, 2, 2)
    data = PatchDataModule(shard, bands, 8, input_px=32, seed=5) if data is None else data
    trainer = quiet(pl, callbacks=list(callbacks), enable_checkpointing=False, **options)
    trainer.fit(network, data, ckpt_path=ckpt, **({} if ckpt is None else {"weights_only": False}))
    return network, trainer, data


@pytest.fixture(autouse=True)
def no_advice():
    """Lightning's words on workers and loggers are none of ours."""
    with warnings.catch_warnings():
        for package in ("lightning", "pytorch_lightning"):
            warnings.filterwarnings("ignore", module=package)
        yield


@lightning_only
def test_the_example_for_lightning_learns_which_patches_are_water(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = run(LIGHTNING, path=path, network=lambda bands, classes: make_network(pl, bands, classes))
    losses = names["trainer"].lightning_module.losses
    assert len(losses) == 9 and losses[-1] < 0.5 * losses[0]
    assert float(names["trainer"].callback_metrics["accuracy"]) == 1.0


@lightning_only
def test_the_example_for_pytorch_lightning_fits_its_trainer_and_the_other_class_does_not(shard, bands):
    import pytorch_lightning

    data = run(OLDER)["OlderDataModule"](shard, bands, 8, input_px=32)
    trainer = quiet(pytorch_lightning, max_epochs=2, enable_checkpointing=False)
    network = make_network(pytorch_lightning, 2, 2)
    trainer.fit(network, data)
    assert len(network.losses) == 6
    with pytest.raises(TypeError):
        trainer.fit(network, PatchDataModule(shard, bands, 8, input_px=32))


@lightning_only
def test_each_epoch_has_every_train_patch_once_in_another_order(shard, bands):
    network, _, data = fit(shard, bands, max_epochs=2, data=PatchDataModule(shard, bands, 8, input_px=32, augment=False))
    first, second = (np.concatenate(network.seen[start : start + 3]) for start in (0, 3))
    expected = [float(data.train[number][0].sum()) for number in range(TRAIN)]
    assert not np.allclose(first, second)
    np.testing.assert_allclose(np.sort(first), np.sort(expected), rtol=1e-4, atol=0.05)
    np.testing.assert_allclose(np.sort(second), np.sort(expected), rtol=1e-4, atol=0.05)


@lightning_only
def test_epochs_that_are_cut_short_still_show_other_patches(shard, bands):
    data = PatchDataModule(shard, bands, 8, input_px=32, augment=False)
    network, _, _ = fit(shard, bands, max_epochs=3, limit_train_batches=1, data=data)
    orders = [set(np.random.default_rng((0, epoch)).permutation(TRAIN)[:8]) for epoch in range(3)]
    sums = np.array([float(data.train[number][0].sum()) for number in range(TRAIN)])
    for seen, order in zip(network.seen, orders, strict=True):
        np.testing.assert_allclose(np.sort(seen), np.sort(sums[list(order)]), rtol=1e-4, atol=0.05)


@lightning_only
@pytest.mark.parametrize("step", [3, 4], ids=["between epochs", "within an epoch"])
def test_a_fit_that_goes_on_ends_with_the_weights_of_an_undisturbed_one(shard, bands, tmp_path, step):
    class Save(pl.Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == step and step % 3:
                trainer.save_checkpoint(tmp_path / "state.ckpt")

        def on_train_epoch_end(self, trainer, *_):
            if trainer.global_step == step:
                trainer.save_checkpoint(tmp_path / "state.ckpt")

    whole, _, _ = fit(shard, bands, max_epochs=3)
    fit(shard, bands, max_epochs=3, callbacks=[Save()])
    resumed, _, _ = fit(shard, bands, ckpt=tmp_path / "state.ckpt", max_epochs=3)
    assert resumed.seen == whole.seen[step:]
    assert torch.equal(resumed.linear.weight, whole.linear.weight)


@lightning_only
def test_raw_pixels_are_normalised_after_they_were_moved(shard, bands):
    plain, _, _ = fit(shard, bands, max_epochs=1)
    raw, _, _ = fit(shard, bands, max_epochs=1, data=PatchDataModule(shard, bands, 8, input_px=32, seed=5, raw=True))
    np.testing.assert_allclose(np.concatenate(raw.seen), np.concatenate(plain.seen), rtol=1e-4, atol=0.05)


@lightning_only
def test_predictions_come_in_the_order_of_the_test_patches(shard, bands):
    data = PatchDataModule(shard, bands, 4, input_px=32)
    found = quiet(pl, enable_checkpointing=False).predict(make_network(pl, 2, 2), data)
    assert np.array_equal(torch.cat(found).numpy(), data.test.targets) and len(data.test.patch_ids) == 10


@lightning_only
def test_a_task_gives_its_targets_and_train_patches_may_be_chosen(shard, bands):
    task = Segmentation.of(shard, Training(task="segmentation"), bands.bands, None)
    keep = shard.index["patch_id"][:3]
    data = PatchDataModule(shard, bands, 8, input_px=32, task=task, keep=list(keep))
    assert (len(data.train), len(data.validation)) == (3, 6) and data.classes == ["Pastures", "Inland waters"]
    with contextlib.closing(data.train_dataloader()) as loader:
        pixels, targets = next(iter(loader))
    assert pixels.shape == (3, 2, 32, 32) and targets.shape == (3, 32, 32) and set(targets.unique().tolist()) <= {-100, 0, 1}


@lightning_only
def test_a_train_split_without_patches_is_refused(shard, bands):
    with pytest.raises(TrainingError, match="has no patch to learn from"):
        PatchDataModule(shard, bands, keep=["none"])


@lightning_only
def test_a_data_module_can_be_sent_to_another_process(path, bands):
    with open_shard(path) as shard:
        data = PatchDataModule(shard, bands, 8, input_px=32, augment=False)
        with pickle.loads(pickle.dumps(data)).val_dataloader() as sent, data.val_dataloader() as here:
            assert torch.equal(next(iter(sent))[0], next(iter(here))[0])


@lightning_only
def test_a_data_module_says_what_it_holds(shard, bands):
    assert str(PatchDataModule(shard, bands)) == "PatchDataModule of 20 train, 6 validation, 10 test patches with B11, B04"


@lightning_only
def test_pytorch_lightning_alone_will_do_and_without_either_the_extra_is_named(monkeypatch):
    import pytorch_lightning

    from rsdata.training import lightning as module

    assert module._base() is pl.LightningDataModule
    monkeypatch.setattr(module, "find_spec", lambda name: name == "pytorch_lightning" or None)
    assert module._base() is pytorch_lightning.LightningDataModule
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(TrainingError, match=r"pip install rsdata\[lightning\]"):
        module._base()


def test_no_other_module_loads_lightning_or_the_samples_torchgeo():
    found = [(module, name) for path, module, is_package in sources() for name, *_ in imports(path.read_text("utf-8"), module, is_package)]
    assert len(found) > 1000
    loading = {module for module, name in found if {"lightning", "pytorch_lightning", "torchgeo"} & set(name.split("."))}
    assert loading <= {"rsdata.training.lightning"}
