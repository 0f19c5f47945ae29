"""A Dask cluster of SLURM jobs, and a build on it; run it on a login node, or as a job of its own.

    pip install rsdata dask-jobqueue
    python slurm.py recipe.yaml /shared/dataset --jobs 10

Every job is one worker. The dataset's folder lies on a file system that all nodes see. What a job had under way when it ended, at its
time limit or otherwise, is done by another, and a new job is asked for in its place. If no job runs for two minutes the build ends. After
that, or when it was stopped, by Ctrl-C or SIGTERM, the same line goes on from there; no job stays behind.

Whoever may talk to a Dask scheduler may run programs as its owner, so this one talks to those alone who hold a key that lies in a
folder of yours beside the dataset as long as it runs.
"""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from dask_jobqueue import SLURMCluster
from distributed.security import Security

LOOK_S = 10.0  # between looks for jobs that ended


@contextmanager
def keys(folder: Path) -> Iterator[tuple[Security, dict[str, str]]]:
    """A key that only this user can read and that goes at the end: for the cluster, and as variables for a program that calls it."""
    made = Security.temporary()
    with TemporaryDirectory(prefix=".dask-", dir=folder) as name:
        cert, key = Path(name) / "cert.pem", Path(name) / "key.pem"
        cert.write_text(made.tls_client_cert)
        key.write_text(made.tls_client_key)
        pairs = {
            f"tls_{role}_{kind}": str(path) for role in ("scheduler", "worker", "client") for kind, path in (("cert", cert), ("key", key))
        }
        called = {"CA_FILE": cert, "CLIENT__CERT": cert, "CLIENT__KEY": key}
        yield (
            Security(require_encryption=True, tls_ca_file=str(cert), **pairs),
            {f"DASK_DISTRIBUTED__COMM__TLS__{each}": str(path) for each, path in called.items()},
        )


def make_cluster(
    folder: Path,
    queue: str | None = None,
    account: str | None = None,
    hours: int = 12,
    interface: str | None = None,
    security: Security | None = None,
) -> SLURMCluster:
    """Jobs of two cores and 13 GB: room for two scenes of a full tile at a time, as Dask pauses a worker at four fifths."""
    return SLURMCluster(
        queue=queue,
        account=account,
        interface=interface,
        security=security,
        cores=2,
        processes=1,
        memory="13GB",
        walltime=f"{hours:02}:00:00",
        log_directory=str(folder / "slurm"),
        local_directory="/tmp",
        # A worker ends before SLURM ends its job, so that the scheduler need not find out by itself.
        worker_extra_args=["--no-dashboard", "--lifetime", f"{hours * 60 - 10}m", "--lifetime-stagger", "5m"],
        scheduler_options={"dashboard": False, "dashboard_address": ":0"},  # 8787 is often taken where many log in
    )


def end(number: int, frame: object) -> None:
    """End in good order, and let no second signal come between."""
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--queue")
    parser.add_argument("--account")
    parser.add_argument("--hours", type=int, default=12, help="time limit of a job")
    parser.add_argument("--interface", help="network that this machine and the nodes share, such as ib0")
    asked = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    folder = asked.out.absolute().parent
    folder.mkdir(parents=True, exist_ok=True)
    with (
        keys(folder) as (security, variables),
        make_cluster(folder, asked.queue, asked.account, asked.hours, asked.interface, security) as cluster,
    ):
        script = cluster.job_script()
        print(script, flush=True)
        # Dask would wait without end for workers of jobs that SLURM refuses.
        if subprocess.run(["sbatch", "--test-only"], input=script, text=True, check=False).returncode:
            return 1
        cluster.scale(jobs=asked.jobs)
        cluster.wait_for_workers(1)
        command = [sys.executable, "-m", "rsdata", "build", str(asked.recipe), "--out", str(asked.out)]
        build = subprocess.Popen([*command, "--dask", cluster.scheduler_address], env=os.environ | variables)
        try:
            while True:
                try:
                    return build.wait(LOOK_S)
                except subprocess.TimeoutExpired:
                    cluster.scale(jobs=asked.jobs)  # asks for those anew that ended
        finally:
            build.terminate()
            build.wait()


if __name__ == "__main__":
    sys.exit(main())
