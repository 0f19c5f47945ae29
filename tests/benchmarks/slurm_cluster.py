"""Start a SLURM of one node on the loopback, and build on it by docs/deploy/slurm.py: undisturbed, losing a job, and stopped half way.

    python tests/benchmarks/slurm_cluster.py

Keys, settings, state and logs of the SLURM lie in a folder that is removed, and its programs end with this one. The node says of
itself that it has more cores and memory than it has, so that two jobs fit. A line for each check; exits 1 if one fails.
"""

import getpass
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from distributed import Client
from distributed.security import Security

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import SMALL, comes, write_recipe
from killing import content, differing, environment, left_after

SCRIPT = Path(__file__).parents[2] / "docs" / "deploy" / "slurm.py"
RECIPE = {
    "name": "on-slurm",
    "synthetic": SMALL["synthetic"]
    | {"dates": ["2023-04-18T10:00:31Z", "2023-05-03T10:00:31Z", "2023-06-12T10:00:31Z"], "raster_px": [960, 2640], "cell_m": 400},
}
DAEMONS = ("munged", "slurmctld", "slurmd")
SOONER = {"DASK_DISTRIBUTED__DEPLOY__LOST_WORKER_TIMEOUT": "1s"}  # after which Dask believes that a job is gone; 15 s by default
SETTINGS = """\
ClusterName=rsdata
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SlurmdParameters=config_overrides
KillWait=10
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=64000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class CheckFailed(Exception):
    """What was looked for did not come."""


def check(holds: object, said: str) -> None:
    """Say that something holds. Raises: CheckFailed if it does not."""
    if not holds:
        raise CheckFailed(said)
    print(f"ok: {said}", flush=True)


# --- a SLURM ------------------------------------------------------------------------------------------------


def program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin")


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def processes_with(settings: Path) -> list[psutil.Process]:
    """Every process that was started with these settings of a SLURM: its own, and those of its jobs, but not this one."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            # Read as it is: where a step of SLURM writes its title, psutil sees no variables.
            variables = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
            counts = process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE
            if f"SLURM_CONF={settings}".encode() in variables and counts:
                found.append(process)
    return found


@contextmanager
def slurm(folder: Path) -> Iterator[None]:
    """A SLURM of one node, this machine, for as long as the block lasts. Raises: CheckFailed if the node does not become idle."""
    host = socket.gethostname().split(".")[0]
    for name in ("state", "spool"):
        (folder / name).mkdir()
    settings = folder / "slurm.conf"
    settings.write_text(SETTINGS.format(host=host, user=getpass.getuser(), folder=folder, ports=free_ports(2)))
    key = folder / "munge.key"
    key.touch(0o600)
    key.write_bytes(os.urandom(128))
    os.environ["SLURM_CONF"] = str(settings)
    own = [f"--{name}-file={folder / name}" for name in ("pid", "log", "seed")]
    commands = {
        # --force, as others cannot see into the folder
        "munged": ["--foreground", "--force", f"--key-file={key}", f"--socket={folder / 'munge.socket'}", *own],
        "slurmctld": ["-D"],
        "slurmd": ["-D"],
    }
    started: list[subprocess.Popen[bytes]] = []
    try:
        for name, options in commands.items():
            with (folder / f"{name}.log").open("wb") as log:
                started.append(subprocess.Popen([program(name) or name, *options], stdout=log, stderr=log, start_new_session=True))
            if name == "munged" and not comes((folder / "munge.socket").exists, 10):
                break
        if not comes(lambda: said_by("sinfo", "--noheader", "--format=%T") == "idle", 60):
            logs = [f"{path.stem}: {path.read_text()[-1000:]}" for path in sorted(folder.glob("*.log"))]
            raise CheckFailed("the node of this SLURM is idle; its programs say:\n" + "\n".join(logs))
        yield
    finally:
        for process in reversed(started):
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(15)
        for each in (left := processes_with(settings)):  # of jobs, if a check failed
            with suppress(psutil.Error):
                each.kill()
        psutil.wait_procs(left, 10)


def said_by(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout.strip()


def jobs(*states: str) -> list[str]:
    """Numbers of jobs, of those in some states or of all that are not over."""
    only = [f"--states={','.join(states)}"] if states else []
    return said_by("squeue", "--noheader", "--format=%i", *only).split()


# --- builds on it -------------------------------------------------------------------------------------------


class Build:
    """docs/deploy/slurm.py with two jobs, at work on one dataset."""

    def __init__(self, recipe: Path, root: Path, home: Path, *more: str) -> None:
        self.root, self.log = root, root.parent / f"{root.name}.txt"
        command = [sys.executable, str(SCRIPT), str(recipe), str(root), "--jobs", "2", "--interface", "lo", *more]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment(home) | SOONER, start_new_session=True)

    def __enter__(self) -> "Build":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)

    def end(self, seconds: float = 600) -> int:
        """Exit code. Raises: TimeoutExpired if it does not end in time."""
        return self.process.wait(seconds)

    def done(self, stage: str) -> int:
        return len(list(self.root.glob(f"receipts/{stage}/*.json")))

    def comes_to(self, stage: str) -> bool:
        """Whether the first scene has this stage behind it within ten minutes, and others have not."""
        comes(lambda: self.done(stage) or self.process.poll() is not None, 600)
        return 0 < self.done(stage) < self.done("scenes") and self.process.poll() is None


def answers(address: str, security: Security | None) -> bool:
    """Whether a Dask scheduler lets somebody in."""
    try:
        Client(address, security=security, timeout=5, set_as_default=False).close()
    except OSError:
        return False
    return True


def skipped(root: Path) -> int:
    """Units that the last run found finished."""
    events = [json.loads(line)["event"] for line in (root / "build" / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    last = len(events) - events[::-1].index("begin")
    return events[last:].count("skipped")


def check_all(folder: Path, recipe: Path, home: Path) -> None:
    rsdata = [sys.executable, "-m", "rsdata"]
    local = folder / "local"
    subprocess.run(
        [*rsdata, "build", str(recipe), "--out", str(local), "--workers", "1"],
        env=environment(home), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=900,
    )  # fmt: skip
    expected = content(local)

    def is_whole(root: Path, exit_code: int, what: str) -> None:
        verified = subprocess.run([*rsdata, "verify", str(root)], capture_output=True, env=environment(home), check=False).returncode
        found = differing(content(root), expected)
        check(
            (exit_code, verified, found) == (0, 0, []),
            f"{what}: build exited with {exit_code} and `rsdata verify` with {verified}, {len(found)} of {len(expected)} files differ "
            f"from those of one worker without SLURM{'; ' if found else ''}{', '.join(found[:5])}",
        )
        check(comes(lambda: not jobs(), 30), f"{what}: no job is left")

    with Build(recipe, folder / "refused", home, "--queue", "nowhere") as build:
        code = build.end(120)
        check(code == 1 and "nvalid partition" in build.log.read_text(), f"a partition that does not exist: exited with {code}, saying so")

    with Build(recipe, folder / "undisturbed", home) as build:
        check(comes(lambda: len(jobs("RUNNING")) == 2, 120), f"undisturbed: jobs {' and '.join(jobs('RUNNING'))} run")
        (address,) = set(re.findall(r"dask_worker (tls://\S+)", build.log.read_text()))
        let_in = answers(address, Security.temporary()) or answers(address.replace("tls", "tcp"), None)
        check(
            not let_in and build.process.poll() is None, f"undisturbed: the scheduler at {address} turns away who has another key, or none"
        )
        is_whole(build.root, build.end(), "undisturbed")
        keys = list(folder.glob(".dask-*"))
        check(not keys, f"undisturbed: {len(keys)} keys are left")

    with Build(recipe, folder / "cancelled", home) as build:
        check(build.comes_to("quality"), f"one job lost: {build.done('quality')} of {build.done('scenes')} scenes are done")
        before = jobs()
        subprocess.run(["scancel", before[0]], check=True)
        replaced = comes(lambda: set(jobs("RUNNING")) - set(before) or build.process.poll() is not None, 120)
        after = sorted(set(jobs()) - set(before))
        check(replaced and after, f"one job lost: {before[0]} was cancelled, and {' '.join(after)} took its place")
        is_whole(build.root, build.end(), "one job lost")

    with Build(recipe, folder / "stopped", home) as build:
        check(build.comes_to("quality"), f"stopped: {build.done('quality')} of {build.done('scenes')} scenes are done")
        began = time.monotonic()
        build.process.terminate()
        code = build.end(60)
        check(code == 128 + signal.SIGTERM, f"stopped: exited with {code} {time.monotonic() - began:.0f} s after SIGTERM")
        check(comes(lambda: not jobs(), 30), "stopped: no job is left")
    with Build(recipe, folder / "stopped", home) as build:
        code = build.end()
        check(skipped(build.root), f"the same line again: {skipped(build.root)} units were finished before")
        is_whole(build.root, code, "the same line again")
    left = left_after(home)
    check(not left, f"{len(left)} processes of builds and jobs are left{''.join(f'; {line}' for line in left)}")


def main() -> int:
    if missing := [name for name in (*DAEMONS, "sbatch") if program(name) is None]:
        print(f"not found: {', '.join(missing)}; install the Debian packages slurm-wlm and munge, and repeat the command")
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # and all that was started ends first
    with TemporaryDirectory(prefix="rsdata-slurm-") as name:
        folder = Path(name)
        own = folder / "slurm-own"
        own.mkdir()
        try:
            with slurm(own):
                check(True, f"{said_by('sinfo', '--version')} runs")
                check_all(folder, write_recipe(folder, RECIPE), folder / "prefect")
        except (CheckFailed, subprocess.SubprocessError) as error:
            print(f"FAILED: {error}")
            for log in sorted(folder.glob("*.txt")):
                print(f"--- {log.name}\n{log.read_text()[-2000:]}")
            return 1
        left = processes_with(own / "slurm.conf")
    print(f"{'FAILED' if left else 'ok'}: {len(left)} processes of the SLURM are left")
    return bool(left)


if __name__ == "__main__":
    sys.exit(main())
