"""Start a Prefect server of one's own on the loopback, deploy a build by docs/deploy/prefect.yaml, and have a Prefect worker do it.

    python tests/benchmarks/deploy.py

Once with a server that keeps its books in SQLite, and once in PostgreSQL where its programs are installed (Debian: postgresql), in folders
that are removed. Exits 0 if each dataset is whole, as `rsdata verify` says.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlopen

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import SMALL

DEPLOY = Path(__file__).parents[2] / "docs" / "deploy"
RECIPE = {"name": "tiny", "synthetic": SMALL["synthetic"] | {"tiles": ["33UUP"]}}


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


@contextmanager
def postgresql(programs: Path) -> Iterator[str]:
    """A PostgreSQL on the loopback; the address of its database. Root starts it as the user that Debian made for it."""
    as_user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    with TemporaryDirectory() as scratch:
        if as_user:
            shutil.chown(scratch, "postgres")
        data, port = str(Path(scratch) / "data"), free_port()

        def run(program: str, *options: str) -> None:
            subprocess.run([*as_user, str(programs / program), "-D", data, *options], check=True, stdout=subprocess.DEVNULL, cwd=scratch)

        run("initdb", "--username", "prefect", "--auth", "trust")
        run("pg_ctl", "-w", "-l", f"{scratch}/log", "-o", f"-p {port} -c listen_addresses=127.0.0.1 -k {scratch}", "start")
        try:
            yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-m", "immediate", "stop")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def build(database: str | None) -> int:
    """Build a dataset through a server that keeps its books in a database, or in SQLite."""
    prefect, rsdata = (str(Path(sys.executable).with_name(name)) for name in ("prefect", "rsdata"))
    port = free_port()
    with TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        api = f"http://127.0.0.1:{port}/api"
        environment = os.environ | {
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_API_URL": api,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "CI": "true",
        }
        if database:
            environment["PREFECT_API_DATABASE_CONNECTION_URL"] = database

        def run(*command: str) -> None:
            print("$", " ".join(command), flush=True)
            subprocess.run(command, check=True, env=environment, cwd=folder)

        def start(name: str, *command: str) -> None:
            log = stack.enter_context((folder / f"{name}.log").open("wb"))
            stack.callback(stop, subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder))

        (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
        shutil.copy(DEPLOY / "prefect.yaml", folder)
        start("server", prefect, "server", "start", "--host", "127.0.0.1", "--port", str(port))
        for left in reversed(range(600)):
            try:
                with urlopen(f"{api}/health", timeout=2):
                    break
            except OSError:
                if not left:
                    print((folder / "server.log").read_text()[-2000:])
                    raise
                time.sleep(0.5)
        run(prefect, "work-pool", "create", "rsdata", "--type", "process")
        run(prefect, "--no-prompt", "deploy", "--all", "--prefect-file", "prefect.yaml")
        start("worker", prefect, "worker", "start", "--pool", "rsdata")
        dataset = folder / "dataset"
        asked = ["-p", f"recipe_path={folder / 'recipe.yaml'}", "-p", f"root={dataset}"]
        try:
            run(prefect, "deployment", "run", "build-dataset/local", *asked, "--watch", "--watch-timeout", "540")
            run(rsdata, "verify", str(dataset))
        except subprocess.CalledProcessError as error:
            print((folder / "worker.log").read_text()[-4000:])
            print(f"FAILED: {error}")
            return 1
        print(f"ok: {RECIPE['name']} was built by a deployment, with {'PostgreSQL' if database else 'SQLite'}\n", flush=True)
    return 0


def main() -> int:
    failed = build(None)
    known = shutil.which("pg_ctl")
    found = [Path(known)] if known else sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not found:
        print("PostgreSQL is not installed; only SQLite was tried")
        return failed
    with postgresql(found[-1].parent) as database:
        return failed + build(database)


if __name__ == "__main__":
    sys.exit(main())
