"""The splits of a shard as a data module of Lightning, fed by rsdata's own loader.

Lightning leaves loaders that are not torch's as they are: shuffling, the share of each process and going on in the middle of an
epoch are ``PatchLoader``'s here. Lightning is optional, so nothing else imports this module.
"""

from collections.abc import Collection, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from torch import Tensor

from rsdata.errors import TrainingError
from rsdata.training.dataset import Normalisation, PatchDataset, ShardReader
from rsdata.training.loading import PatchLoader
from rsdata.training.tasks import Task

_Batch = tuple[Tensor, Tensor]


class PatchHooks:
    """What a data module does, for any package's: ``class Mine(PatchHooks, pytorch_lightning.LightningDataModule)``.

    Batches are (pixels, targets): (patch, band, y, x) float32 normalised, and (patch, class) float32 of 0 and 1, or what the
    task says. Pixels of raw datasets are normalised once they lie on the device.
    """

    def __init__(
        self,
        shard: ShardReader,
        normalisation: Normalisation | None = None,
        batch_size: int = 64,
        *,
        task: Task | None = None,
        augment: bool = True,
        seed: int = 0,
        workers: int = 2,
        drop_last: bool = False,
        keep: Collection[str] | None = None,
        labels: Mapping[str, list[str]] | None = None,
        **options: Any,
    ) -> None:
        """Look up the patches of each split; no pixel is read yet.

        Args:
            shard: an open shard, which stays open as long as it is trained on.
            normalisation: bands in order, with mean and std; all bands with the manifest's statistics if absent.
            batch_size: patches a batch in each process.
            task: whose targets are given; the patches' labels if absent.
            augment: turn and mirror train patches, anew in each epoch, if the task allows it.
            seed: of order and turns.
            workers: threads that read ahead.
            drop_last: leave out a short last batch of training.
            keep, labels: as ``PatchDataset`` takes them, for the train split alone.
            options: what else ``PatchDataset`` takes, for all splits: input_px, resampling, raw, sensor.

        Raises: TrainingError if the train split is empty, or as ``PatchDataset`` does.
        """
        super().__init__()
        normalisation = normalisation or Normalisation.from_manifest(shard.manifest, sensor=options.get("sensor"))
        turns = augment and (task is None or task.turns_images)
        self.train = PatchDataset(shard, "train", normalisation, augment=turns, seed=seed, keep=keep, labels=labels, **options)
        self.validation, self.test = (PatchDataset(shard, split, normalisation, seed=seed, **options) for split in ("validation", "test"))
        if not len(self.train):
            raise TrainingError(
                f"the train split of shard {shard.manifest.name!r} has no patch to learn from; see `rsdata split audit`, or keep more"
            )
        if task is not None:
            for dataset in (self.train, self.validation, self.test):
                dataset.target_reader = task.reader(shard, dataset, None, dataset is self.train)
        self.normalisation, self.classes = normalisation, list(task.classes if task else self.train.classes)
        self._batch_size, self._seed, self._workers, self._drop_last = batch_size, seed, workers, drop_last
        self._loaders: list[PatchLoader[_Batch]] = []

    def train_dataloader(self) -> PatchLoader[_Batch]:
        loader = _TrainLoader(self.train, self._batch_size, shuffle=True, seed=self._seed, drop_last=self._drop_last, workers=self._workers)
        self._loaders.append(loader)
        return loader

    def val_dataloader(self) -> PatchLoader[_Batch]:
        return self._in_order(self.validation)

    def test_dataloader(self) -> PatchLoader[_Batch]:
        return self._in_order(self.test)

    def predict_dataloader(self) -> PatchLoader[_Batch]:
        """The test split, in the order of ``test.patch_ids``."""
        return self._in_order(self.test)

    def on_after_batch_transfer(self, batch: _Batch, dataloader_idx: int) -> _Batch:
        return (self.train.normalise(batch[0]), batch[1]) if self.train.raw else batch

    def teardown(self, stage: str) -> None:
        while self._loaders:
            self._loaders.pop().close()

    def __str__(self) -> str:
        """Instead of Lightning's own, which knows torch's loaders alone."""
        counts = ", ".join(f"{len(dataset)} {dataset.split}" for dataset in (self.train, self.validation, self.test))
        return f"{type(self).__name__} of {counts} patches with {', '.join(self.normalisation.bands)}"

    def _in_order(self, dataset: PatchDataset) -> PatchLoader[_Batch]:
        loader = PatchLoader(dataset, self._batch_size, workers=self._workers)
        self._loaders.append(loader)
        return loader


class _TrainLoader(PatchLoader[_Batch]):
    """Hears from Lightning which epoch begins, as samplers do: a pass that ``limit_train_batches`` cut short is an epoch too."""

    @property
    def sampler(self) -> "_TrainLoader":
        return self

    def set_epoch(self, epoch: int) -> None:
        if epoch != self.epoch:
            self.load_state_dict(self.state_dict() | {"epoch": epoch, "batches": 0})


def _base() -> Any:
    for name in ("lightning", "pytorch_lightning"):
        if find_spec(name) is not None:
            return import_module("lightning.pytorch" if name == "lightning" else name).LightningDataModule
    raise TrainingError("a data module needs the package lightning; install it with `pip install rsdata[lightning]`")


class PatchDataModule(PatchHooks, _base()):  # type: ignore[misc]
    """The data module of ``lightning``, or of ``pytorch_lightning`` where only that is installed."""
