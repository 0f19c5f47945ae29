"""The dataset over real shards, and the loader: order, memory, workers, resuming."""

import gc
import importlib
import json
import multiprocessing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from rsdata.commands import app  # noqa: E402
from rsdata.errors import ShardError, TrainingError  # noqa: E402
from rsdata.records import LabelClass  # noqa: E402
from rsdata.sensors import REFERENCE_MAP, SENTINEL1, SENTINEL2  # noqa: E402
from rsdata.shards import Shard, compression_of, open_shard, pack, repack, write_part  # noqa: E402
from rsdata.training import BufferPool, Normalisation, PatchDataset, PatchLoader  # noqa: E402
from rsdata.training.comparison import READERS, installed_readers  # noqa: E402

PATCHES = 21
NORMALISATION = Normalisation(("VV", "B11", "B02"), (-12.0, 3000.0, 2500.0), (2.0, 400.0, 300.0))


def values_of(number: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    random = np.random.default_rng(number)
    optical = {band.name: random.integers(1, 6000, (band.pixels(1200),) * 2).astype(np.uint16) for band in SENTINEL2.bands}
    optical["B02"][0, 0] = 0
    return optical, {band: random.normal(-12, 2, (120, 120)).astype(np.float32) for band in ("VH", "VV")}


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    rows, values = [], {}
    for number in range(PATCHES):
        patch_id, s1_key = (
            f"S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_00_{number:02d}",
            f"S1A_IW_GRDH_1SDV_20170613T165043_33UUP_0_{number}",
        )
        values[patch_id], values[s1_key] = values_of(number)
        values[f"{patch_id}_reference_map"] = {"Data": np.full((120, 120), 231, np.uint16)}
        rows.append((patch_id, "s2", s1_key, f"{patch_id}_reference_map", "train", ["a"] if number % 2 else []))
    write_part(folder / "part", values)
    pack(
        folder / "lmdb", [folder / "part"], name="d",
        index=pd.DataFrame(rows, columns=["patch_id", "sensor", "s1_key", "reference_map_key", "split", "labels"]),
        sensors=(SENTINEL2, SENTINEL1, REFERENCE_MAP), offsets={}, quantification=10_000,
        labels=[LabelClass(index=0, name="a", color="#000000", codes=[])], unlabeled_codes=[999], recipe_sha256="0" * 64,
    )  # fmt: skip
    return folder / "lmdb"


@pytest.fixture
def dataset(path):
    with open_shard(path) as shard:
        yield PatchDataset(shard, "train", NORMALISATION, 30)


def copies(loader) -> list[torch.Tensor]:
    return [pixels.clone() for pixels, _ in loader]


# --- dataset ----------------------------------------------------------------------------------------------


def test_a_batch_holds_what_its_patches_hold_one_by_one(dataset):
    batch = torch.stack([pixels for pixels, _ in dataset.__getitems__([4, 20, 4, -1])])
    assert torch.equal(batch, torch.stack([dataset[index][0] for index in (4, 20, 4, 20)]))
    with pytest.raises(IndexError):
        dataset[PATCHES]


def test_raw_pixels_normalised_later_equal_those_normalised_while_reading(path):
    normalisation = Normalisation(("B11", "B02"), (3000.0, 2500.0), (400.0, 300.0))
    with open_shard(path) as shard:
        raw = PatchDataset(shard, "train", normalisation, 120, augment=True, raw=True)
        done = PatchDataset(shard, "train", normalisation, 120, augment=True)
        pixels = torch.stack([raw[index][0] for index in range(5)])
        assert pixels.dtype == torch.uint16
        assert torch.equal(raw.normalise(pixels), torch.stack([done[index][0] for index in range(5)]))
        with pytest.raises(TrainingError, match="asked for float32, uint16 by nearest"):
            PatchDataset(shard, "train", NORMALISATION, raw=True)
        with pytest.raises(TrainingError, match="by bilinear"):
            PatchDataset(shard, "train", normalisation, raw=True, resampling="bilinear")


def test_raw_pixels_of_another_type_than_stated_are_refused(path):
    with open_shard(path) as shard:
        bands = [band.model_copy(update={"dtype": "int16"}) if band.name == "B02" else band for band in shard.manifest.bands]
        shard.manifest = shard.manifest.model_copy(update={"bands": bands})
        with pytest.raises(ShardError, match="B02 is uint16; expected int16"):
            _ = PatchDataset(shard, "train", Normalisation(("B02",), (0.0,), (1.0,)), raw=True)[0]


def test_all_patches_can_be_read_without_splits_and_labels(path):
    with open_shard(path) as shard:
        shard.manifest = shard.manifest.model_copy(update={"labels": []})
        shard.index["split"] = None
        dataset = PatchDataset(shard, None, NORMALISATION)
        assert len(dataset) == PATCHES
        assert dataset[0][1].shape == (0,)


def test_radar_patches_with_an_id_of_their_own_are_read_under_it(path):
    with open_shard(path) as shard:
        radar = Normalisation(("VV",), (0.0,), (1.0,))
        expected = PatchDataset(shard, None, radar)[3][0]
        shard.index["sensor"], shard.index["patch_id"] = "s1", shard.index["s1_key"]
        shard.index["s1_key"] = None
        assert torch.equal(PatchDataset(shard, None, radar)[3][0], expected)
        assert len(PatchDataset(shard, None, Normalisation(("B02",), (0.0,), (1.0,)))) == 0


def test_a_band_that_two_sensors_have_asks_for_the_sensor(path):
    with open_shard(path) as shard:
        other = [band.model_copy(update={"sensor": "s2c"}) for band in shard.manifest.bands if band.sensor == "s2"]
        shard.manifest = shard.manifest.model_copy(update={"bands": [*shard.manifest.bands, *other]})
        optical = Normalisation(("B02",), (0.0,), (1.0,))
        with pytest.raises(TrainingError, match="band B02 belongs to s2, s2c; name one of them"):
            PatchDataset(shard, None, optical)
        assert len(PatchDataset(shard, None, optical, sensor="s2")) == PATCHES
        assert len(PatchDataset(shard, None, optical, sensor="s2c")) == 0


def test_turns_do_not_depend_on_order_or_batch(path):
    with open_shard(path) as shard:
        dataset = PatchDataset(shard, "train", NORMALISATION, 12, augment=True, seed=3)
        forward = [dataset[index][0] for index in range(PATCHES)]
        backward = [pixels for pixels, _ in dataset.__getitems__(list(reversed(range(PATCHES))))]
        assert all(torch.equal(a, b) for a, b in zip(forward, reversed(backward), strict=True))


# --- order ------------------------------------------------------------------------------------------------


def test_an_epoch_gives_every_patch_once_and_a_short_last_batch(dataset):
    loader = PatchLoader(dataset, 8, shuffle=True, seed=1)
    sizes = [len(pixels) for pixels, _ in loader]
    assert sizes == [8, 8, 5]
    assert len(loader) == 3
    assert sorted(loader.order(0)) == list(range(PATCHES))
    assert [len(pixels) for pixels, _ in PatchLoader(dataset, 8, drop_last=True)] == [8, 8]
    assert list(PatchLoader(dataset, 8).order(5)) == list(range(PATCHES))


def test_epochs_differ_and_seeds_repeat_them(dataset):
    loader, again = PatchLoader(dataset, 8, shuffle=True, seed=1), PatchLoader(dataset, 8, shuffle=True, seed=1)
    first, second = torch.cat(copies(loader)), torch.cat(copies(loader))
    assert loader.epoch == 2
    assert not torch.equal(first, second)
    assert torch.equal(torch.cat(copies(again)), first)
    assert not torch.equal(torch.cat(copies(PatchLoader(dataset, 8, shuffle=True, seed=2))), first)


def test_targets_go_with_their_pixels(dataset):
    for pixels, targets in PatchLoader(dataset, 4, shuffle=True):
        for one, target in zip(pixels, targets, strict=True):
            (index,) = [each for each in range(PATCHES) if torch.equal(dataset[each][0], one)]
            assert target.tolist() == [index % 2]


@pytest.mark.parametrize("kind", ["threads", "spawn", "fork"])
def test_workers_change_nothing(path, kind):
    with open_shard(path) as shard:
        dataset = PatchDataset(shard, "train", NORMALISATION, 30, augment=True, seed=2)
        expected = PatchLoader(dataset, 4, shuffle=True, seed=3)
        with PatchLoader(dataset, 4, shuffle=True, seed=3, workers=2, kind=kind) as loader:
            for _ in range(2):
                assert torch.equal(torch.cat(copies(loader)), torch.cat(copies(expected)))


def test_torchs_own_loader_gives_the_same_batches(dataset):
    loader = DataLoader(dataset, 8, num_workers=1, multiprocessing_context=multiprocessing.get_context("fork"))
    assert torch.equal(torch.cat([pixels for pixels, _ in loader]), torch.cat(copies(PatchLoader(dataset, 8))))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_pass_goes_on_where_another_stopped(dataset, workers):
    whole = PatchLoader(dataset, 4, shuffle=True, seed=3)
    expected = [*copies(whole), *copies(whole)]
    loader = PatchLoader(dataset, 4, shuffle=True, seed=3, workers=workers)
    found = copies(loader)
    for number, (pixels, _) in enumerate(loader):
        found.append(pixels.clone())
        if number == 2:
            state = loader.state_dict()
            break
    other = PatchLoader(dataset, 4, shuffle=True, seed=3, workers=workers)
    other.load_state_dict(state)
    assert other.state_dict() == state
    found += copies(other)
    assert len(found) == len(expected) == 12
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert other.state_dict()["epoch"] == 2
    with pytest.raises(TrainingError, match="another batch_size, seed"):
        PatchLoader(dataset, 5, shuffle=True).load_state_dict(state)


def test_the_state_after_the_last_batch_begins_the_next_epoch(dataset):
    loader = PatchLoader(dataset, 8, shuffle=True)
    for _ in loader:
        state = loader.state_dict()
    other = PatchLoader(dataset, 8, shuffle=True)
    other.load_state_dict(state)
    assert torch.equal(torch.cat(copies(other)), torch.cat(copies(loader)))


def test_ranks_share_the_patches_and_have_as_many_batches(dataset):
    loaders = [PatchLoader(dataset, 3, shuffle=True, seed=4, rank=rank, world_size=4) for rank in range(4)]
    orders = [loader.order(1) for loader in loaders]
    assert {len(order) for order in orders} == {6}
    assert {len(copies(loader)) for loader in loaders} == {len(loaders[0])} == {2}
    assert set(np.concatenate(orders)) == set(range(PATCHES))
    with pytest.raises(TrainingError, match="rank 4 of 4"):
        PatchLoader(dataset, 3, rank=4, world_size=4)


# --- memory -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("workers", "kind"), [(0, "threads"), (2, "threads"), (1, "fork")])
def test_batches_that_are_kept_are_never_written_over(dataset, workers, kind):
    expected = [batch for _ in range(3) for batch in copies(PatchLoader(dataset, 4))]
    loader = PatchLoader(dataset, 4, workers=workers, kind=kind)
    kept = [pixels for _ in range(3) for pixels, _ in loader]
    loader.close()
    del loader
    gc.collect()
    assert len({pixels.data_ptr() for pixels in kept}) == len(kept) == 18
    assert all(torch.equal(a, b) for a, b in zip(kept, expected, strict=True))


@pytest.mark.parametrize(
    "keep",
    [
        lambda pixels: pixels[1:, 0, ::2],
        lambda pixels: pixels[0].numpy()[1],
        lambda pixels: pixels.view(-1)[5:],
        lambda pixels: pixels.detach().permute(0, 2, 3, 1),
        lambda pixels: torch.utils.dlpack.from_dlpack(pixels)[0],
        lambda pixels: memoryview(pixels.numpy())[1:],
        lambda pixels: next(iter(pixels.unbind())),
    ],
)
@pytest.mark.parametrize(("workers", "kind"), [(0, "threads"), (1, "fork")])
def test_what_shares_a_batchs_memory_keeps_it(dataset, keep, workers, kind):
    with PatchLoader(dataset, 4, shuffle=True, workers=workers, kind=kind) as loader:
        kept = [keep(pixels) for pixels, _ in loader]
        before = [np.asarray(each).copy() for each in kept]
        for _ in range(3):
            copies(loader)
        for each, was in zip(kept, before, strict=True):
            np.testing.assert_array_equal(np.asarray(each), was)


@pytest.mark.parametrize(("workers", "kind"), [(0, "threads"), (2, "threads"), (1, "fork")])
def test_memory_of_dropped_batches_is_used_again(dataset, workers, kind):
    with PatchLoader(dataset, 4, workers=workers, kind=kind) as loader:
        places = {pixels.data_ptr() for _ in range(6) for pixels, _ in loader}
    assert len(places) < 36 / 3


def test_a_pool_counts_what_is_free():
    pool = BufferPool([np.zeros(64, np.uint8)])
    memory = pool.take(64)
    assert memory is not None
    assert pool.take(64) is None
    tensor = pool.lend(memory, (2, 4), np.dtype(np.float32))
    view = tensor[1, 2:]
    del tensor
    assert len(pool) == 0
    del view
    assert len(pool) == 1


def test_a_gradient_through_a_batch_keeps_it(dataset):
    loader = PatchLoader(dataset, 4)
    weight = torch.ones(3, requires_grad=True)
    losses = [(pixels.sum(dim=(0, 2, 3)) * weight).sum() for pixels, _ in loader]
    sums = [pixels.sum(dim=(0, 2, 3)) for pixels, _ in PatchLoader(dataset, 4)]
    copies(loader)
    torch.stack(losses).sum().backward()
    torch.testing.assert_close(weight.grad, torch.stack(sums).sum(dim=0))


# --- failures ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("workers", "kind"), [(0, "threads"), (2, "threads"), (1, "fork")])
def test_an_entry_that_cannot_be_read_ends_the_pass_in_words_and_the_loader_goes_on(path, workers, kind):
    with open_shard(path) as shard:
        dataset = PatchDataset(shard, "train", NORMALISATION, 30)
        dataset._keys[0][0][9] = "nowhere"
        with PatchLoader(dataset, 4, workers=workers, kind=kind) as loader:
            with pytest.raises(ShardError, match="has no key nowhere"):
                copies(loader)
            if workers == 0 or kind == "threads":
                dataset._keys[0][0][9] = dataset.patch_ids[9]
                assert len(copies(loader)) == 6


def _end(*_: object) -> None:
    importlib.import_module("os")._exit(1)


def test_a_worker_that_dies_is_said_in_words(dataset):
    with PatchLoader(dataset, 4, workers=1, kind="fork") as loader:
        iterator = iter(loader)
        next(iterator)
        loader._executor.submit(_end)
        with pytest.raises(TrainingError, match="a worker process of the loader died"):
            for _ in range(3):
                list(loader)


def test_a_shard_opened_before_a_fork_still_reads_in_the_parent(path):
    with open_shard(path) as shard:
        dataset = PatchDataset(shard, "train", NORMALISATION, 30)
        before = dataset[3][0]
        with PatchLoader(dataset, 4, workers=1, kind="fork") as loader:
            copies(loader)
        assert torch.equal(dataset[3][0], before)
    assert isinstance(shard, Shard)


# --- bench ------------------------------------------------------------------------------------------------


def test_the_bench_compares_readers_of_the_same_patches(path, tmp_path):
    arguments = ["shards", "bench", str(path), "--against", "npy,lmdb,rasterio", "--patches", "8", "--seconds", "0.1"]
    done = CliRunner().invoke(app, [*arguments, "--scratch", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [each["reader"] for each in found["speeds"]] == ["rsdata", "rsdata, 2 threads", "npy", "lmdb", "rasterio"]
    assert all(each["samples_per_s"] > 0 for each in found["speeds"])
    stored = (4 * 120**2 + 6 * 60**2 + 2 * 20**2) * 2 + 2 * 120**2 * 4  # bytes of a patch
    assert found["speeds"][0]["mb_per_s"] == pytest.approx(found["speeds"][0]["samples_per_s"] * stored / 1e6, rel=0.01)
    assert sum(found["shares"].values()) == pytest.approx(1, abs=0.01)
    assert (found["patches"], len(found["bands"]), found["input_px"]) == (8, 14, 120)
    assert list(tmp_path.iterdir()) == []
    assert "look-up" in CliRunner().invoke(app, [*arguments[:4], "none", "--seconds", "0.1"]).stdout


@pytest.mark.parametrize("name", ["npy", "lmdb", "rasterio", "datasets", "webdataset", "litdata"])
def test_every_reader_gives_the_same_batches(dataset, tmp_path, name):
    if name not in installed_readers():
        pytest.skip(f"{name} is not installed")
    dataset._plan.nodata[:] = [float("nan")] * 3  # the others do not know of missing pixels
    reader = READERS[name]()
    reader.write(tmp_path, dataset)
    found = torch.cat(list(reader.open(tmp_path, dataset, 8)(1)))
    expected = torch.stack([dataset[index][0] for index in range(PATCHES)])
    by_sum = [each[each.sum(dim=(1, 2, 3)).argsort()] for each in (found, expected)]
    torch.testing.assert_close(by_sum[0], by_sum[1], rtol=1e-5, atol=1e-6)


def test_a_reader_that_is_not_there_is_refused(path):
    done = CliRunner().invoke(app, ["shards", "bench", str(path), "--against", "floppy"])
    assert done.exit_code != 0
    assert isinstance(done.exception, TrainingError)
    assert "cannot compare with floppy" in str(done.exception)


@pytest.mark.parametrize(("format", "compression"), [("zarr", None), ("lmdb", "zstd")])
def test_a_dataset_over_another_format_gives_the_same_batches(path, dataset, tmp_path, format, compression):
    repack([path], tmp_path / "other", format=format, compression=compression and compression_of(compression))
    with open_shard(tmp_path / "other") as shard:
        other = PatchDataset(shard, "train", NORMALISATION, 30)
        assert torch.equal(torch.cat(copies(PatchLoader(other, 8))), torch.cat(copies(PatchLoader(dataset, 8))))
