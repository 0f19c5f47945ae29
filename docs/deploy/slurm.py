"""A Dask cluster of SLURM jobs, and a build on it; run it on a login node, or as a job of its own.

    pip install rsdata dask-jobqueue
    python slurm.py recipe.yaml /shared/dataset --jobs 10

Every job is one worker. The dataset's folder lies on a file system that all nodes see. When a job ends at its time limit,
what it had under way is done by another; when the build is stopped, the same line goes on from there.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from dask_jobqueue import SLURMCluster


def make_cluster(folder: Path, queue: str | None = None, account: str | None = None, hours: int = 12) -> SLURMCluster:
    """Jobs of two cores and 13 GB: room for two scenes of a full tile at a time, as Dask pauses a worker at four fifths."""
    return SLURMCluster(
        queue=queue,
        account=account,
        cores=2,
        processes=1,
        memory="13GB",
        walltime=f"{hours:02}:00:00",
        log_directory=str(folder / "slurm"),
        local_directory="/tmp",
        # A worker ends before SLURM ends its job, so that the scheduler need not find out by itself.
        worker_extra_args=["--lifetime", f"{hours * 60 - 10}m", "--lifetime-stagger", "5m"],
        scheduler_options={"dashboard_address": None},
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--queue")
    parser.add_argument("--account")
    asked = parser.parse_args()
    with make_cluster(asked.out.parent, asked.queue, asked.account) as cluster:
        print(cluster.job_script())
        cluster.scale(jobs=asked.jobs)
        cluster.wait_for_workers(1)
        command = ["rsdata", "build", str(asked.recipe), "--out", str(asked.out), "--dask", cluster.scheduler_address]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
