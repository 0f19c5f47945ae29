"""The same patches from other formats and by other readers, to compare with.

Every reader gives the same batches: all bands on one grid, float32, normalised, shuffled. Each is written here as its own
documentation suggests. Those whose library is not installed are left out.
"""

import importlib.util
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader

from rsdata.errors import TrainingError
from rsdata.shards import Shard, repack
from rsdata.training.dataset import PatchDataset
from rsdata.training.loading import PatchLoader

_NAME = "{:06d}"  # of the n-th patch in other formats
_TAR_PATCHES = 500  # per tar file
_NEAREST = "nearest-exact"  # the pixel under the centre, as rsdata takes it
_SHUFFLED = 1000  # patches in webdataset's buffer


class Reader:
    """Writes patches of a dataset in one format, and reads them back as batches."""

    needs: tuple[str, ...] = ()  # libraries

    def write(self, folder: Path, dataset: PatchDataset) -> None:
        """Write all patches at native resolution; ``folder`` exists and is empty."""

    def open(self, folder: Path, dataset: PatchDataset, batch: int) -> Callable[[int], Iterator[Tensor]]:
        """Give what reads one epoch, by its number, as batches (patch, band, y, x) float32, normalised."""
        raise NotImplementedError


class RsdataReader(Reader):
    """rsdata's own."""

    def __init__(self, workers: int = 0) -> None:
        self.workers = workers

    def open(self, folder: Path, dataset: PatchDataset, batch: int) -> Callable[[int], Iterator[Tensor]]:
        loader = PatchLoader(dataset, batch, shuffle=True, workers=self.workers)

        def epoch(number: int) -> Iterator[Tensor]:
            loader.epoch = number
            for pixels, _ in loader:
                yield pixels

        return epoch


class NpyReader(Reader):
    """A memory-mapped array that holds every patch as a network takes it: float32, all bands on one grid, normalised."""

    def write(self, folder: Path, dataset: PatchDataset) -> None:
        array = np.lib.format.open_memmap(folder / "patches.npy", "w+", np.float32, dataset.batch_shape(len(dataset)))
        for first in range(0, len(dataset), 64):
            dataset.read(range(first, min(first + 64, len(dataset))), array[first : first + 64])
        array.flush()

    def open(self, folder: Path, dataset: PatchDataset, batch: int) -> Callable[[int], Iterator[Tensor]]:
        array = np.load(folder / "patches.npy", mmap_mode="r")

        def epoch(number: int) -> Iterator[Tensor]:
            order = np.random.default_rng(number).permutation(len(array))
            for first in range(0, len(order), batch):
                yield torch.from_numpy(array[order[first : first + batch]])

        return epoch


class _Single(torch.utils.data.Dataset[Tensor]):
    """Patches one at a time, through a function."""

    def __init__(self, read: Callable[[int], Mapping[str, npt.NDArray[Any]]], dataset: PatchDataset) -> None:
        self.read, self.count, self.to_tensor = read, len(dataset), _Stack(dataset)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tensor:
        return self.to_tensor(self.read(index))


class _Stack:
    """Native bands (y, x) of one patch to (band, y, x): each interpolated by torch, stacked, normalised."""

    def __init__(self, dataset: PatchDataset) -> None:
        self.bands, self.side = dataset.normalisation.bands, dataset.input_px
        self.mean, self.std = (torch.tensor(each)[:, None, None] for each in (dataset.normalisation.mean, dataset.normalisation.std))

    def __call__(self, native: Mapping[str, npt.NDArray[Any]]) -> Tensor:
        size = (self.side, self.side)
        found = [
            interpolate(torch.from_numpy(native[band].astype(np.float32))[None, None], size, mode=_NEAREST)[0, 0] for band in self.bands
        ]
        return (torch.stack(found) - self.mean) / self.std


def _epochs_of(dataset: torch.utils.data.Dataset[Tensor], batch: int) -> Callable[[int], Iterator[Tensor]]:
    loader = DataLoader(dataset, batch, shuffle=True, generator=torch.Generator().manual_seed(0))
    return lambda number: iter(loader)


class PlainLmdbReader(Reader):
    """LMDB and safetensors as rico-hdl's documentation shows them: one transaction and one dictionary per entry."""

    needs = ("lmdb", "safetensors")

    def write(self, folder: Path, dataset: PatchDataset) -> None:
        from safetensors.numpy import save

        from rsdata.shards.lmdb import write_lmdb

        write_lmdb(folder / "plain", ((_NAME.format(index), save(dataset.native(index))) for index in range(len(dataset))))

    def open(self, folder: Path, dataset: PatchDataset, batch: int) -> Callable[[int], Iterator[Tensor]]:
        import lmdb
        from safetensors.numpy import load

        env = lmdb.open(str(folder / "plain"), readonly=True, lock=False, meminit=False, readahead=True)

        def read(index: int) -> Mapping[str, npt.NDArray[Any]]:
            with env.begin() as transaction:
                found: dict[str, npt.NDArray[Any]] = load(transaction.get(_NAME.format(index).encode()) or b"")
            return found

        return _epochs_of(_Single(read, dataset), batch)


class GeotiffReader(Reader):
    """One uncompressed GeoTIFF per band, through rasterio."""

    needs = ("rasterio",)

    def write(self, folder: Path, dataset: PatchDataset) -> None:
        import rasterio
        from rasterio.transform import from_origin

        for index in range(len(dataset)):
            (folder / _NAME.format(index)).mkdir()
            for band, pixels in dataset.native(index).items():
                profile = {"count": 1, "dtype": pixels.dtype, "height": pixels.shape[0], "width": pixels.shape[1]}
                profile |= {"driver": "GTiff", "transform": from_origin(0, 0, 10, 10)}
                with rasterio.open(folder / _NAME.format(index) / f"{band}.tif", "w", **profile) as file:
                    file.write(pixels, 1)

    def open(self, folder: Path, dataset: PatchDataset, batch: int) -> Callable[[int], Iterator[Tensor]]:
        import rasterio

        def read(index: int) -> dict[str, npt.NDArray[Any]]:
            found = {}
            for band in dataset.normalisation.bands:
                with rasterio.open(folder / _NAME.format(index) / f"{band}.tif") as file:
                    found[band] = file.read(1)
            return found

        return _epochs_of(_Single(read, dataset), batch)


class WebdatasetReader(Reader):
    """Tar files of safetensors dictionaries, shuffled through a buffer."""

    needs = ("webdataset",)

    def write(self, folder: Path, dataset: PatchDataset) -> None:
        import tarfile

        from safetensors.numpy import save

        for first in range(0, len(dataset), _TAR_PATCHES):
            with tarfile.open(folder / f"{first:06d}.tar", "w") as tar:
                for index in range(first, min(first + _TAR_PATCHES, len(dataset))):
                    value = save(dataset.native(index))
                    member = tarfile.TarInfo(f"{_NAME.format(index)}.safetensors")
                    member.size = len(value)
                    tar.addfile(member, io.BytesIO(value))

    def open(self, folder: Path, dataset: PatchDataset, batch: int) -> Callable[[int], Iterator[Tensor]]:
        import webdataset
        from safetensors.numpy import load

        stack = _Stack(dataset)
        urls = [str(path) for path in sorted(folder.glob("*.tar"))]
        pipeline = (
            webdataset.WebDataset(urls, shardshuffle=len(urls), empty_check=False)
            .shuffle(_SHUFFLED)
            .map(lambda sample: stack(load(sample["safetensors"])))
            .batched(batch, collation_fn=torch.stack)
        )
        return lambda number: iter(pipeline)


class LitdataReader(Reader):
    """Chunks of binary values, streamed by litdata from the local disk."""

    needs = ("litdata",)

    def write(self, folder: Path, dataset: PatchDataset) -> None:
        from litdata.streaming.writer import BinaryWriter

        writer = BinaryWriter(str(folder), chunk_bytes="64MB")
        for index in range(len(dataset)):
            writer[index] = dataset.native(index)
        writer.done()
        writer.merge()

    def open(self, folder: Path, dataset: PatchDataset, batch: int) -> Callable[[int], Iterator[Tensor]]:
        import litdata

        stack = _Stack(dataset)
        streamed = litdata.StreamingDataset(str(folder), shuffle=True, seed=0)
        loader = litdata.StreamingDataLoader(
            streamed, batch_size=batch, num_workers=0, collate_fn=lambda rows: torch.stack([stack(row) for row in rows])
        )
        return lambda number: iter(loader)


class DatasetsReader(Reader):
    """Arrow files read through Hugging Face's datasets, a whole batch at a time and band by band."""

    needs = ("datasets",)

    def write(self, folder: Path, dataset: PatchDataset) -> None:
        import datasets

        first = dataset.native(0)
        # lists of fixed length are read without a copy; the library's own Array2D is several times slower
        features = datasets.Features(
            {band: datasets.Sequence(datasets.Value(str(pixels.dtype)), length=pixels.size) for band, pixels in first.items()}
        )
        rows = ({band: pixels.ravel() for band, pixels in dataset.native(index).items()} for index in range(len(dataset)))
        with datasets.arrow_writer.ArrowWriter(features=features, path=str(folder / "patches.arrow"), writer_batch_size=100) as writer:
            for row in rows:
                writer.write(row)
            writer.finalize()

    def open(self, folder: Path, dataset: PatchDataset, batch: int) -> Callable[[int], Iterator[Tensor]]:
        import datasets

        table = datasets.Dataset.from_file(str(folder / "patches.arrow")).with_format("arrow")
        shapes = {band: pixels.shape for band, pixels in dataset.native(0).items()}
        normalisation, size = dataset.normalisation, (dataset.input_px, dataset.input_px)

        def epoch(number: int) -> Iterator[Tensor]:
            order = np.random.default_rng(number).permutation(len(table))
            for first in range(0, len(order), batch):
                rows = table[order[first : first + batch]]
                out = torch.empty((len(order[first : first + batch]), len(normalisation.bands), *size))
                for place, (band, mean, std) in enumerate(zip(normalisation.bands, normalisation.mean, normalisation.std, strict=True)):
                    stored = rows[band].combine_chunks().flatten().to_numpy().reshape(-1, *shapes[band])
                    native = torch.from_numpy(stored.astype(np.float32))
                    out[:, place] = (interpolate(native[:, None], size, mode=_NEAREST)[:, 0] - mean) / std
                yield out

        return epoch


class ZarrReader(Reader):
    """rsdata's own Zarr shard, indexed patch by patch through zarr-python."""

    needs = ("zarr",)

    def write(self, folder: Path, dataset: PatchDataset) -> None:
        if not isinstance(dataset.shard, Shard):
            raise TrainingError("only a shard on disk can be written as Zarr; open one with rsdata.shards.open_shard")
        (folder / "shard").mkdir()
        repack([dataset.shard.path], folder / "shard", format="zarr", keep=dataset.patch_ids)

    def open(self, folder: Path, dataset: PatchDataset, batch: int) -> Callable[[int], Iterator[Tensor]]:
        import zarr

        wanted = set(dataset.normalisation.bands)
        opened: list[tuple[Any, list[str]]] = []
        for place in sorted(each.parent for each in (folder / "shard").glob("*/pixels")):
            bands: Any = zarr.open_array(place / "band", mode="r")[:]
            opened.append((zarr.open_array(place / "pixels", mode="r"), [str(band) for band in bands]))
        groups = [(pixels, names) for pixels, names in opened if wanted.intersection(names)]
        ids: Any = zarr.open_array(place / "patch_id", mode="r")[:]
        rows = {str(patch_id): row for row, patch_id in enumerate(ids)}

        def read(index: int) -> dict[str, npt.NDArray[Any]]:
            found: dict[str, npt.NDArray[Any]] = {}
            for pixels, names in groups:
                found.update(zip(names, pixels[rows[dataset.patch_ids[index]]], strict=True))
            return found

        return _epochs_of(_Single(read, dataset), batch)


READERS: dict[str, Callable[[], Reader]] = {
    "rsdata": RsdataReader,
    "npy": NpyReader,
    "datasets": DatasetsReader,
    "webdataset": WebdatasetReader,
    "lmdb": PlainLmdbReader,
    "litdata": LitdataReader,
    "rasterio": GeotiffReader,
    "zarr": ZarrReader,
}


def installed_readers() -> list[str]:
    """Names of the readers whose libraries are there."""
    return [name for name, make in READERS.items() if all(importlib.util.find_spec(library) for library in make().needs)]
