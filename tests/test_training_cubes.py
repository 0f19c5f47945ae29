"""Time series for training: which dates are drawn, what their pixels are, and that order and workers do not matter."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from test_video_shards import PLACES, S2_DATES, WITHOUT_S1, made_cube, tables, written
from torch.utils.data import DataLoader

from rsdata.errors import ShardError, TrainingError
from rsdata.shards import CubeShard, open_cubes
from rsdata.shards.video import Clip, stills
from rsdata.training import CubeBatch, CubeDataset, Normalisation, PatchLoader

BANDS = ("B11", "B02", "B09")
MEAN, STD = (100.0, 2000.0, -5.0), (7.0, 3.0, 11.0)
SCALE = Normalisation(BANDS, MEAN, STD)
DATES = {PLACES[0]: 4, PLACES[1]: 4, PLACES[2]: 4, PLACES[3]: 2}


@pytest.fixture(scope="module")
def cubes() -> dict:
    return {place: made_cube(place, s2_dates=dates) for place, dates in DATES.items()}


@pytest.fixture(scope="module")
def folder(cubes: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("cubes") / "video"
    written(made, list(cubes.values()))
    return made


@pytest.fixture
def shard(folder: Path) -> CubeShard:
    with open_cubes(folder) as opened:
        yield opened


def by_hand(cubes: dict, place: str, frames: list[int], side: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """(time, band, y, x) and (time, y, x) of nearest pixels, worked out without the library."""
    cube, pixels, valid = cubes[place], [], []
    for band, mean, std in zip(BANDS, MEAN, STD, strict=True):
        group, at = {"B11": ("s2_20m", 4), "B02": ("s2_10m", 0), "B09": ("s2_60m", 1)}[band]
        native, here = cube.groups[group][frames, at].astype(np.float32), cube.valid[group][frames]
        normal = np.where(here, (native - np.float32(mean)) / np.float32(std), 0)
        nearest = (np.arange(side) * 2 + 1) * native.shape[-1] // (2 * side)
        pixels.append(normal[:, nearest][:, :, nearest])
        valid.append(here[:, nearest][:, :, nearest])
    everywhere = np.logical_and.reduce(valid)
    return np.stack(pixels, axis=1), everywhere


def test_pixels_are_those_worked_out_by_hand(shard, cubes):
    dataset = CubeDataset(shard, None, SCALE, frames=4, sampling="all")
    batch = dataset.read([3, 0])
    assert batch.pixels.shape == (2, 4, 3, 120, 120)
    for row, place in enumerate([PLACES[3], PLACES[0]]):
        count = DATES[place]
        pixels, valid = by_hand(cubes, place, list(range(count)))
        assert np.allclose(batch.pixels[row, :count].numpy(), pixels, rtol=1e-6)
        assert np.array_equal(batch.valid[row, :count].numpy(), valid)
    assert not valid.all()  # the cubes have something to mask


def test_what_is_missing_is_padded_and_says_so(shard):
    batch = CubeDataset(shard, None, SCALE, frames=None, sampling="all").read([3])
    assert batch.present.tolist() == [[True, True, False, False]]
    assert batch.days.tolist() == [[19448 + 36031 / 86400, 19458 + 36031 / 86400, 0, 0]]  # 1 April 2023, 10:00:31
    assert not batch.pixels[0, 2:].any()
    assert not batch.valid[0, 2:].any()
    assert batch.targets[0].sum() == 2


def test_another_size_and_order_of_bands_give_the_same_pixels(shard, cubes):
    small = CubeDataset(shard, None, SCALE, input_px=60, frames=2, sampling="even").read([1])
    pixels, valid = by_hand(cubes, PLACES[1], [1, 3], side=60)
    assert np.allclose(small.pixels[0].numpy(), pixels, rtol=1e-6)
    assert np.array_equal(small.valid[0].numpy(), valid)
    order = [2, 0, 1]
    turned = Normalisation(tuple(BANDS[at] for at in order), tuple(MEAN[at] for at in order), tuple(STD[at] for at in order))
    other = CubeDataset(shard, None, turned, input_px=60, frames=2, sampling="even").read([1])
    assert torch.equal(other.pixels, small.pixels[:, :, order])


def test_even_dates_are_the_middle_ones_of_equal_parts(shard):
    dataset = CubeDataset(shard, None, SCALE, frames=2, sampling="even")
    assert dataset.frames_of(0).tolist() == [1, 3]  # of 0 1 | 2 3
    assert CubeDataset(shard, None, SCALE, frames=1, sampling="even").frames_of(0).tolist() == [2]
    assert CubeDataset(shard, None, SCALE, frames=3, sampling="even").frames_of(0).tolist() == [0, 2, 3]


def test_random_dates_rise_differ_between_epochs_and_are_alike_likely(shard):
    dataset = CubeDataset(shard, None, SCALE, frames=2, seed=3)
    drawn = np.array([dataset.frames_of(0, epoch) for epoch in range(600)])
    assert (np.diff(drawn, axis=1) > 0).all()
    counts = np.unique(drawn @ [10, 1], return_counts=True)
    assert counts[0].tolist() == [1, 2, 3, 12, 13, 23]
    assert (np.abs(counts[1] - 100) < 40).all()  # 100 of each is expected, with a standard deviation of 9
    assert np.array_equal(drawn[5], CubeDataset(shard, None, SCALE, frames=2, seed=3).frames_of(0, 5))
    assert not np.array_equal(drawn, [CubeDataset(shard, None, SCALE, frames=2, seed=4).frames_of(0, epoch) for epoch in range(600)])


def test_drawn_dates_come_with_their_own_pixels_and_days(shard):
    dataset, whole = CubeDataset(shard, None, SCALE, frames=2, seed=1), CubeDataset(shard, None, SCALE, frames=None, sampling="all")
    for epoch in range(4):
        drawn = dataset.frames_of(1, epoch)
        some, everything = dataset.read([1], epoch), whole.read([1])
        assert torch.equal(some.pixels[0], everything.pixels[0][drawn])
        assert torch.equal(some.days[0], everything.days[0][drawn])


def test_cloudy_dates_are_left_out(shard):
    dataset = CubeDataset(shard, None, SCALE, frames=None, sampling="all", max_cloud=0.5)
    assert [dataset.frames_of(place).tolist() for place in range(4)] == [[0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 1]]
    with pytest.raises(TrainingError, match="no date of s2 that may be used"):
        CubeDataset(shard, None, SCALE, max_cloud=-1)


def test_the_other_sensor_gives_the_frame_nearest_in_time(shard, cubes):
    both = Normalisation(("B02", "VV"), (0.0, 0.0), (1.0, 1.0))
    with pytest.raises(TrainingError, match=f"{WITHOUT_S1} has no date of s1"):
        CubeDataset(shard, None, both)
    shard.index = shard.index[shard.index["place_id"] != WITHOUT_S1]
    batch = CubeDataset(shard, None, both, frames=None, sampling="all").read([0])
    # s2 on days 0, 10, 20, 30; s1 a quarter of a day later on days 0, 12, 24
    expected = np.nan_to_num(cubes[PLACES[0]].groups["s1"][[0, 1, 2, 2], 1])
    assert np.array_equal(batch.pixels[0, :, 1].numpy(), expected)


def test_all_dates_of_a_place_are_turned_alike(shard):
    plain = CubeDataset(shard, None, SCALE, frames=None, sampling="all")
    turned = CubeDataset(shard, None, SCALE, frames=None, sampling="all", augment=True, seed=2)
    seen = set()
    for epoch in range(12):
        straight, batch = plain.read([0]), turned.read([0], epoch)
        ways = {}
        for way in range(8):
            image = torch.rot90(straight.pixels[0], way % 4, (-2, -1))
            ways[way] = image.flip(-1) if way >= 4 else image
        found = [way for way, image in ways.items() if torch.equal(image, batch.pixels[0])]
        assert len(found) == 1
        mask = torch.rot90(straight.valid[0], found[0] % 4, (-2, -1))
        assert torch.equal(batch.valid[0], mask.flip(-1) if found[0] >= 4 else mask)
        seen.add(found[0])
    assert len(seen) > 3


def batches(dataset: CubeDataset, **options: object) -> list[CubeBatch]:
    with PatchLoader(dataset, 3, shuffle=True, seed=8, rank=0, world_size=1, **options) as loader:  # type: ignore[arg-type]
        loader.epoch = 2
        return [CubeBatch(*(part.clone() for part in batch)) for batch in loader]


def same(one: list[CubeBatch], other: list[CubeBatch]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True))


@pytest.mark.parametrize(
    "options", [{"workers": 2}, {"workers": 2, "kind": "fork"}, pytest.param({"workers": 1, "kind": "spawn"}, marks=pytest.mark.slow)]
)
def test_workers_of_any_kind_give_the_same_batches(folder, options):
    with open_cubes(folder) as shard:
        dataset = CubeDataset(shard, None, SCALE, input_px=40, frames=2, augment=True, seed=5)
        expected = batches(dataset)
        assert [len(batch.pixels) for batch in expected] == [3, 1]
        assert same(batches(dataset, **options), expected)


def test_a_loader_goes_on_where_another_stood(shard):
    dataset = CubeDataset(shard, None, SCALE, input_px=40, frames=2)
    expected = batches(dataset)
    first = PatchLoader(dataset, 3, shuffle=True, seed=8, rank=0, world_size=1)
    first.epoch = 2
    next(iter(first))
    second = PatchLoader(dataset, 3, shuffle=True, seed=8, rank=0, world_size=1)
    second.load_state_dict(first.state_dict())
    assert same(list(second), expected[1:])


def test_torchs_own_loader_collates_the_same(shard):
    dataset = CubeDataset(shard, None, SCALE, input_px=40, frames=2)
    batch = next(iter(DataLoader(dataset, batch_size=4)))
    assert same([CubeBatch(*batch)], [dataset.read([0, 1, 2, 3])])


def test_memory_of_a_batch_that_is_kept_is_not_written_over(shard):
    dataset = CubeDataset(shard, None, SCALE, input_px=40, frames=2)
    loader = PatchLoader(dataset, 1, rank=0, world_size=1)
    kept = [batch.valid for batch in loader]  # validity alone must hold the memory that it shares with the pixels
    copies = [mask.clone() for mask in kept]
    for _ in range(3):
        for _batch in loader:
            pass
    assert all(torch.equal(mask, copy) for mask, copy in zip(kept, copies, strict=True))


def test_a_dataset_survives_pickling(shard):
    dataset = CubeDataset(shard, "train", SCALE, input_px=40, frames=2)
    assert dataset.place_ids == [PLACES[0], PLACES[1], PLACES[3]]
    assert same([pickle.loads(pickle.dumps(dataset)).read([1])], [dataset.read([1])])


def test_only_the_segments_of_drawn_dates_are_decoded(tmp_path, monkeypatch):
    rows, frames = tables([made_cube(PLACES[0])])
    written(tmp_path / "made", [made_cube(PLACES[0])], {"s2": {"keyint": 1}}, rows=rows, frames=frames)
    seen = []
    decode = stills.decode
    monkeypatch.setattr(stills, "decode", lambda data, shape, dtype: seen.append(shape) or decode(data, shape, dtype))
    with open_cubes(tmp_path / "made") as shard:
        CubeDataset(shard, None, Normalisation(("B02", "B03"), (0, 0), (1, 1)), frames=1, sampling="even").read([0])
    assert seen == [(3, 120, 120)]  # one stream of three bands, one date of the four
    assert S2_DATES == 4


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"split": "training"}, "no split 'training'"),
        ({"sampling": "first"}, "by 'first'"),
        ({"frames": 0}, "cannot take 0 dates"),
        ({"normalisation": Normalisation(("B10",), (0,), (1,))}, "no band B10"),
    ],
)
def test_options_that_cannot_be_served_are_refused(shard, given, said):
    with pytest.raises(TrainingError, match=said):
        CubeDataset(shard, **({"split": None} | given))


def test_a_damaged_blob_ends_in_a_sentence_and_costs_no_other_batch(folder, tmp_path):
    copy = Path(shutil.copytree(folder, tmp_path / "damaged"))
    with open_cubes(copy) as shard:
        blob = shard.read_bytes(f"{PLACES[1]}/s2_10m")
    data = bytearray((copy / "data.mdb").read_bytes())
    data[data.index(blob[:64]) + Clip(blob).head.size + 40] ^= 255  # of the first packets, which B02 needs
    (copy / "data.mdb").write_bytes(data)
    with open_cubes(copy) as shard:
        dataset = CubeDataset(shard, None, SCALE, frames=None, sampling="all")
        with pytest.raises(ShardError, match="do not match their checksum"):
            dataset.read([1])
        assert dataset.read([0]).present.all()
