"""Reading many patches at once: the same pixels as one at a time, from memory that is only ever read where there is some."""

import json
import multiprocessing
import os
import signal
import struct
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from rsdata.errors import ShardError
from rsdata.shards import LmdbStore
from rsdata.shards.lmdb import write_lmdb
from rsdata.shards.reading import BatchPlan, Headers, Layout, Piece, Plane, Resampling, pieces_of, pieces_of_values
from rsdata.shards.reading.kernel import LARGE_BYTES
from rsdata.shards.values import encode

SIDE = 12
BANDS = ("B02", "B05", "B01")
SIDES = {"B02": 12, "B05": 6, "B01": 2}
NAN = float("nan")


def entry(seed: int, dtype: str = "uint16", sides: Mapping[str, int] = SIDES) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {band: random.integers(1, 100, (side, side)).astype(dtype) for band, side in sides.items()}


def plan(resampling: Resampling = "nearest", side: int = SIDE, **changes: Sequence[float]) -> BatchPlan:
    numbers: dict[str, Sequence[float]] = {"mean": (50, 40, 30), "std": (7, 8, 9), "nodata": (0, 0, 0)}
    return BatchPlan(BANDS, side_px=side, resampling=resampling, **(numbers | changes))


def filled(made: BatchPlan, store: object, keys: Sequence[str], symmetries: Sequence[int] | None = None) -> np.ndarray:
    out = np.full((len(keys), len(BANDS), made.side_px, made.side_px), NAN, np.float32)
    with pieces_of(store, keys, BANDS) as pieces:
        lacking = made.fill(pieces, BANDS, out, np.array(symmetries or [0] * len(keys)))
    assert lacking == []
    return out


def by_hand(values: Mapping[str, np.ndarray], side: int = SIDE) -> np.ndarray:
    """Nearest, as numpy does it."""
    found = []
    for band, mean, std in zip(BANDS, (50, 40, 30), (7, 8, 9), strict=True):
        pixels = values[band]
        rows, columns = (((np.arange(side) + 0.5) * size / side).astype(int) for size in pixels.shape)
        wide = pixels[np.ix_(rows, columns)].astype(np.float32)
        normal = (wide - np.float32(mean)) / np.float32(std)
        normal[np.isnan(wide) | (wide == 0)] = 0
        found.append(normal)
    return np.stack(found)


class MemoryStore:
    """A store that can only read one key at a time."""

    def __init__(self, values: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        self.values = values

    def read(self, key: str) -> Mapping[str, np.ndarray]:
        return self.values[key]


class BlockStore:
    """As an array store would do it: bands of one resolution in one block (patch, band, y, x), all patches together."""

    def __init__(self, values: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        self.place = {key: row for row, key in enumerate(values)}
        self.blocks = [((band,), np.stack([each[band][None] for each in values.values()])) for band in ("B01",)]
        upper = np.stack([np.stack([each["B05"], each["B05"] + 1]) for each in values.values()])
        self.blocks += [(("B05", "B06"), upper), (("B02",), np.stack([each["B02"][None] for each in values.values()]))]

    def read(self, key: str) -> Mapping[str, np.ndarray]:
        raise AssertionError("nobody should read one by one")

    @contextmanager
    def pieces(self, keys, bands):
        found = []
        for names, block in self.blocks:
            plane = block[0, 0].nbytes
            layout = Layout({name: Plane(at * plane, block.dtype.name, block.shape[2:]) for at, name in enumerate(names)})
            memory = [block[self.place[key]].reshape(-1).view(np.uint8) for key in keys]
            found.append(Piece(layout, np.arange(len(keys)), memory))
        yield found


@pytest.fixture
def values() -> dict[str, dict[str, np.ndarray]]:
    return {f"p{number}": entry(number) for number in range(8)}


@pytest.fixture
def store(values, tmp_path) -> LmdbStore:
    write_lmdb(tmp_path / "db", [(key, encode(bands)) for key, bands in values.items()])
    return LmdbStore(tmp_path / "db")


# --- numbers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [12, 6, 5, 1, 18, 24])
def test_nearest_equals_numpy_to_the_bit(values, store, side):
    keys = ["p3", "p0", "p3", "p7"]
    np.testing.assert_array_equal(filled(plan(side=side), store, keys), [by_hand(values[key], side) for key in keys])


@pytest.mark.parametrize(("side", "dtype"), [(120, "uint16"), (104, "float32"), (104, "int16"), (120, "uint8")])
def test_a_batch_too_large_for_caches_holds_the_same_pixels(side, dtype):
    made = plan(side=side)
    values = {f"{n}": entry(n, dtype, {"B02": side, "B05": side // 2, "B01": side // 8 if side == 104 else side // 6}) for n in range(3)}
    count = LARGE_BYTES // (len(BANDS) * side * side * 4) + 1
    keys = [f"{n % 3}" for n in range(count)]
    room = np.full(count * len(BANDS) * side * side + 16, NAN, np.float32)
    out = room[-room.ctypes.data % 64 // 4 :][: count * len(BANDS) * side * side].reshape(count, len(BANDS), side, side)
    turns = np.arange(count) % 5 // 4 * 3  # every fifth is turned
    with pieces_of(MemoryStore(values), keys, BANDS) as pieces:
        assert made.fill(pieces, BANDS, out, turns) == []
    for row, key in enumerate(keys):
        np.testing.assert_array_equal(out[row], np.rot90(by_hand(values[key], side), turns[row], (1, 2)))
    assert np.isnan(room).sum() == 16  # nothing beside the batch was written


@pytest.mark.parametrize(("resampling", "sides"), [("bilinear", (12, 24, 7)), ("area", (6, 3, 2))])
def test_bilinear_and_area_equal_torch(values, store, resampling, sides):
    torch = pytest.importorskip("torch")
    options = {"align_corners": False} if resampling == "bilinear" else {}
    for side in sides:
        found = filled(plan(resampling, side, mean=(0, 0, 0), std=(1, 1, 1)), store, ["p1", "p2"])
        for row, key in enumerate(("p1", "p2")):
            for channel, band in enumerate(BANDS):
                native = torch.from_numpy(values[key][band].astype(np.float32))[None, None]
                expected = torch.nn.functional.interpolate(native, (side, side), mode=resampling, **options)[0, 0]
                np.testing.assert_allclose(found[row, channel], expected, rtol=1e-5)


@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "area"])
def test_missing_pixels_count_as_the_mean(tmp_path, resampling):
    values = entry(0) | {"B05": np.full((6, 6), 48, np.uint16)}  # one deviation above the mean
    values["B05"][2, 2] = 0
    write_lmdb(tmp_path / "db", [("p", encode(values))])
    found = filled(plan(resampling, 3), LmdbStore(tmp_path / "db"), ["p"])[0, 1]
    expected = np.ones((3, 3))
    # under output pixel (1, 1) lie native pixels 2 and 3 of rows and columns: nearest takes (3, 3), the others all four
    expected[1, 1] = 1 if resampling == "nearest" else 0.75
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_eight_symmetries_are_those_of_numpy(values, store):
    for side in (12, 1, 7):
        straight = by_hand(values["p1"], side)
        found = filled(plan(side=side), store, ["p1"] * 8, range(8))
        for symmetry in range(8):
            turned = np.rot90(straight, symmetry % 4, axes=(1, 2))
            np.testing.assert_array_equal(found[symmetry], turned[:, :, ::-1] if symmetry >= 4 else turned)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64", "int32", "int8", "float16", "uint64"])
def test_every_type_of_number_is_read(tmp_path, dtype):
    write_lmdb(tmp_path / "db", [("p", encode(entry(5, dtype)))])
    np.testing.assert_array_equal(filled(plan(), LmdbStore(tmp_path / "db"), ["p"])[0], by_hand(entry(5, dtype)))


def test_patches_of_several_sizes_and_rectangles_share_a_batch(tmp_path):
    values = {"a": entry(1), "b": entry(2, sides={"B02": 13, "B05": 6, "B01": 2})}
    values["b"]["B05"] = values["b"]["B05"][:, :4].copy()
    write_lmdb(tmp_path / "db", [(key, encode(each)) for key, each in values.items()])
    np.testing.assert_array_equal(
        filled(plan(), LmdbStore(tmp_path / "db"), ["b", "a", "b"]), [by_hand(values[key]) for key in ("b", "a", "b")]
    )


def test_memory_that_is_not_aligned_is_read_too(values):
    text = encode(values["p1"])
    shifted = np.frombuffer(b"\0" + text, np.uint8)[1:]
    (piece,) = pieces_of_values([memoryview(shifted)], ["p1"], Headers())
    assert piece.addresses[0] % 2 == 1
    out = np.zeros((1, 3, SIDE, SIDE), np.float32)
    assert plan().fill([piece], BANDS, out, np.zeros(1, np.int64)) == []
    np.testing.assert_array_equal(out[0], by_hand(values["p1"]))


@pytest.mark.parametrize("kind", [MemoryStore, BlockStore])
def test_other_stores_give_the_same_batch(values, store, kind):
    keys = ["p4", "p1", "p1", "p6"]
    np.testing.assert_array_equal(filled(plan(), kind(values), keys), filled(plan(), store, keys))


# --- what a shard may hold --------------------------------------------------------------------------------


def test_values_of_another_layout_in_between_are_read_as_they_are(tmp_path):
    values = {f"p{number}": entry(number, "int16" if number == 3 else "uint16") for number in range(6)}
    values["p4"] = dict(reversed(values["p4"].items())) | {"B99": np.zeros((2, 2), np.uint8)}
    write_lmdb(tmp_path / "db", [(key, encode(each)) for key, each in values.items()])
    found = filled(plan(), LmdbStore(tmp_path / "db"), list(values))
    np.testing.assert_array_equal(found, [by_hand(each) for each in values.values()])


def test_a_band_that_an_entry_lacks_is_reported_with_its_row(tmp_path):
    values = {"a": entry(0), "b": {"B02": entry(1)["B02"]}}
    write_lmdb(tmp_path / "db", [(key, encode(each)) for key, each in values.items()])
    out = np.zeros((3, 3, SIDE, SIDE), np.float32)
    with LmdbStore(tmp_path / "db").pieces(["a", "b", "a"], BANDS) as pieces:
        assert plan().fill(pieces, BANDS, out, np.zeros(3, np.int64)) == [(1, "B05"), (1, "B01")]


def test_an_absent_key_is_named(store):
    with pytest.raises(ShardError, match="has no key nowhere"), store.pieces(["p1", "nowhere"], BANDS):
        pass


def forged(header: Mapping[str, object], data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


BAND = {"dtype": "U16", "shape": [4, 4], "data_offsets": [0, 32]}


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x05",
        b"not safetensors at all, only text",
        encode(entry(0))[:-1],
        encode(entry(0)) + b"\0\0",
        encode(entry(0))[:40],
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 10) + b"[1, 2, 3]]",
        forged({"B02": BAND}, bytes(30)),
        forged({"B02": BAND | {"shape": [400, 400]}}, bytes(32)),
        forged({"B02": BAND | {"data_offsets": [0, 320000], "shape": [400, 400]}}, bytes(32)),
        forged({"B02": BAND | {"data_offsets": [-32, 0]}}, bytes(32)),
        forged({"B02": BAND | {"data_offsets": [16, 48]}}, bytes(48)),
        forged({"B02": BAND | {"shape": [-4, -4]}}, bytes(32)),
        forged({"B02": BAND | {"shape": [2**33, 2**33]}}, bytes(32)),
        forged({"B02": BAND, "B05": BAND}, bytes(32)),
        forged({"B02": BAND | {"shape": [16]}}, bytes(32)),
        forged({"B02": BAND | {"dtype": "BF16"}}, bytes(32)),
        forged({"B02": {"dtype": "U16", "shape": [0, 4], "data_offsets": [0, 0]}}, b""),
    ],
)
def test_a_damaged_or_lying_value_is_refused_before_it_is_read(tmp_path, value):
    write_lmdb(tmp_path / "db", [("a", encode(entry(0))), ("b", value)])
    store = LmdbStore(tmp_path / "db")
    filled(plan(), store, ["a"])
    with pytest.raises(ShardError, match=r"\bb\b|band B02 has the shape"), store.pieces(["a", "b"], BANDS):
        pass


def test_a_known_header_over_too_few_bytes_is_refused(values):
    headers = Headers()
    whole = encode(values["p1"])
    headers.layout(memoryview(whole), "p1")
    for cut in (whole[:-2], whole[:-40], whole + b"\0"):
        with pytest.raises(ShardError, match="cut"):
            headers.layout(memoryview(cut), "cut")


def test_memory_shorter_than_its_layout_never_becomes_a_piece():
    layout = Layout({"B02": Plane(8, "uint16", (4, 4))})
    Piece(layout, np.array([0]), [np.zeros(40, np.uint8)])
    with pytest.raises(ShardError, match="has 39 bytes; its layout needs 40"):
        Piece(layout, np.array([0]), [np.zeros(39, np.uint8)])
    with pytest.raises(ShardError):
        Piece(layout, np.array([0]), [np.zeros(80, np.uint8)[::2]])


# --- processes --------------------------------------------------------------------------------------------


def _sum(store: LmdbStore, keys: Sequence[str]) -> tuple[int, float]:
    return os.getpid(), float(filled(plan(), store, keys).sum(dtype=np.float64))


@pytest.mark.parametrize(("start", "workers"), [("fork", 2), ("spawn", 8)])
def test_a_store_in_use_before_the_workers_start_reads_in_them(store, start, workers):
    keys = ["p1", "p5", "p2"]
    with store.pieces(keys, BANDS), ProcessPoolExecutor(workers, multiprocessing.get_context(start)) as pool:
        found = list(pool.map(_sum, [store] * 32, [keys] * 32))
    assert {each for _, each in found} == {_sum(store, keys)[1]}
    assert os.getpid() not in {process for process, _ in found}
    assert _sum(store, keys)


class SlowKey(str):
    """A key that is looked up for as long as one likes."""

    def __new__(cls, key: str, go_on: threading.Event) -> "SlowKey":
        made = super().__new__(cls, key)
        made.go_on, made.begun = go_on, threading.Event()
        return made

    def encode(self, *args: str) -> bytes:
        self.begun.set()
        assert self.go_on.wait(60)
        return super().encode(*args)


def test_a_child_forked_while_a_thread_looks_keys_up_reads(store):
    def read(keys: Sequence[str]) -> None:
        with store.pieces(keys, BANDS):
            pass

    slow = SlowKey("p1", threading.Event())
    reader = threading.Thread(target=read, args=([slow],))
    reader.start()
    assert slow.begun.wait(60)
    threading.Timer(0.2, slow.go_on.set).start()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)
        try:
            read(["p2"])
            os._exit(0)
        finally:
            os._exit(1)
    reader.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_store_that_is_closed_while_it_is_read_stays_open_until_then(values, store):
    with store.pieces(["p1"], BANDS) as pieces:
        store.close()
        out = np.zeros((1, 3, SIDE, SIDE), np.float32)
        plan().fill(pieces, BANDS, out, np.zeros(1, np.int64))
    np.testing.assert_array_equal(out[0], by_hand(values["p1"]))


def test_a_shard_that_is_written_again_does_not_disturb_its_readers(values, store, tmp_path):
    before = filled(plan(), store, ["p1", "p2"])
    with store.pieces(["p1", "p2"], BANDS) as pieces:
        other = {key: encode({band: pixels + 1 for band, pixels in bands.items()}) for key, bands in values.items()}
        write_lmdb(tmp_path / "aside", list(other.items()))
        Path(tmp_path / "aside/data.mdb").replace(tmp_path / "db/data.mdb")
        out = np.zeros_like(before)
        plan().fill(pieces, BANDS, out, np.zeros(2, np.int64))
    np.testing.assert_array_equal(out, before)
    np.testing.assert_array_equal(filled(plan(), store, ["p1", "p2"]), before)  # until it is opened again
    store.close()
    assert (filled(plan(), LmdbStore(tmp_path / "db"), ["p1", "p2"]) != before).any()
