"""The example deployments: what they say is what the programs they start understand."""

import importlib.util
import os
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from rsdata.commands import app

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "docs" / "deploy"


def commands_of(said: Any) -> list[list[str]]:
    """Every command of a compose file, or of the documents of a Kubernetes file."""
    if isinstance(said, list):
        return [command for each in said for command in commands_of(each)]
    if not isinstance(said, dict):
        return []
    own = [said[name] for name in ("command", "args") if isinstance(said.get(name), list)]
    return own + [command for value in said.values() for command in commands_of(value)]


def options_of(program: list[str]) -> set[str]:
    """The long options a program knows."""
    if program[0] == "rsdata":
        text = CliRunner().invoke(app, [*program[1:], "--help"]).output
    else:
        text = subprocess.run([Path(sys.executable).with_name(program[0]), *program[1:], "--help"], capture_output=True, text=True).stdout
    return set(re.findall(r"--[a-z][a-z-]*", text))


@pytest.mark.parametrize("name", ["docker-compose.yml", "kubernetes.yaml"])
def test_commands_of_a_deployment_use_options_that_their_programs_have(name):
    commands = commands_of(list(yaml.safe_load_all((DEPLOY / name).read_text(encoding="utf-8"))))
    assert {tuple(command[:2]) for command in commands} == {("dask", "scheduler"), ("dask", "worker"), ("rsdata", "build")}
    for command in commands:
        used = {part for part in command if part.startswith("--")}
        assert used <= options_of(command[:2]), command


def test_all_parts_of_a_compose_file_see_the_data_at_one_path():
    services = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    assert services["worker"]["volumes"] == services["build"]["volumes"] == ["./data:/data"]
    for service in services.values():
        assert service["user"] == "${RSDATA_USER:-0:0}"  # or some would write what others may not touch
        after = service.get("depends_on", [])
        assert set(after) <= set(services)


def test_the_build_of_a_compose_file_is_given_the_names_of_keys_without_values():
    build = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text(encoding="utf-8"))["services"]["build"]
    assert {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL"} <= set(build["environment"])
    assert all(re.fullmatch(r"AWS_[A-Z_]+", name) for name in build["environment"])  # NAME=${NAME:-} would set it to nothing


def test_the_image_is_made_of_what_rsdata_is_installed_from_and_can_train():
    lines = [line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    said = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    needed = {
        "pyproject.toml",
        said["project"]["readme"],
        *said["project"]["license-files"],
        *said["tool"]["setuptools"]["package-dir"].values(),
    }
    assert lines[0] == "*" and {line[1:] for line in lines if line.startswith("!")} == needed
    assert all((ROOT / name).exists() for name in needed)
    (extras,) = re.findall(r'"/src\[([a-z0-9,]+)\]"', (DEPLOY / "Dockerfile").read_text(encoding="utf-8"))
    assert "train" in extras.split(",") and set(extras.split(",")) <= set(said["project"]["optional-dependencies"])


def test_prefect_deployments_name_a_flow_that_can_be_loaded_and_parameters_it_has():
    from inspect import signature

    from prefect.flows import load_flow_from_entrypoint

    said = yaml.safe_load((DEPLOY / "prefect.yaml").read_text(encoding="utf-8"))
    assert [each["name"] for each in said["deployments"]] == ["local", "dask"]
    for each in said["deployments"]:
        flow = load_flow_from_entrypoint(each["entrypoint"])
        assert flow.name == "build-dataset"
        assert set(each["parameters"]) <= set(signature(flow.fn).parameters)


@pytest.fixture
def slurm_example() -> ModuleType:
    pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed; it comes with the extra `dev`")
    spec = importlib.util.spec_from_file_location("slurm_example", DEPLOY / "slurm.py")
    assert spec is not None and spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    return example


def test_the_slurm_recipe_writes_a_job_script_for_a_worker_with_its_memory_and_its_key(slurm_example, tmp_path):
    with (
        slurm_example.keys(tmp_path) as (security, variables),
        slurm_example.make_cluster(tmp_path, queue="short", hours=2, security=security) as cluster,
    ):
        script = cluster.job_script()
        key = Path(variables["DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY"])
        assert f"--tls-key {key}" in script
        assert "PRIVATE KEY" in key.read_text() and key.parent.stat().st_mode & 0o077 == 0  # nobody else enters the folder
    assert not key.exists()
    assert script.startswith("#!")
    for line in ("#SBATCH -p short", "#SBATCH --cpus-per-task=2", "#SBATCH --mem=13G", "#SBATCH -t 02:00:00"):
        assert line in script
    assert re.search(r"distributed\.cli\.dask_worker tls://\S+ .*--nthreads 2 .*--memory-limit 12\.11GiB .*--lifetime 110m", script), script


@pytest.mark.parametrize(("accepts", "code", "cancelled"), [(False, 1, ""), (True, 143, "4711\n")])
def test_the_slurm_recipe_ends_where_its_jobs_are_refused_and_takes_back_those_that_wait(slurm_example, tmp_path, accepts, code, cancelled):
    programs = {
        "sbatch": f'case "$1" in --test-only) exit {0 if accepts else 1};; esac\necho Submitted batch job 4711\ntouch {tmp_path}/submitted',
        "scancel": f"echo $1 >> {tmp_path}/cancelled",
    }
    for name, lines in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{lines}\n")
        (tmp_path / name).chmod(0o755)
    command = [sys.executable, slurm_example.__file__, "recipe.yaml", tmp_path / "dataset", "--jobs", "1"]
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    (tmp_path / "cancelled").touch()
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        for _ in range(1200):
            if (tmp_path / "submitted").exists() or running.poll() is not None:
                break
            time.sleep(0.1)
        time.sleep(0.5)  # by when it waits for a worker, which never comes
        running.terminate()
        assert running.wait(60) == code
    assert (tmp_path / "cancelled").read_text() == cancelled
