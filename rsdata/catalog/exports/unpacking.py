"""Archives back into a folder, every byte of them checked on the way.

An archive may come from anywhere. Nothing in it is obeyed: the index says what the tars must hold, so each head that a tar has is
compared with the one that follows from the index, byte by byte, and a link, a device, another name or another size is a difference.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import zstandard
from pydantic import ValidationError

from rsdata.catalog.exports.archive import INDEX_FILE, SUMS_FILE, ending, fault_of, member_head, padding, part_name
from rsdata.catalog.exports.side_by_side import side_by_side
from rsdata.catalog.exports.source import Advance
from rsdata.errors import ArchiveError
from rsdata.records import ArchiveInfo, ArchiveMember

_CHUNK = 2**20
_LONGEST_LINE = 2**16  # of the index, bytes
_LARGEST_WINDOW = 2**27  # memory that a zstd frame may ask for, bytes


@dataclass
class _Contents:
    """What an index says."""

    info: ArchiveInfo
    parts: list[list[ArchiveMember]] = field(default_factory=list)


def unpack(archive: Path, folder: Path, *, workers: int = 1, advance: Advance = lambda n: None) -> dict[str, int]:
    """Write the files of an archive into an empty folder; return what there is, by name.

    Args:
        workers: parts unpacked at once.
        advance: told how many members were written.

    Raises: ArchiveError at the first digest, name or size that is not as stated; what was written until then is to be removed.
    """
    sums = _read_sums(archive)
    contents = _read_index(archive, sums)
    free = shutil.disk_usage(folder).free
    if contents.info.bytes > free:
        raise ArchiveError(
            f"{archive} unpacks to {contents.info.bytes:,} bytes, and {folder.parent} has {free:,} free; name another folder",
            path=str(archive),
        )
    for path in {str(Path(member.file).parent) for part in contents.parts for member in part}:
        (folder / path).mkdir(parents=True, exist_ok=True)

    def unpack_part(number: int) -> int:
        _unpack_part(archive / part_name(number), sums[part_name(number)], contents.parts[number], folder)
        return len(contents.parts[number])

    for count in side_by_side(unpack_part, range(contents.info.parts), workers):
        advance(count)
    return {"files": contents.info.files, "bytes": contents.info.bytes}


# --- what the archive says ---------------------------------------------------------------------------------


def _read_sums(archive: Path) -> dict[str, str]:
    """Digests by file."""
    try:
        lines = (archive / SUMS_FILE).read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ArchiveError(f"{archive} has no {SUMS_FILE} that can be read; name the folder of an archive", path=str(archive)) from error
    found = {line[66:]: line[:64] for line in lines if line[64:66] == "  "}
    if len(found) != len(lines) or INDEX_FILE not in found:
        raise ArchiveError(f"{archive / SUMS_FILE} is not a list of digests and files; fetch it again", path=str(archive))
    return found


def _read_index(archive: Path, sums: dict[str, str]) -> _Contents:
    """The index, and that it can be what it says."""
    path = archive / INDEX_FILE
    files, total, contents = _Files(path), 0, None
    for number, line in enumerate(_lines(path, sums[INDEX_FILE])):
        try:
            if contents is None:
                contents = _Contents(ArchiveInfo.model_validate_json(line))
                continue
            member = ArchiveMember.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise ArchiveError(f"{path}, line {number + 1}: `{place}` {first['msg']}; fetch it again", path=str(path)) from error
        if member.part not in (len(contents.parts) - 1, len(contents.parts)):
            raise ArchiveError(f"{path}, line {number + 1}: part {member.part} comes out of order; fetch it again", path=str(path))
        if member.part == len(contents.parts):
            contents.parts.append([])
        contents.parts[-1].append(member)
        total += member.bytes
        files.add(member)
    if contents is None:
        raise ArchiveError(f"{path} is empty; fetch it again", path=str(path))
    found = (files.finish(), total, len(contents.parts))
    if found != (contents.info.files, contents.info.bytes, contents.info.parts):
        stated = f"{contents.info.files} files, {contents.info.bytes} bytes and {contents.info.parts} parts"
        raise ArchiveError(f"{path} lists {found[0]} files, {found[1]} bytes and {found[2]} parts; its first line says {stated}")
    if set(sums) != {INDEX_FILE, *(part_name(number) for number in range(contents.info.parts))}:
        raise ArchiveError(f"{archive / SUMS_FILE} does not list the {contents.info.parts} parts of {INDEX_FILE} alone; fetch it again")
    return contents


def _lines(path: Path, sha256: str) -> Iterator[bytes]:
    """Lines of the index, once its digest is seen to be right."""
    try:
        with path.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != sha256:
                raise ArchiveError(f"{path} differs from its digest in {SUMS_FILE}; fetch it again", path=str(path))
            stream.seek(0)
            while line := stream.readline(_LONGEST_LINE):
                yield line
    except OSError as error:
        raise ArchiveError(f"{path} cannot be read: {error.strerror}; fetch the archive again", path=str(path)) from error


class _Files:
    """The files that members make, as they come: none twice, none in the place of a folder, pieces without gaps."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._whole: set[str] = set()
        self._folders: set[str] = set()
        self._cut: tuple[ArchiveMember, int] | None = None  # the piece before, and its number

    def add(self, member: ArchiveMember) -> None:
        reason = fault_of(member.file) or ("names no member" if member.member != self._expected(member) else None)
        if reason is None and member.file in self._whole and member.at == 0:
            reason = "comes twice"
        if reason is not None:
            raise ArchiveError(f"{self._path}: the name {member.file!r} {reason}; do not trust this archive", path=str(self._path))
        self._whole.add(member.file)
        place = member.file
        while "/" in place:
            place = place.rpartition("/")[0]
            if place in self._folders:
                break
            self._folders.add(place)

    def _expected(self, member: ArchiveMember) -> str:
        """What the member must be called; raises if its piece does not follow the one before."""
        before, number = self._cut or (None, -1)
        follows = before is not None and before.file == member.file
        if (follows and (member.at != before.at + before.bytes or member.pieces != before.pieces)) or (  # type: ignore[union-attr]
            not follows and (member.at != 0 or before is not None)
        ):
            raise ArchiveError(f"{self._path}: {member.file!r} lacks a piece; fetch the archive again", path=str(self._path))
        if member.pieces == 1:
            return member.file
        self._cut = (member, number + 1) if number + 2 < member.pieces else None
        return f"{member.file}.piece-{number + 1:05d}"

    def finish(self) -> int:
        """How many files there are."""
        if self._cut is not None:
            raise ArchiveError(f"{self._path}: {self._cut[0].file!r} lacks a piece; fetch the archive again", path=str(self._path))
        if clash := self._whole & self._folders:
            raise ArchiveError(f"{self._path}: {min(clash)!r} is a file and a folder; do not trust this archive", path=str(self._path))
        return len(self._whole)


# --- what the parts hold -----------------------------------------------------------------------------------


class _Hashed:
    """A stream that takes the digest of what is read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.sha256 = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        content = self._stream.read(size)
        self.sha256.update(content)
        return content


def _unpack_part(path: Path, sha256: str, members: list[ArchiveMember], folder: Path) -> None:
    """Compare a part with what the index says of it, and write its members."""
    try:
        with path.open("rb") as stream:
            packed = _Hashed(stream)
            decompressor = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW)
            with decompressor.stream_reader(packed, read_size=_CHUNK, closefd=False) as tar:  # type: ignore[arg-type]
                _read_members(path, tar.read, members, folder)
            while packed.read(_CHUNK):
                pass
    except zstandard.ZstdError as error:
        raise ArchiveError(f"{path} cannot be decompressed ({error}); fetch it again", path=str(path)) from error
    except FileNotFoundError as error:
        if error.filename != str(path):
            raise
        raise ArchiveError(f"{path} is missing; fetch it again", path=str(path)) from error
    if packed.sha256.hexdigest() != sha256:
        raise ArchiveError(f"{path} differs from its digest in {SUMS_FILE}; fetch it again", path=str(path))


def _read_members(path: Path, read: Callable[[int], bytes], members: list[ArchiveMember], folder: Path) -> None:
    at = 0

    def expect(content: bytes, what: str) -> None:
        nonlocal at
        at += len(content)
        if _exactly(read, len(content)) != content:
            raise ArchiveError(f"{path} does not hold what {INDEX_FILE} says: {what} is another; do not trust this archive", path=str(path))

    for member in members:
        expect(member_head(member.member, member.bytes), f"the head of {member.member!r}")
        if at != member.offset:
            raise ArchiveError(f"{path}: {member.member!r} begins at byte {at}, and {INDEX_FILE} says {member.offset}", path=str(path))
        sha256 = hashlib.sha256()
        # a file that is there already would be one of another spelling on a system that does not tell capitals
        flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0) | (os.O_EXCL if member.pieces == 1 else 0)
        with os.fdopen(os.open(folder / member.file, flags, 0o666), "wb") as file:
            file.seek(member.at)
            left = member.bytes
            while left:
                chunk = read(min(_CHUNK, left))
                if not chunk:
                    raise ArchiveError(f"{path} ends within {member.member!r}; fetch it again", path=str(path))
                sha256.update(chunk)
                file.write(chunk)
                left -= len(chunk)
        if sha256.hexdigest() != member.sha256:
            raise ArchiveError(f"{member.member!r} in {path} differs from its digest in {INDEX_FILE}; fetch it again", path=str(path))
        at += member.bytes
        expect(padding(member.bytes), f"what follows {member.member!r}")
    expect(ending(at), "the end")
    if read(1):
        raise ArchiveError(f"{path} holds more than {INDEX_FILE} says; do not trust this archive", path=str(path))


def _exactly(read: Callable[[int], bytes], size: int) -> bytes:
    content = b""
    while len(content) < size and (more := read(size - len(content))):
        content += more
    return content
