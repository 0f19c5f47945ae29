"""What an archive says of itself: the first line of its index, and one line for each member."""

from typing import Literal

from pydantic import Field

from rsdata.records.base import Record


class ArchiveInfo(Record):
    """First line of ``index.jsonl``."""

    format: Literal["rsdata-archive"] = "rsdata-archive"
    version: Literal["1"] = "1"
    files: int = Field(ge=0)
    bytes: int = Field(ge=0, description="of all files together")
    parts: int = Field(ge=0)
    part_bytes: int = Field(ge=1, description="the most a part may have")
    level: int = Field(description="of zstd")
    zstd: str = Field(description="version of the zstd library; another may give other bytes")
    rsdata_version: str


class ArchiveMember(Record):
    """Any other line: a file, or a piece of one that is larger than a part. Lines are in the order of parts and members."""

    part: int = Field(ge=0, description="counts from 0; part-00000.tar.zst")
    member: str = Field(description="name in the tar")
    offset: int = Field(ge=0, description="of its first byte in the unpacked tar")
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    file: str = Field(description="path below the folder")
    at: int = Field(0, ge=0, description="first byte of the piece in the file")
    pieces: int = Field(1, ge=1, description="how many the file has")
