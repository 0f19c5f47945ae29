"""Corrections on a Dask cluster: on workers that say they have the memory, no more at a time than they bear."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import wait
from pathlib import Path

import pytest
from conftest import SENSING, TILE, random_bands, write_recipe

from rsdata import steps
from rsdata.flows.correct_scenes import _executor
from rsdata.recipe import Sen2cor
from rsdata.scenes import open_sentinel2
from rsdata.testing import write_l1c_safe, write_stand_in
from rsdata.workspace import Workspace

distributed = pytest.importorskip("distributed")
ROOM_FOR_ONE = 9 * 2**30


@pytest.fixture(scope="module")
def cluster():
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=3, processes=True, dashboard_address=None, resources={"memory": ROOM_FOR_ONE}
    ) as running:
        yield running.scheduler_address


def write_l1c(folder: Path, day: int) -> Path:
    bands = random_bands(seed=day)
    bands["B10"] = bands["B01"]
    return write_l1c_safe(folder, tile=TILE, sensing=SENSING.replace(day=day), bands=bands)


def most_at_a_time(running: Callable[[], int], done: Callable[[], bool], limit_s: float = 60) -> int:
    most, end = 0, time.monotonic() + limit_s
    while not done() and time.monotonic() < end:
        most = max(most, running())
        time.sleep(0.02)
    return most


def test_a_worker_corrects_as_many_scenes_at_a_time_as_its_memory_bears(cluster, tmp_path):
    sources = [write_l1c(tmp_path / "in", day) for day in (1, 2)]
    workspace = Workspace.create(tmp_path / "out")
    options = Sen2cor(program=str(write_stand_in(tmp_path / "L2A_Process", "correct", seconds=0.3)), retries=0)
    with _executor(2, cluster) as pool:
        futures = [pool.submit(steps.correct_scene, source, options, workspace) for source in sources]
        scratch = lambda: sum(path.is_dir() for path in workspace.scratch.glob("*"))  # noqa: E731
        assert most_at_a_time(scratch, lambda: all(future.done() for future in futures)) == 1
        wait(futures, timeout=1)
        made = [workspace.root / steps.correction_of(future.result().receipt, workspace).folder for future in futures]
    assert [open_sentinel2(path).scene.level for path in made] == ["L2A"] * 2


def test_a_build_with_dask_corrects_on_the_cluster(cluster, tmp_path):
    write_l1c(tmp_path / "in", 4)
    program = write_stand_in(tmp_path / "L2A_Process", "correct")
    recipe = write_recipe(
        tmp_path,
        {
            "name": "far",
            "scenes": {"sentinel2": ["in/*.SAFE"], "require_s1": False},
            "sen2cor": {"program": str(program), "retries": 0},
            "labels": {"path": "none.gpkg"},
        },
    )
    line = [sys.executable, "-m", "rsdata", "build", str(recipe), "--only", "correct", "--only", "scenes", "--dask", cluster]
    environment = os.environ | {"PREFECT_HOME": str(tmp_path / "prefect"), "CI": "true"}
    done = subprocess.run(
        [*line, "--out", str(tmp_path / "out")], capture_output=True, text=True, env=environment, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    (made,) = (tmp_path / "out" / "corrected").glob("S2A_MSIL2A_*.SAFE")
    assert open_sentinel2(made).scene.level == "L2A"
