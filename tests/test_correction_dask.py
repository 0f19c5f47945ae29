"""Corrections on a Dask cluster: on workers that say they have the memory, no more at a time than they bear."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import SENSING, TILE, comes, random_bands, write_recipe
from test_sen2cor import alive

from rsdata import steps
from rsdata.errors import ClusterError, CorrectionError, WorkerDied
from rsdata.flows.correct_scenes import _work
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


def at_work(workspace: Workspace) -> int:
    """Products under way in a workspace."""
    return sum(path.is_dir() for path in workspace.scratch.glob("*"))


def test_a_worker_corrects_as_many_scenes_at_a_time_as_its_memory_bears(cluster, tmp_path):
    sources = [write_l1c(tmp_path / "in", day) for day in (1, 2)]
    workspace = Workspace.create(tmp_path / "out")
    options = Sen2cor(program=str(write_stand_in(tmp_path / "L2A_Process", "correct", seconds=0.3)), retries=0)
    seen: list[int] = []
    with _work(2, cluster, workspace, lambda event: None) as work, ThreadPoolExecutor(2) as threads:
        futures = [threads.submit(work.submit(steps.correct_scene, source, options, workspace).result) for source in sources]
        assert comes(lambda: seen.append(at_work(workspace)) or all(future.done() for future in futures))
        made = [workspace.root / steps.correction_of(future.result().receipt, workspace).folder for future in futures]
    assert max(seen) == 1
    assert [open_sentinel2(path).scene.level for path in made] == ["L2A"] * 2


def test_an_error_ends_what_workers_run_for_it_and_nothing_else(cluster, tmp_path, monkeypatch):
    """A program of another workspace runs on, beside on the same worker, which would bear only one if both asked the cluster."""
    hanging = Sen2cor(program=str(write_stand_in(tmp_path / "hang" / "L2A_Process", "hang", notes=tmp_path / "notes")), retries=5)
    slow = Sen2cor(program=str(write_stand_in(tmp_path / "slow" / "L2A_Process", "correct", seconds=3)), retries=0)
    source, mine, other = write_l1c(tmp_path / "in", 3), Workspace.create(tmp_path / "mine"), Workspace.create(tmp_path / "other")
    with distributed.Client(cluster, set_as_default=False) as client, ThreadPoolExecutor(2) as threads:
        with pytest.raises(KeyError), _work(1, cluster, mine, lambda event: None) as work:
            ended = threads.submit(work.submit(steps.correct_scene, source, hanging, mine).result)
            assert comes(lambda: len(list((tmp_path / "notes").glob("*"))) == 2)  # the program and its helper
            waits = threads.submit(work.submit(steps.correct_scene, source, hanging, mine).result)  # until the worker has room again
            beside = client.submit(steps.correct_scene, source, slow, other)
            assert comes(lambda: at_work(other) == 1)
            run = work.client.run
            # The worker has room again long before the flow is left, and may not be sent what waits.
            monkeypatch.setattr(work.client, "run", lambda *given, **named: (run(*given, **named), time.sleep(2))[0])
            raise KeyError
        with pytest.raises(CorrectionError, match="was stopped, as all that ran beside it"):
            ended.result(timeout=10)
        with pytest.raises(WorkerDied, match="the build was stopped"):
            waits.result(timeout=10)
        assert comes(lambda: not any(alive(int(path.name)) for path in (tmp_path / "notes").iterdir()))
        assert beside.result(timeout=30).receipt.counts["attempts"] == 1
    assert at_work(mine) == 0


def test_a_cluster_without_room_for_sen2cor_is_refused(tmp_path):
    workspace = Workspace.create(tmp_path)
    poor = {"n_workers": 1, "processes": False, "dashboard_address": None, "resources": {"memory": 1e9}}
    with (
        distributed.LocalCluster(**poor) as running,
        pytest.raises(ClusterError, match=r'none of 1 Dask worker offers the 8,589,934,592 bytes .*`--resources "memory=17179869184"`'),
        _work(1, running.scheduler_address, workspace, lambda event: None),
    ):
        pass


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
