"""No command reaches for a network unless it says so, and no key of the environment is ever written or shown.

Commands run in a network namespace that has loopback alone, under strace, with everything that they start. `make check-network` adds
those that take longer.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml
from conftest import SMALL
from without_network import foreign_calls

FULL = os.environ.get("RSDATA_NETWORK") == "full"
DRIVER = Path(__file__).with_name("without_network.py")
PYTHON = [sys.executable, "-P"]
RSDATA = [*PYTHON, "-m", "rsdata"]
KEYS = {
    name: f"planted-{name.lower()}-7f3a91"
    for name in (
        "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "HF_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
        "CDSE_USERNAME", "CDSE_PASSWORD", "CDSE_TOKEN", "CDSE_S3_ACCESS_KEY", "CDSE_S3_SECRET", "PREFECT_API_KEY",
    )
}  # fmt: skip
RECIPE = {
    "name": "alone",
    "synthetic": SMALL["synthetic"] | {"tiles": ["33UUP"], "raster_px": [360, 360], "offset_px": [4800, 4800], "clouds": 0},
    "split": {"strategy": "random"},
    "captions": {"engine": "llm", "llm": {"base_url": "{chat}", "model": "good", "api_key_env": "OPENAI_API_KEY"}},
}
STAGES = ("scenes", "patches", "labels", "quality", "splits", "captions", "shards", "catalog")


def in_vain(*command: str) -> bool:
    """Whether a command cannot be run here."""
    return shutil.which(command[0]) is None or subprocess.run(command, capture_output=True, check=False).returncode != 0


def cannot(reason: str) -> NoReturn:
    """Skip; but who asked for the whole of these tests is not told that all is well."""
    pytest.fail(reason) if FULL else pytest.skip(reason)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory):
    """Run commands one after the other without a network; return what became of each."""
    if in_vain("unshare", "--map-root-user", "--net", "true"):
        cannot("network namespaces are not permitted here (unshare --map-root-user --net)")
    if in_vain("unshare", "--map-root-user", "--net", "strace", "-f", "--seccomp-bpf", "-o", "/dev/null", "true"):
        cannot("strace is not there or not permitted here")

    def run(commands: list[list[str]], **plan: Any) -> list[dict[str, Any]]:
        folder = tmp_path_factory.mktemp("alone")
        (folder / "prefect").mkdir()
        (folder / "plan.json").write_text(json.dumps({"commands": commands, **plan}))
        kept = {name: value for name, value in os.environ.items() if not name.endswith(("_proxy", "_PROXY"))}
        environment = kept | KEYS | {"PREFECT_HOME": str(folder / "prefect"), "CI": "true"}
        command = ["unshare", "--map-root-user", "--net", *PYTHON, str(DRIVER), str(folder / "plan.json"), str(folder / "outcome.json")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=3000)
        assert done.returncode == 0, done.stderr
        return json.loads((folder / "outcome.json").read_text())

    return run


@pytest.fixture(scope="module")
def built_alone(alone, tmp_path_factory) -> tuple[Path, list[dict[str, Any]]]:
    """A dataset whose captions a model on loopback wrote, and what was said while it was built and looked at."""
    folder = tmp_path_factory.mktemp("built-alone")
    recipe, root = folder / "recipe.yaml", folder / "dataset"
    recipe.write_text(yaml.safe_dump(RECIPE, sort_keys=False))
    stages = [] if FULL else [part for stage in STAGES for part in ("--only", stage)]
    commands = [
        ["build", str(recipe), "--out", str(root), "--workers", "1", *stages],
        ["verify", str(root)],
        *([["report", str(root)]] if FULL else []),
        ["shards", "verify", str(root / "shards" / "lmdb")],
        ["split", "audit", str(root / "patches.parquet"), "--out", str(folder / "audit")],
    ]
    if FULL:
        commands += [
            ["train", str(root), "--bands", "B04,VH", "--epochs", "1"],
            ["split", "assign", str(root / "patches.parquet"), "--strategy", "random", "--out", str(folder / "assigned.parquet")],
            ["shards", "convert", str(root / "shards" / "lmdb"), "--format", "zarr", "--out", str(folder / "zarr")],
            ["status", str(root)],
        ]
    outcomes = alone([[*RSDATA, *command] for command in commands], chat_key=KEYS["OPENAI_API_KEY"], recipes=[str(recipe)])
    if FULL:
        (product,) = (root / "inputs" / "sentinel2").iterdir()
        outcomes += alone([[*RSDATA, "scenes", "inspect", str(product)]])
    return folder, outcomes


def test_a_call_for_another_machine_would_be_seen(alone):
    code = "import socket\ntry: socket.create_connection(('192.0.2.1', 80), 2)\nexcept OSError: pass"
    (outcome,) = alone([[*PYTHON, "-c", code]])
    assert len(outcome["foreign"]) == 1
    assert "192.0.2.1" in outcome["foreign"][0]


def test_loopback_and_sockets_of_the_machine_are_no_network():
    trace = """
7 connect(3, {sa_family=AF_INET, sin_port=htons(4200), sin_addr=inet_addr("127.0.0.1")}, 16) = 0
7 connect(3, {sa_family=AF_INET6, sin6_port=htons(80), inet_pton(AF_INET6, "::1", &sin6_addr), sin6_scope_id=0}, 28) = 0
7 connect(3, {sa_family=AF_UNIX, sun_path="/var/run/nscd/socket"}, 110) = -1 ENOENT
7 sendto(3, [{nlmsg_len=20}], 20, 0, {sa_family=AF_NETLINK, nl_pid=0, nl_groups=00000000}, 12) = 20
7 connect(5, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("10.0.0.2")}, 16) = -1 ENETUNREACH
7 connect(5, {sa_family=AF_INET6, sin6_port=htons(443), inet_pton(AF_INET6, "2606:4700::1", &sin6_addr)}, 28) = -1 ENETUNREACH"""
    assert [("10.0.0.2" in call, "2606" in call) for call in foreign_calls(trace)] == [(True, False), (False, True)]


def test_no_command_reaches_for_a_network(built_alone):
    _, outcomes = built_alone
    assert all(outcome["traced"] for outcome in outcomes)
    assert {" ".join(outcome["command"][4:6]): outcome["foreign"] for outcome in outcomes if outcome["foreign"]} == {}
    for outcome in outcomes:
        assert outcome["code"] == 0, (outcome["command"], (outcome["out"] + outcome["err"])[-3000:])


def test_what_is_asked_for_in_full_fails_where_it_cannot_be_tried(monkeypatch):
    monkeypatch.setitem(globals(), "FULL", False)
    with pytest.raises(pytest.skip.Exception, match="^strace is not there$"):
        cannot("strace is not there")
    monkeypatch.setitem(globals(), "FULL", True)
    with pytest.raises(pytest.fail.Exception, match="^strace is not there$"):
        cannot("strace is not there")


def test_no_key_of_the_environment_is_written_or_shown(built_alone):
    folder, outcomes = built_alone
    (asked,) = {path.resolve() for path in folder.parent.glob("alone*/outcome.chat")}  # pytest adds a link to the newest
    answers = [json.loads(line)["status"] for line in asked.read_text().splitlines()]
    assert 200 in answers and 401 not in answers
    said = "".join(outcome["out"] + outcome["err"] for outcome in outcomes)
    found = [name for name, key in KEYS.items() if key in said]
    for path in [*folder.rglob("*"), *folder.parent.glob("alone*/prefect/**/*")]:
        if path.is_file():
            content = path.read_bytes()
            found += [f"{name} in {path.name}" for name, key in KEYS.items() if key.encode() in content]
    assert found == []
