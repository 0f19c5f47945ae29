"""Make the image of docs/deploy/Dockerfile, start docs/deploy/docker-compose.yml, and build on it: undisturbed, and stopped half way.

    python tests/benchmarks/compose.py [--image-is-there]

Needs a Docker that runs, with Compose 2. The containers work for a user without a name, and end with this program, as does their network;
the image stays. A line for each check; exits 1 if one fails.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import write_recipe
from killing import content, differing, environment
from slurm_cluster import RECIPE, CheckFailed, check, comes, said_by, skipped

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "docs" / "deploy"
PROJECT = f"rsdata-check-{os.getpid()}"
USER, GROUP = (os.getuid(), os.getgid()) if os.getuid() else (1000, 1000)


class Cluster:
    """A copy of the compose file beside a folder of data."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.dataset = folder, folder / "data" / "dataset"
        (folder / "data").mkdir(parents=True)
        shutil.copy(DEPLOY / "docker-compose.yml", folder)
        write_recipe(folder / "data", RECIPE | {"name": "on-compose"})
        shutil.chown(folder / "data", USER, GROUP)

    def compose(self, *command: str, seconds: float = 900) -> int:
        """Exit code of `docker compose`, which says what it says into a file. Raises: TimeoutExpired."""
        with (self.folder / "compose.txt").open("ab") as log:
            return subprocess.run(
                ["docker", "compose", "-p", PROJECT, *command],
                cwd=self.folder, env=os.environ | {"RSDATA_USER": f"{USER}:{GROUP}"}, stdout=log, stderr=log, check=False, timeout=seconds,
            ).returncode  # fmt: skip

    def containers(self, service: str, state: str = "running") -> list[str]:
        labels = (f"project={PROJECT}", f"service={service}")
        filters = [f"--filter=label=com.docker.compose.{label}" for label in labels]
        return said_by("docker", "ps", "--all", "--quiet", f"--filter=status={state}", *filters).split()

    def done(self, stage: str) -> int:
        return len(list(self.dataset.glob(f"receipts/{stage}/*.json")))

    def is_whole(self, exit_code: int, expected: dict[str, str], what: str) -> None:
        verified = self.compose("run", "--rm", "-T", "build", "rsdata", "verify", "dataset")
        found = differing(content(self.dataset), expected)
        check(
            (exit_code, verified, found) == (0, 0, []),
            f"{what}: build exited with {exit_code} and `rsdata verify` with {verified}, {len(found)} of {len(expected)} files differ "
            f"from those of one worker without containers{'; ' if found else ''}{', '.join(found[:5])}",
        )


def check_all(folder: Path) -> None:
    cluster = Cluster(folder / "cluster")
    local = folder / "local"
    try:
        began = time.monotonic()
        code = cluster.compose("up", "--detach", "scheduler", "worker", seconds=120)
        workers = cluster.containers("worker")
        taken = time.monotonic() - began
        check(code == 0 and len(workers) == 2, f"`up` exited with {code} after {taken:.0f} s; {len(workers)} workers run")

        began = time.monotonic()
        code = cluster.compose("run", "--rm", "-T", "build")
        taken = time.monotonic() - began
        subprocess.run(
            [sys.executable, "-m", "rsdata", "build", str(cluster.folder / "data" / "recipe.yaml"), "--out", str(local), "--workers", "1"],
            env=environment(folder / "prefect"), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=900,
        )  # fmt: skip
        expected = content(local)
        cluster.is_whole(code, expected, f"undisturbed, {taken:.0f} s")
        check(cluster.containers("worker") == workers, "undisturbed: the same two workers run as before")
        owners = {(path.stat().st_uid, path.stat().st_gid) for path in cluster.dataset.rglob("*")}
        check(owners == {(USER, GROUP)}, f"undisturbed: all that was written is of user and group {owners}")

        cluster.dataset.rename(cluster.dataset.with_name("undisturbed"))
        cluster.compose("run", "--detach", "-T", "build")
        builds = cluster.containers("build")
        check(len(builds) == 1, f"stopped: {len(builds)} build runs")
        comes(lambda: cluster.done("quality") or not cluster.containers("build"), 300)
        done, of = cluster.done("quality"), cluster.done("scenes")
        check(0 < done < of, f"stopped: {done} of {of} scenes are done")
        said_by("docker", "kill", workers[0])
        began = time.monotonic()
        said_by("docker", "stop", "--time", "60", builds[0])
        code = int(said_by("docker", "inspect", "--format={{.State.ExitCode}}", builds[0]))
        check(code == 128 + signal.SIGTERM, f"stopped: exited with {code} after {time.monotonic() - began:.0f} s, one worker killed")
        code = cluster.compose("run", "--rm", "-T", "build")
        check(skipped(cluster.dataset), f"the same line again: {skipped(cluster.dataset)} units were finished before")
        cluster.is_whole(code, expected, "the same line again")
        check(len(cluster.containers("worker")) == 2, "the same line again: the killed worker was started, too")
    except (CheckFailed, subprocess.SubprocessError):
        cluster.compose("logs", "--tail", "20")
        print(f"---\n{(cluster.folder / 'compose.txt').read_text()[-4000:]}")
        raise
    finally:
        began = time.monotonic()
        code = cluster.compose("down", "--remove-orphans", seconds=120)
        taken = time.monotonic() - began
    label = f"--filter=label=com.docker.compose.project={PROJECT}"
    left = [*said_by("docker", "ps", "--all", "--quiet", label).split(), *said_by("docker", "network", "ls", "--quiet", label).split()]
    check(code == 0 and not left, f"`down` exited with {code} after {taken:.0f} s; {len(left)} containers and networks are left")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--image-is-there", action="store_true", help="do not make the image `rsdata`")
    arguments = parser.parse_args()
    if shutil.which("docker") is None or not said_by("docker", "version", "--format={{.Server.Version}}"):
        print("no Docker runs here; install Docker with Compose 2, start it, and repeat the command")
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # and all that was started ends first
    with TemporaryDirectory(prefix="rsdata-compose-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # so that the containers' user can enter
        try:
            versions = said_by("docker", "version", "--format={{.Server.Version}}"), said_by("docker", "compose", "version", "--short")
            check(versions[1], "Docker {}, Compose {}".format(*versions))
            if not arguments.image_is_there:
                subprocess.run(["docker", "build", "-f", DEPLOY / "Dockerfile", "-t", "rsdata", ROOT], check=True, timeout=3600)
            size = said_by("docker", "image", "inspect", "--format={{.Size}}", "rsdata")
            check(size, f"the image has {int(size or 0) / 1e9:.1f} GB")
            check_all(folder)
        except (CheckFailed, subprocess.SubprocessError) as error:
            print(f"FAILED: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
