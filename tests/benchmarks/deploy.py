"""Start a Prefect server of one's own on the loopback, deploy a build by docs/deploy/prefect.yaml, and have a Prefect worker do it.

    python tests/benchmarks/deploy.py

The server keeps its books in SQLite in a folder that is removed. Exits 0 if the dataset is whole, as `rsdata verify` says.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
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


def main() -> int:
    prefect, rsdata = (str(Path(sys.executable).with_name(name)) for name in ("prefect", "rsdata"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
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
        print(f"ok: {RECIPE['name']} was built by a deployment")
    return 0


if __name__ == "__main__":
    sys.exit(main())
