"""Datasets in an object store: stored whole with the manifest last, and Zarr shards read where they lie.

The store is moto behind a relay that can refuse requests or cut connections, so that the S3 protocol is spoken over
real sockets.
"""

import hashlib
import json
import os
import pickle
import random
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from conftest import SMALL, run_steps, write_recipe
from servers import s3_server
from typer.testing import CliRunner

from rsdata import shards, steps
from rsdata.commands import app
from rsdata.errors import ShardError, WorkspaceError
from rsdata.shards.objects import Objects
from rsdata.shards.remote import RemotePixels
from rsdata.workspace import Workspace, file_sha256


class Relay:
    """Passes requests to a server; a share of them is refused with 503, another is cut half way through the answer or the body."""

    def __init__(self, port: int, refused: float = 0.0, cut: float = 0.0, seed: int = 1) -> None:
        self.port_behind, self.refused, self.cut = port, refused, cut
        self.count = {"passed": 0, "refused": 0, "cut": 0}
        self._chance, self._lock = random.Random(seed), threading.Lock()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        """One request for each connection: simple, and every request can go wrong on its own."""
        with connection:
            head, body = _read_message(connection)
            if not head:
                return
            with self._lock:
                drawn = self._chance.random()
                fate = "refused" if drawn < self.refused else "cut" if drawn < self.refused + self.cut else "passed"
                self.count[fate] += 1
            if fate == "refused":
                connection.sendall(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            answer = self._ask(head, body)
            connection.sendall(answer[: len(answer) // 2] if fate == "cut" else answer)

    def _ask(self, head: bytes, body: bytes) -> bytes:
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith((b"connection:", b"expect:"))]
        with socket.create_connection(("127.0.0.1", self.port_behind), 30) as behind:
            behind.sendall(b"\r\n".join([lines[0], b"Connection: close", *lines[1:]]) + b"\r\n\r\n" + body)
            answer = b""
            while chunk := behind.recv(2**16):
                answer += chunk
        return answer


def _read_message(connection: socket.socket) -> tuple[bytes, bytes]:
    received = b""
    while b"\r\n\r\n" not in received:
        chunk = connection.recv(2**16)
        if not chunk:
            return b"", b""
        received += chunk
    head, body = received.split(b"\r\n\r\n", 1)
    length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length:
        chunk = connection.recv(2**16)
        if not chunk:
            return b"", b""
        body += chunk
    return head, body


def test_the_relay_gives_up_a_request_whose_body_is_cut():
    here, there = socket.socketpair()
    here.sendall(b"PUT /a HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf")
    here.close()
    found: list[tuple[bytes, bytes]] = []
    reader = threading.Thread(target=lambda: found.append(_read_message(there)), daemon=True)
    reader.start()
    reader.join(30)
    assert found == [(b"", b"")]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """An S3 server with an empty bucket; the environment names it."""
    for package in ("moto", "flask", "obstore"):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed; it comes with the extra `dev`")
    with s3_server(tmp_path_factory.mktemp("moto")) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        client = server._client()
        client.create_bucket(Bucket="datasets")
        yield SimpleNamespace(client=client, port=int(server.url.rsplit(":", 1)[1]))


@pytest.fixture(scope="module")
def zarr_shard(built: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("zarr") / "shard"
    steps.repack_shards([built.shards("lmdb")], target, format="zarr", compression="zstd")
    return target


@pytest.fixture(scope="module")
def far_shard(store: SimpleNamespace, zarr_shard: Path) -> str:
    objects = Objects("s3://datasets/shard")
    for path in zarr_shard.rglob("*"):
        if path.is_file():
            objects.write(path.relative_to(zarr_shard).as_posix(), path, file_sha256(path))
    return objects.url


def stored(client: object, prefix: str) -> dict[str, bytes]:
    found = client.list_objects_v2(Bucket="datasets", Prefix=f"{prefix}/").get("Contents", [])  # type: ignore[attr-defined]
    read = lambda key: client.get_object(Bucket="datasets", Key=key)["Body"].read()  # type: ignore[attr-defined]  # noqa: E731
    return {each["Key"].removeprefix(f"{prefix}/"): read(each["Key"]) for each in found}


# --- storing ------------------------------------------------------------------------------------------------


def test_a_stored_dataset_has_every_file_of_its_manifest_byte_for_byte(store, built):
    done = steps.upload_dataset(built, "s3://datasets/whole", read_back=True)
    there = stored(store.client, "whole")
    said = json.loads(there["manifest.json"])
    assert {each["path"] for each in said["outputs"]} | {"manifest.json", "recipe.yaml"} <= set(there)
    assert there == {name: (built.root / name).read_bytes() for name in there}
    assert (done.files, done.skipped, done.findings) == (len(there), 0, ())
    assert done.bytes == sum(map(len, there.values()))
    assert not [name for name in there if name.startswith(("parts/", "receipts/", "inputs/", "scratch/"))]


def test_a_stored_recipe_names_tables_that_are_stored_too_and_nothing_half_written_is(store, built, tmp_path):
    kept = resources.files("rsdata.labels") / "tables"
    tables = {"mine.csv": "bigearthnet-19.csv", "map.csv": "clc-3_to_bigearthnet-19.csv"}
    for name, known in tables.items():
        (tmp_path / name).write_bytes((kept / known).read_bytes())
    said = {"nomenclature": "mine.csv", "codes": "clc-3", "conversion": "map.csv"}
    root = Path(shutil.copytree(built.root, tmp_path / "copy"))
    workspace, _ = run_steps(write_recipe(tmp_path, SMALL | {"labels": said}), root)
    half = workspace.catalogue(".items.parquet.0123abcd-7-0123abcd.part")
    half.touch()
    steps.upload_dataset(workspace, "s3://datasets/own-tables")
    there = stored(store.client, "own-tables")
    named = yaml.safe_load(there["recipe.yaml"])["labels"]
    assert {key: named[key] for key in said} == said
    assert all(there[name] == (kept / known).read_bytes() for name, known in tables.items())
    assert half.relative_to(root).as_posix() not in there
    assert {path.name for path in workspace.audit.parent.iterdir()} - {half.name} == {
        name.removeprefix("catalog/") for name in there if name.startswith("catalog/")
    }


def test_a_second_upload_stores_only_what_is_missing_or_differs(store, built):
    steps.upload_dataset(built, "s3://datasets/again")
    before = {each["Key"]: each["LastModified"] for each in store.client.list_objects_v2(Bucket="datasets", Prefix="again/")["Contents"]}
    store.client.delete_object(Bucket="datasets", Key="again/patches.parquet")
    store.client.put_object(Bucket="datasets", Key="again/facts.parquet", Body=b"something else")
    done = steps.upload_dataset(built, "s3://datasets/again", read_back=True)
    assert (done.files - done.skipped, done.findings) == (2, ())
    assert stored(store.client, "again")["facts.parquet"] == built.facts.read_bytes()
    assert len(before) == done.files


def test_an_upload_that_breaks_off_leaves_no_manifest_and_goes_on(store, built, monkeypatch):
    whole = Objects.write
    count = iter(range(1000))

    def breaks(self: Objects, name: str, source: Path, sha256: str) -> None:
        if next(count) == 4:
            raise ShardError("the store is gone")
        whole(self, name, source, sha256)

    monkeypatch.setattr(Objects, "write", breaks)
    with pytest.raises(ShardError, match="the store is gone"):
        steps.upload_dataset(built, "s3://datasets/broken")
    there = stored(store.client, "broken")
    assert there and "manifest.json" not in there
    monkeypatch.setattr(Objects, "write", whole)
    done = steps.upload_dataset(built, "s3://datasets/broken", read_back=True)
    assert done.skipped == len(there)
    assert "manifest.json" in stored(store.client, "broken")


def test_the_manifest_of_another_dataset_is_gone_before_its_files_are_replaced(store, built, monkeypatch):
    store.client.put_object(Bucket="datasets", Key="other/manifest.json", Body=b"{}")

    def refuses(self: Objects, name: str, source: Path, sha256: str) -> None:
        raise ShardError("not now")

    monkeypatch.setattr(Objects, "write", refuses)
    with pytest.raises(ShardError, match="not now"):
        steps.upload_dataset(built, "s3://datasets/other")
    assert stored(store.client, "other") == {}


def test_a_file_that_is_not_as_the_manifest_says_is_not_stored(store, built, tmp_path):
    import shutil

    copy = Workspace(Path(shutil.copytree(built.root, tmp_path / "copy")))
    copy.patches.write_bytes(copy.patches.read_bytes() + b"\0")
    with pytest.raises(WorkspaceError, match=r"patches.parquet is not as the dataset's manifest says; run `rsdata build` again"):
        steps.upload_dataset(copy, "s3://datasets/damaged")
    assert "manifest.json" not in stored(store.client, "damaged")


@pytest.mark.parametrize(("refused", "cut"), [(0.2, 0.0), (0.0, 0.2)], ids=["one in five refused", "one in five cut"])
def test_a_store_that_fails_one_request_in_five_holds_the_whole_dataset_in_the_end(store, built, monkeypatch, refused, cut):
    relay = Relay(store.port, refused=refused, cut=cut)
    monkeypatch.setenv("AWS_ENDPOINT_URL", relay.url)
    prefix = f"relay-{refused}-{cut}"
    done = steps.upload_dataset(built, f"s3://datasets/{prefix}", read_back=True)
    relay.close()
    assert done.findings == ()
    assert relay.count["refused" if refused else "cut"] >= 5
    there = stored(store.client, prefix)
    assert len(there) == done.files
    assert there == {name: (built.root / name).read_bytes() for name in there}


def test_a_store_that_refuses_is_told_in_a_sentence_without_keys(store, built, monkeypatch):
    with pytest.raises(ShardError, match=r"s3://nobody-has-this/x.* (is not there|could not be)") as found:
        steps.upload_dataset(built, "s3://nobody-has-this/x")
    assert "planted" not in str(found.value)
    for url, why in (
        ("ftp://host/x", "is no URL of an object store; expected s3://BUCKET/PREFIX or gs://"),
        ("s3://", "is no URL of an object store"),
        ("s3://key:planted@bucket/x", "a URL is given with keys or a query in it"),
    ):
        with pytest.raises(ShardError, match=why) as found:
            Objects(url)
        assert "planted" not in str(found.value)


def test_a_url_is_no_folder_to_build_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WorkspaceError, match=r"s3:/datasets/x looks like a URL; a build works in a folder, and `rsdata upload FOLDER URL`"):
        Workspace.create(Path("s3://datasets/x"))
    assert not list(tmp_path.iterdir())
    assert Workspace.create(Path("with:colon")).root.is_dir()


def test_the_command_stores_and_checks(store, built):
    found = CliRunner().invoke(app, ["upload", str(built.root), "s3://datasets/command", "--check", "--json"])
    assert found.exit_code == 0, found.output
    said = json.loads(found.stdout)
    assert (said["url"], said["skipped"], said["findings"]) == ("s3://datasets/command", 0, [])


# --- reading ------------------------------------------------------------------------------------------------


def test_a_zarr_shard_is_read_by_its_url_as_from_the_disk(far_shard, zarr_shard):
    with shards.open_shard(far_shard) as far, shards.open_shard(zarr_shard) as here:
        assert list(far.keys()) == list(here.keys()) and far.manifest == here.manifest
        for key in here.keys():  # noqa: SIM118, as a shard is no mapping
            values, expected = far.read(key), here.read(key)
            assert values.keys() == expected.keys()
            assert all(np.array_equal(values[band], expected[band], equal_nan=True) for band in expected)
        again = pickle.loads(pickle.dumps(far))
        key = next(here.keys())
        assert again.read_bytes(key) == here.read_bytes(key)
        again.close()


def refused_in_a_forked_child(act: Callable[[], object]) -> bool:
    """Whether a process that is forked off is told by a ShardError, and does not hang."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)
        try:
            act()
        except ShardError as error:
            os._exit(0 if "forked off" in str(error) and not error.context.get("passing") else 2)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_forked_process_is_told_that_it_cannot_read_by_url(far_shard):
    with shards.open_shard(far_shard) as far:
        key = far.index["patch_id"][0]
        far.read(key)
        assert refused_in_a_forked_child(lambda: far.read(key))
        assert refused_in_a_forked_child(lambda: far.pieces([key], ["B02"]).__enter__())
        assert refused_in_a_forked_child(lambda: shards.open_shard(far_shard))


def test_the_store_of_a_shard_by_url_pickles_too(far_shard):
    with shards.open_shard(far_shard) as far:
        key = far.index["patch_id"][0]
        again = pickle.loads(pickle.dumps(far._store))
        assert again.read_bytes(key) == far.read_bytes(key)
        again.close()


def test_a_batch_that_fails_keeps_no_chunks(far_shard, monkeypatch):
    with shards.open_shard(far_shard) as far:
        keys = far.index["patch_id"].tolist()[:6]
        opened = [pixels for groups in far._store._groups.values() for _, pixels in groups]
        read = RemotePixels._chunk

        def chunk(self: RemotePixels, row: int) -> bytes | None:
            if row == 3:
                raise ShardError("refused")
            return read(self, row)

        monkeypatch.setattr(RemotePixels, "_chunk", chunk)
        with pytest.raises(ShardError, match="refused"), far.pieces(keys, ["B02", "B05"]):
            pass
        far._store._requests.shutdown(wait=True)
        assert [pixels._ahead for pixels in opened] == [{}] * len(opened)


def test_a_shard_by_url_whose_patches_are_larger_than_its_bands_is_refused(store, zarr_shard):
    place = "s2_10m/pixels/zarr.json"
    said = json.loads((zarr_shard / place).read_text())
    patches, bands, *_ = said["shape"]
    said["shape"] = [patches, bands, 1200, 1200]
    said["chunk_grid"]["configuration"]["chunk_shape"][2:] = [1200, 1200]
    said["codecs"][0]["configuration"]["chunk_shape"][2:] = [1200, 1200]
    changed = json.dumps(said).encode()
    manifest = json.loads((zarr_shard / "manifest.json").read_text())
    for file in manifest["files"]:
        if file["path"] == place:
            file.update(bytes=len(changed), sha256=hashlib.sha256(changed).hexdigest())
    for path in zarr_shard.rglob("*"):
        if path.is_file():
            relative = path.relative_to(zarr_shard).as_posix()
            content = {place: changed, "manifest.json": json.dumps(manifest).encode()}.get(relative, path.read_bytes())
            store.client.put_object(Bucket="datasets", Key=f"large/{relative}", Body=content)
    with pytest.raises(ShardError, match=r"claims patches of 11,520,000 bytes; the bands need at most"):
        shards.open_shard("s3://datasets/large")


def test_a_description_that_is_too_large_is_not_fetched(far_shard, monkeypatch):
    monkeypatch.setattr("rsdata.shards.remote._MOST_BYTES", 100)
    with pytest.raises(ShardError, match=r"shard/manifest.json has [\d,]+ bytes; expected at most 100, so store it again"):
        shards.open_shard(far_shard)


def test_training_reads_the_same_batches_by_url(far_shard, zarr_shard):
    torch = pytest.importorskip("torch")
    from rsdata.training.dataset import PatchDataset

    with shards.open_shard(far_shard) as far, shards.open_shard(zarr_shard) as here:
        batches = [PatchDataset(each, "train", input_px=60).__getitems__(list(range(6))) for each in (far, here)]
        for (pixels, target), (expected, expected_target) in zip(*batches, strict=True):
            assert torch.equal(pixels, expected) and torch.equal(target, expected_target)


def test_a_shard_is_read_from_a_store_that_fails_one_request_in_five(store, far_shard, zarr_shard, monkeypatch):
    relay = Relay(store.port, refused=0.2, seed=3)
    monkeypatch.setenv("AWS_ENDPOINT_URL", relay.url)
    with shards.open_shard(far_shard) as far, shards.open_shard(zarr_shard) as here:
        keys = list(here.keys())[:12]
        assert all(far.read_bytes(key) == here.read_bytes(key) for key in keys)
    relay.close()
    assert relay.count["refused"] >= 3


def test_plain_zarr_and_pyarrow_read_what_was_stored(store, built, far_shard, zarr_shard):
    import pyarrow.parquet as pq
    import zarr
    from obstore.fsspec import FsspecStore
    from obstore.store import from_url
    from zarr.storage import ObjectStore

    group = zarr.open_group(ObjectStore(from_url(far_shard, client_options={"allow_http": True}), read_only=True), mode="r")
    here = zarr.open_group(zarr_shard, mode="r")
    assert np.array_equal(group["s2_10m/pixels"][0], here["s2_10m/pixels"][0])
    steps.upload_dataset(built, "s3://datasets/tables")
    files = FsspecStore("s3", client_options={"allow_http": True})
    table = pq.read_table("datasets/tables/patches.parquet", filesystem=files, columns=["patch_id", "split"])
    assert table.equals(pq.read_table(built.patches, columns=["patch_id", "split"]))


@pytest.mark.parametrize(
    "name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_SESSION_TOKEN", "AWS_SKIP_SIGNATURE", "AWS_DEFAULT_REGION"]
)
def test_a_variable_that_is_set_to_nothing_counts_as_not_set(monkeypatch, name):
    obstore = pytest.importorskip("obstore", reason="obstore is not installed; it comes with the extra `download`")
    for each in list(os.environ):
        if each.startswith("AWS_"):
            monkeypatch.delenv(each)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "planted")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted")
    monkeypatch.setenv(name, "")
    asked = obstore.sign(Objects("s3://datasets/shard")._store, "GET", "manifest.json", timedelta(hours=1))
    assert asked.startswith("https://s3.us-east-1.amazonaws.com/datasets/shard/manifest.json?X-Amz-Algorithm=")
    assert "Security-Token" not in asked


def test_what_cannot_be_read_from_afar_is_told(store, built, far_shard):
    steps.upload_dataset(built, "s3://datasets/lmdb")
    with pytest.raises(ShardError, match="is a shard of format lmdb, which is read from a disk; fetch the folder, or make a Zarr shard"):
        shards.open_shard("s3://datasets/lmdb/shards/lmdb")
    with pytest.raises(ShardError, match=r"s3://datasets/none/manifest.json is not there"):
        shards.open_shard("s3://datasets/none")


def test_a_damaged_object_is_told(store, zarr_shard):
    manifest = json.loads((zarr_shard / "manifest.json").read_text())
    pixels = next(each["path"] for each in manifest["files"] if each["path"].startswith("s2_10m/pixels/c/"))
    for prefix, name, message in (
        ("cut", pixels, "its index does not fit its checksum"),
        ("changed", "s2_10m/pixels/zarr.json", "is not as the shard's manifest says"),
    ):
        for path in zarr_shard.rglob("*"):
            if path.is_file():
                relative = path.relative_to(zarr_shard).as_posix()
                content = path.read_bytes()
                content = content[:-9] + b"\0" * 9 if relative == name else content
                store.client.put_object(Bucket="datasets", Key=f"{prefix}/{relative}", Body=content)
        with pytest.raises(ShardError, match=message), shards.open_shard(f"s3://datasets/{prefix}") as shard:
            shard.read(shard.index["patch_id"][0])
