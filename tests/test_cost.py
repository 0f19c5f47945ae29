"""The cost model: its arithmetic by hand, its bytes against what a build writes, and the page that shows it."""

from pathlib import Path

import pytest
from benchmarks.cost import PLANS, Plan, cost, in_bytes, in_hours, lmdb_bytes_per_patch, tables, zarr_bytes_per_patch

from rsdata import steps

ROOT = Path(__file__).parents[1]


def test_core_hours_and_wall_time_are_those_of_a_calculation_by_hand():
    # One scene with GRD takes 120.5 + 3.1 + 2 x 28.2 = 180 core seconds. 7157 patches take 26.4 s of captions, which are
    # shared, and 15.2 s in one process: 36 scenes with 7157 patches kept of them all, 36 x 180 + 26.4 = 6506.4 s and 15.2 s.
    found = cost(Plan("by hand", scenes=36, kept=7157))
    assert found.parallel_h * 3600 == pytest.approx(6506.4)
    assert found.serial_h * 3600 == pytest.approx(15.2)
    assert found.core_h * 3600 == pytest.approx(6521.6)
    assert found.wall_h(1) * 3600 == pytest.approx(6521.6)
    assert found.wall_h(12) * 3600 == pytest.approx(6506.4 / 12 + 15.2)
    assert cost(Plan("by hand", 36, 7157, grd=False)).parallel_h * 3600 == pytest.approx(36 * 123.6 + 26.4)


def test_bytes_are_those_of_a_calculation_by_hand():
    # S2: 4 x 120 x 120 x 2 + 6 x 60 x 60 x 2 + 2 x 20 x 20 x 2 = 160,000; S1: 2 x 120 x 120 x 4 = 115,200; map: 28,800.
    assert zarr_bytes_per_patch() == 304_000 + 80
    assert lmdb_bytes_per_patch() == (40 + 29 + 8) * 4096  # pages for 161,024, 115,400 and 28,900 bytes
    assert zarr_bytes_per_patch(blosc=True) == pytest.approx(160_000 * 0.675 + 115_200 * 0.886 + 28_800 * 0.05 + 80)
    assert cost(Plan("by hand", 2, 10)).lmdb_bytes == 10 * 77 * 4096
    assert cost(Plan("by hand", 2, 10)).input_bytes == 2 * 1.35e9


def test_a_shard_takes_the_bytes_the_model_says(built, tmp_path):
    kept = steps.verify_dataset(built)[0].counts["kept"]
    assert (built.shards("lmdb") / "data.mdb").stat().st_size == pytest.approx(kept * lmdb_bytes_per_patch(), rel=0.02)
    steps.repack_shards([built.shards("lmdb")], tmp_path / "zarr", format="zarr", compression="none")
    pixels = sum(path.stat().st_size for path in (tmp_path / "zarr").glob("*/pixels/c/**/0") if path.is_file())
    assert pixels == pytest.approx(kept * zarr_bytes_per_patch(), rel=0.02)


def test_the_page_shows_what_the_model_gives():
    assert tables((2, 100, 1000)) in (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    assert [(plan.scenes, plan.kept) for plan in PLANS] == [
        (115, 549_488),
        (73_000, int(73_000 * 8281 * 0.4)),
        (1_314_000, int(1_314_000 * 8281 * 0.4)),
    ]


def test_times_and_sizes_are_written_in_units_people_read():
    assert [in_hours(hours) for hours in (2.94, 49, 24 * 900)] == ["2.9 h", "2 days", "2.5 years"]
    assert [in_bytes(size) for size in (1.5e9, 2.25e12, 3e15)] == ["1.5 GB", "2.25 TB", "3.00 PB"]
