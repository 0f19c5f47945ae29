"""What is known of files that lie elsewhere, and of their copies."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from rsdata.records.base import Record

# What may be asked of a catalogue: Sentinel-2 by its product type, Sentinel-1 IW GRD with VV and VH.
ProductType = Literal["S2MSI2A", "S2MSI1C", "S1GRD"]


class RemoteFile(Record):
    """One file that can be fetched, as a catalogue or a server's listing gives it."""

    path: str = Field(description="place inside the product's folder, or the name of a zip")
    href: str = Field(description="https://… or s3://bucket/key")
    bytes: int | None = Field(None, description="size, where it is known beforehand")
    checksum: str | None = Field(None, description="as the catalogue gives it: a multihash in hexadecimal, or a bare MD5")
    mark: str | None = Field(None, description="ETag or date, where the server was asked for it beforehand")


class RemoteProduct(Record):
    """A product that a catalogue offers, whole as one zip, or as a folder of objects, or both."""

    product: str = Field(description="product name without .SAFE")
    product_type: ProductType
    tile_id: str | None
    datetime: datetime
    cloud_cover: float | None = Field(description="percent")
    baseline: str | None = Field(description="processing baseline such as 05.09")
    archive: RemoteFile | None
    folder: str | None = Field(description="s3://bucket/…/<product>.SAFE")
    files: list[RemoteFile] = Field(default_factory=list, description="files of the folder that the catalogue itself vouches for")


class FetchedFile(Record):
    """How far one file has come; what it says of bytes on disk was synced before it was written down."""

    path: str
    bytes: int | None = Field(description="size the server states; unknown where it sends without one")
    mark: str | None = Field(None, description="ETag or date the server gave; another one means another file")
    offset: int = Field(0, description="bytes on disk")
    sha256: str | None = Field(None, description="digest of the finished file")
    verified: str | None = Field(None, description="what the finished file was compared with: size, or size and an algorithm")


class Download(Record):
    """What has become of one product that was asked for; lies in ``downloads/``."""

    product: str
    state: Literal["wanted", "partial", "done", "failed"]
    source: Literal["archive", "folder"]
    path: str | None = Field(None, description="the finished product, below the folder it was fetched into")
    files: list[FetchedFile] = Field(default_factory=list)
    reason: str | None = Field(None, description="why it failed")
    notes: list[str] = Field(default_factory=list, description="what could not be verified, and other things worth knowing")

    @property
    def bytes(self) -> int:
        return sum(file.offset for file in self.files)


class RemoteCopy(Record):
    """What lies behind one URL, and its copy in the workspace."""

    url: str = Field(description="without what could be a key")
    path: str | None = Field(description="the copy, below the workspace; none if it could not be fetched")
    reason: str | None = Field(None, description="why not")


class RemoteInput(Record):
    """What a recipe's URL or pattern of URLs led to when the server was last asked; lies in ``inputs/remote/``."""

    named: str = Field(description="as the recipe says it, without what could be a key")
    copies: list[RemoteCopy]
