"""Archives: the same bytes however they are made, tars that tar and zstd understand, and nothing obeyed that an archive says."""

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from rsdata import steps
from rsdata.catalog.exports.archive import ending, fault_of, member_head, pack, padding
from rsdata.commands import app
from rsdata.errors import ArchiveError, WorkspaceError
from rsdata.workspace import Workspace

MB = 1_000_000
LONG = "BigEarthNet-S2/" + "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP/" * 2 + "a" * 120 + ".tif"  # longer than a plain head has room for


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def folder(tmp_path) -> Path:
    """Files of all sizes; one of 2.5 MB that nothing compresses, so it is cut for parts of 1 MB."""
    rng = np.random.default_rng(4)
    files = {
        "a.txt": b"text\n" * 1000,
        "empty": b"",
        "large.bin": rng.bytes(2_500_000),
        "sub/of/blocks": rng.bytes(1024),
        "sub/Ödland.txt": b"x",
        LONG: rng.bytes(700),
        "z/last.bin": rng.bytes(600_000),
    }
    for name, what in files.items():
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(what)
    return tmp_path / "folder"


@pytest.fixture
def archive(folder, tmp_path) -> Path:
    steps.archive_folder(folder, tmp_path / "archive", part_bytes=MB)
    return tmp_path / "archive"


# --- making ------------------------------------------------------------------------------------------------


def test_unpacking_gives_every_file_back(folder, archive, tmp_path):
    counts = steps.unpack_archive(archive, tmp_path / "back", workers=2)
    assert counts == {"files": 7, "bytes": sum(len(what) for what in content(folder).values())}
    assert content(tmp_path / "back") == content(folder)


def test_times_modes_order_and_workers_change_no_byte(folder, archive, tmp_path):
    other = tmp_path / "elsewhere"
    for name, what in reversed(content(folder).items()):
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        (other / name).write_bytes(what)
        os.utime(other / name, (1, 1))
        (other / name).chmod(0o600)
    steps.archive_folder(other, tmp_path / "again", part_bytes=MB, workers=3)
    assert content(tmp_path / "again") == content(archive)


def test_no_part_is_larger_than_asked_though_nothing_compresses(archive):
    sizes = [path.stat().st_size for path in sorted(archive.glob("part-*.tar.zst"))]
    assert len(sizes) >= 4 and max(sizes) <= MB
    assert sum(sizes) > 3_000_000


def test_an_archive_is_the_one_it_always_was(tmp_path):
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "a").write_bytes(b"abc")
    steps.archive_folder(tmp_path / "f", tmp_path / "out", part_bytes=MB)
    packed = (tmp_path / "out" / "part-00000.tar.zst").read_bytes()
    tar = zstandard.ZstdDecompressor().decompressobj().decompress(packed)
    expected = io.BytesIO()
    with tarfile.open(fileobj=expected, mode="w", format=tarfile.USTAR_FORMAT) as file:
        said = tarfile.TarInfo("a")
        said.size, said.mode = 3, 0o644
        file.addfile(said, io.BytesIO(b"abc"))
    assert tar == expected.getvalue()
    assert tar[:3] == b"a\0\0" and tar[100:108] == b"0000644\0" and tar[136:148] == b"00000000000\0" and len(tar) == 10_240
    assert hashlib.sha256(tar).hexdigest() == "d0578e062823f8cbaf3679e04e4d30994f1e95853cada7809b0d73495d7b2d5c"


def test_tarfile_reads_the_parts_and_the_index_says_where_each_member_lies(folder, archive):
    lines = [json.loads(line) for line in (archive / "index.jsonl").read_text().splitlines()]
    files, pieces = content(folder), {}
    for line in lines[1:]:
        packed = (archive / f"part-{line['part']:05d}.tar.zst").read_bytes()
        tar = zstandard.ZstdDecompressor().decompressobj().decompress(packed)
        with tarfile.open(fileobj=io.BytesIO(tar)) as file:
            member = file.getmember(line["member"])
            assert member.isreg() and (member.mtime, member.uid, member.gid, member.uname, member.mode) == (0, 0, 0, "", 0o644)
            assert (member.offset_data, member.size) == (line["offset"], line["bytes"])
            read = file.extractfile(member).read()
        assert read == tar[line["offset"] : line["offset"] + line["bytes"]]
        assert hashlib.sha256(read).hexdigest() == line["sha256"]
        pieces.setdefault(line["file"], []).append(read)
    assert {name: b"".join(parts) for name, parts in pieces.items()} == files
    assert len(pieces["large.bin"]) == 3
    assert lines[0]["zstd"] == ".".join(map(str, zstandard.ZSTD_VERSION))


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not here")
def test_sha256sum_checks_what_is_listed(archive):
    assert subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=archive, capture_output=True, check=False).returncode == 0
    with (archive / "index.jsonl").open("ab") as file:
        file.write(b"\n")
    assert subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=archive, capture_output=True, check=False).returncode == 1


@pytest.mark.skipif(shutil.which("tar") is None or shutil.which("zstd") is None, reason="tar or zstd is not here")
def test_tar_and_cat_do_without_rsdata(folder, archive, tmp_path):
    (tmp_path / "by-tar").mkdir()
    script = (
        'for p in part-*.tar.zst; do zstd -dc "$p" | tar -x -C "$1"; done; cd "$1"; cat large.bin.piece-* > large.bin; rm large.bin.piece-*'
    )
    subprocess.run(["sh", "-c", script, "sh", str(tmp_path / "by-tar")], cwd=archive, check=True)
    assert content(tmp_path / "by-tar") == content(folder)


@settings(max_examples=12, deadline=None)
@given(sizes=st.lists(st.integers(0, 2_300_000), min_size=1, max_size=8), seed=st.integers(0, 9), part_mb=st.sampled_from([1.0, 1.1, 2.0]))
def test_whatever_the_sizes_parts_stay_small_and_files_come_back(tmp_path_factory, sizes, seed, part_mb):
    place = tmp_path_factory.mktemp("sizes")
    rng = np.random.default_rng(seed)
    for number, size in enumerate(sizes):
        (place / "f" / str(number % 3)).mkdir(parents=True, exist_ok=True)
        (place / "f" / str(number % 3) / f"file {number}").write_bytes(rng.bytes(size))
    steps.archive_folder(place / "f", place / "a", part_bytes=int(part_mb * MB))
    assert max(path.stat().st_size for path in (place / "a").glob("*.zst")) <= part_mb * MB
    steps.unpack_archive(place / "a", place / "b")
    assert content(place / "b") == content(place / "f")
    shutil.rmtree(place)


def test_a_dataset_leaves_the_state_of_its_build_behind_and_what_was_asked(built, tmp_path):
    copy = Path(shutil.copytree(built.root, tmp_path / "copy"))
    (copy / "build").mkdir(exist_ok=True)
    (copy / "build" / "lock").write_text("held")
    (copy / ".shards.0badcafe.part").mkdir()
    (copy / ".shards.0badcafe.part" / "data.mdb").write_text("half")
    for own in (".notes.part", "catalog/.before.old"):  # not named as what is written aside
        (copy / own).write_text("mine")
    steps.archive_folder(copy, tmp_path / "archive", part_bytes=5 * MB, leave_out=["parts/", "inputs"], workers=2)
    steps.unpack_archive(tmp_path / "archive", tmp_path / "back")
    expected = {
        name: what
        for name, what in content(copy).items()
        if name.split("/")[0] not in ("build", "parts", "inputs", ".shards.0badcafe.part")
    }
    assert content(tmp_path / "back") == expected
    whole = {"manifest.json", "patches.parquet", "shards/lmdb/data.mdb", "recipe.yaml"}
    assert whole | {".notes.part", "catalog/.before.old"} <= set(expected)


def test_an_export_is_archived_and_comes_back(built, tmp_path):
    steps.export_dataset(built, "bigearthnet", tmp_path / "ben")
    steps.archive_folder(tmp_path / "ben", tmp_path / "archive", part_bytes=2 * MB, workers=2)
    steps.unpack_archive(tmp_path / "archive", tmp_path / "back", workers=2)
    assert content(tmp_path / "back") == content(tmp_path / "ben")


# --- what is not archived ------------------------------------------------------------------------------------


def test_links_and_special_files_are_refused(folder, tmp_path):
    (folder / "sub" / "link").symlink_to("/etc/hostname")
    with pytest.raises(ArchiveError, match="sub/link is a link or no regular file"):
        steps.archive_folder(folder, tmp_path / "out", part_bytes=MB)
    (folder / "sub" / "link").unlink()
    (folder / "linked").symlink_to(folder / "sub")
    with pytest.raises(ArchiveError, match="linked is a link"):
        steps.archive_folder(folder, tmp_path / "out", part_bytes=MB)
    (folder / "linked").unlink()
    os.mkfifo(folder / "pipe")
    with pytest.raises(ArchiveError, match="pipe is a link or no regular file"):
        steps.archive_folder(folder, tmp_path / "out", part_bytes=MB)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["line\nbreak", "back\\slash", "c:drive", "bell\a"])
def test_names_that_not_every_system_takes_are_refused(folder, tmp_path, name):
    (folder / name).write_text("x")
    with pytest.raises(ArchiveError, match="has a name that holds a sign"):
        steps.archive_folder(folder, tmp_path / "out", part_bytes=MB)


def test_a_file_that_grows_meanwhile_is_noticed(folder, tmp_path, monkeypatch):
    sizes = {}
    stat = Path.stat

    def earlier(path, **options):
        found = stat(path, **options)
        return os.stat_result((*found[:6], sizes.get(path.name, found.st_size), *found[7:])) if path.name in sizes else found

    sizes["a.txt"] = 4_999
    monkeypatch.setattr(Path, "stat", earlier)
    (tmp_path / "out").mkdir()
    with pytest.raises(ArchiveError, match=r"a.txt changed while it was archived"):
        pack(folder, tmp_path / "out", ["a.txt"], part_bytes=MB)
    sizes["a.txt"] = 5_001
    with pytest.raises(ArchiveError, match=r"a.txt changed while it was archived"):
        pack(folder, tmp_path / "out", ["a.txt"], part_bytes=MB)


def test_what_cannot_be_archived_is_said(folder, built, tmp_path):
    with pytest.raises(WorkspaceError, match="lies in the folder to be archived"):
        steps.archive_folder(folder, folder / "archive", part_bytes=MB)
    with pytest.raises(WorkspaceError, match="exists; name another"):
        steps.archive_folder(folder, tmp_path, part_bytes=MB)
    with pytest.raises(WorkspaceError, match="is no folder"):
        steps.archive_folder(tmp_path / "none", tmp_path / "out", part_bytes=MB)
    with pytest.raises(ArchiveError, match="parts of 999,999 bytes are too small; ask for at least 1,000,000"):
        steps.archive_folder(folder, tmp_path / "out", part_bytes=999_999)
    for name in ("party", "./sub", "sub/of", ".", "..", "/", str(folder / "sub")):
        with pytest.raises(ArchiveError, match=f"has no {re.escape(name)} to leave out; name what lies directly in it"):
            steps.archive_folder(folder, tmp_path / "out", part_bytes=MB, leave_out=["z", name])
    copy = Workspace(Path(shutil.copytree(built.root, tmp_path / "copy")))
    copy.patches.write_bytes(copy.patches.read_bytes()[:-1] + b"?")
    with pytest.raises(WorkspaceError, match=r"patches.parquet differs from its digest"):
        steps.archive_folder(copy.root, tmp_path / "out", part_bytes=MB)
    copy.manifest.unlink()
    with pytest.raises(WorkspaceError, match="is a dataset that is not finished"):
        steps.archive_folder(copy.root, tmp_path / "out", part_bytes=MB)
    (folder / "large.bin.piece-00001").write_text("x")
    with pytest.raises(ArchiveError, match=r"large.bin.piece-00001 has the name of a piece"):
        steps.archive_folder(folder, tmp_path / "out", part_bytes=MB)
    assert not (tmp_path / "out").exists()


# --- what is not unpacked ------------------------------------------------------------------------------------


def refused(archive: Path, out: Path) -> str:
    with pytest.raises(ArchiveError) as found:
        steps.unpack_archive(archive, out, workers=2)
    assert not out.exists() and not list(out.parent.glob(".*"))
    return str(found.value)


def test_a_flipped_byte_anywhere_is_found_and_the_file_named(archive, tmp_path):
    rng = np.random.default_rng(1)
    for path in sorted(archive.iterdir()):
        whole = path.read_bytes()
        for place in {0, len(whole) - 1, *(int(rng.integers(len(whole))) for _ in range(4))}:
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
            message = refused(archive, tmp_path / "out")
            assert path.name in message or path.name == "SHA256SUMS", (path.name, place, message)
        path.write_bytes(whole)
    steps.unpack_archive(archive, tmp_path / "out")


def test_a_missing_or_cut_part_is_found(archive, tmp_path):
    whole = (archive / "part-00001.tar.zst").read_bytes()
    (archive / "part-00001.tar.zst").write_bytes(whole[:-100])
    assert "part-00001.tar.zst" in refused(archive, tmp_path / "out")
    (archive / "part-00001.tar.zst").write_bytes(whole + b"more")
    assert "part-00001.tar.zst" in refused(archive, tmp_path / "out")
    (archive / "part-00001.tar.zst").unlink()
    assert "part-00001.tar.zst is missing" in refused(archive, tmp_path / "out")
    (archive / "SHA256SUMS").unlink()
    assert "has no SHA256SUMS" in refused(archive, tmp_path / "out")


def forge(place: Path, tar: bytes, *members: dict[str, object], **info: object) -> Path:
    """An archive of one part whose digests are all right."""
    place.mkdir()
    total = sum(int(each["bytes"]) for each in members)
    first = {
        "format": "rsdata-archive", "version": "1", "files": len(members), "bytes": total, "parts": 1, "part_bytes": MB, "level": 3,
        "zstd": "1.5.7", "rsdata_version": "0",
    }  # fmt: skip
    lines = [json.dumps(first | info)]
    at = 0
    for each in members:
        said = {"part": 0, "member": each["file"], "at": 0, "pieces": 1} | each
        head = len(member_head(str(said["member"]), int(said["bytes"])))
        lines.append(json.dumps({"offset": at + head} | said))
        at += head + int(said["bytes"]) + len(padding(int(said["bytes"])))
    (place / "index.jsonl").write_text("\n".join(lines) + "\n")
    (place / "part-00000.tar.zst").write_bytes(zstandard.ZstdCompressor().compress(tar))
    sums = [(hashlib.sha256((place / name).read_bytes()).hexdigest(), name) for name in ("part-00000.tar.zst", "index.jsonl")]
    (place / "SHA256SUMS").write_text("".join(f"{sha256}  {name}\n" for sha256, name in sums))
    return place


def entry(name: str, data: bytes = b"abc") -> dict[str, object]:
    return {"file": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def tar_of(*files: tuple[str, bytes]) -> bytes:
    made = b"".join(member_head(name, len(data)) + data + padding(len(data)) for name, data in files)
    return made + ending(len(made))


def test_an_honest_forgery_is_unpacked(tmp_path):
    made = forge(tmp_path / "a", tar_of(("x/y", b"abc"), ("z", b"")), entry("x/y"), entry("z", b""))
    steps.unpack_archive(made, tmp_path / "out")
    assert content(tmp_path / "out") == {"x/y": b"abc", "z": b""}


@pytest.mark.parametrize("name", ["../out-of-it", "/etc/absolute", "a/../../b", "a//b", "./a", "c:\\x", "a\\..\\b", "a\0b", ".."])
def test_no_name_leads_out_of_the_folder(tmp_path, name):
    made = forge(tmp_path / "a", tar_of(("x", b"abc")), entry("x"))
    lines = (made / "index.jsonl").read_text().splitlines()
    said = json.loads(lines[1]) | {"file": name, "member": name}
    (made / "index.jsonl").write_text(lines[0] + "\n" + json.dumps(said) + "\n")
    sums = [(hashlib.sha256((made / file).read_bytes()).hexdigest(), file) for file in ("part-00000.tar.zst", "index.jsonl")]
    (made / "SHA256SUMS").write_text("".join(f"{sha256}  {file}\n" for sha256, file in sums))
    assert "do not trust this archive" in refused(made, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"a"}


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, tarfile.GNUTYPE_SPARSE]
)
def test_links_and_devices_in_a_part_are_no_files(tmp_path, kind):
    said = tarfile.TarInfo("x")
    said.type, said.size, said.mode, said.linkname = kind, 3, 0o644, "/etc/passwd"
    tar = said.tobuf(tarfile.USTAR_FORMAT) + b"abc" + padding(3)
    made = forge(tmp_path / "a", tar + ending(len(tar)), entry("x"))
    assert "the head of 'x' is another" in refused(made, tmp_path / "out")


def test_a_part_that_holds_other_than_stated_is_refused(tmp_path):
    def attempt(number: int, tar: bytes, *members: dict[str, object], **info: object) -> str:
        return refused(forge(tmp_path / str(number), tar, *members, **info), tmp_path / "out")

    assert "the head of 'x' is another" in attempt(1, tar_of(("x", b"abcd")), entry("x"))  # larger than stated
    assert "the head of 'x' is another" in attempt(2, tar_of(("y", b"abc")), entry("x"))
    assert "differs from its digest in index.jsonl" in attempt(3, tar_of(("x", b"abd")), entry("x"))
    assert "the end is another" in attempt(4, tar_of(("x", b"abc"), ("y", b"hidden")), entry("x"))
    assert "holds more than index.jsonl says" in attempt(5, tar_of(("x", b"abc")) + b"more", entry("x"))
    assert "comes twice" in attempt(6, tar_of(("x", b"abc"), ("x", b"abc")), entry("x"), entry("x"))
    assert "'x' is a file and a folder" in attempt(7, tar_of(("x", b"abc"), ("x/y", b"abc")), entry("x"), entry("x/y"))
    assert "its first line says 2 files" in attempt(8, tar_of(("x", b"abc")), entry("x"), files=2)
    assert "`part` Input should be greater" in attempt(9, tar_of(("x", b"abc")), entry("x") | {"part": -1})
    assert "part 3 comes out of order" in attempt(10, tar_of(("x", b"abc")), entry("x") | {"part": 3})
    assert "lacks a piece" in attempt(11, tar_of(("x", b"abc")), entry("x") | {"pieces": 2, "member": "x.piece-00000"})
    assert "lacks a piece" in attempt(12, tar_of(("x", b"abc")), entry("x") | {"at": 9})
    assert "`version` Input should be '1'" in attempt(13, tar_of(("x", b"abc")), entry("x"), version="2")
    assert "begins at byte 512, and index.jsonl says 7" in attempt(14, tar_of(("x", b"abc")), entry("x") | {"offset": 7})
    assert "free; name another folder" in attempt(15, b"", entry("x") | {"bytes": 10**17}, bytes=10**17)


def test_a_bomb_is_left_at_its_first_wrong_byte(tmp_path, monkeypatch):
    made = forge(tmp_path / "a", tar_of(("x", b"abc")), entry("x"))
    compressor = zstandard.ZstdCompressor(level=19)
    bomb = compressor.compress(bytes(60 * MB))
    assert len(bomb) < 100_000
    (made / "part-00000.tar.zst").write_bytes(bomb)
    given = []

    class Counting:
        """A decompressor that notes how much is taken from it."""

        def __init__(self, **options):
            self._decompressor = decompressor(**options)

        @contextmanager
        def stream_reader(self, *args, **options):
            with self._decompressor.stream_reader(*args, **options) as stream:

                def read(size=-1):
                    content = stream.read(size)
                    given.append(len(content))
                    return content

                yield SimpleNamespace(read=read)

    decompressor = zstandard.ZstdDecompressor
    monkeypatch.setattr(zstandard, "ZstdDecompressor", Counting)
    assert "is another" in refused(made, tmp_path / "out")
    assert 0 < sum(given) <= 512  # the head of the first member


def test_a_frame_that_wants_too_much_memory_is_refused(tmp_path):
    made = forge(tmp_path / "a", tar_of(("x", b"abc")), entry("x"))
    parameters = zstandard.ZstdCompressionParameters(window_log=30, enable_ldm=False)
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    whole = compressor.compressobj()
    (made / "part-00000.tar.zst").write_bytes(whole.compress(tar_of(("x", b"abc"))) + whole.flush())
    assert "cannot be decompressed" in refused(made, tmp_path / "out")


def test_a_line_without_end_is_refused(tmp_path):
    made = forge(tmp_path / "a", tar_of(("x", b"abc")), entry("x"), rsdata_version="v" * 200_000)
    assert "index.jsonl, line 1" in refused(made, tmp_path / "out")


@pytest.mark.parametrize(
    ("path", "fault"), [("a/b.txt", None), ("a b", None), ("Ödland", None), ("a/..b", None), ("..", "leaves"), ("x" * 300, "long")]
)
def test_faults_of_names(path, fault):
    assert (fault_of(path) is None) if fault is None else (fault in (fault_of(path) or ""))


# --- the commands ----------------------------------------------------------------------------------------------


def test_the_commands_archive_and_unpack(folder, tmp_path):
    run = CliRunner().invoke
    made = run(app, ["export", str(folder), "--as", "archive", "--out", str(tmp_path / "a"), "--part-size", "1", "--json"])
    assert made.exit_code == 0, made.output
    counts = json.loads(made.stdout)["counts"]
    assert (counts["files"], counts["parts"]) == (7, len(list((tmp_path / "a").glob("part-*"))))
    back = run(app, ["unpack", str(tmp_path / "a"), "--out", str(tmp_path / "b"), "--json"])
    assert back.exit_code == 0, back.output
    assert json.loads(back.stdout)["counts"]["files"] == 7 and content(tmp_path / "b") == content(folder)
    assert isinstance(run(app, ["unpack", str(tmp_path / "a"), "--out", str(tmp_path / "b")]).exception, WorkspaceError)
    wrong = run(app, ["export", str(folder), "--as", "bigearthnet", "--out", str(tmp_path / "c"), "--part-size", "1"]).exception
    assert "are for --as archive" in str(wrong)
