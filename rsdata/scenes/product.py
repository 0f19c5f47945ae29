"""The files of a product, whether it lies in a folder or in a zip.

A zip is read where it is: XML through ``zipfile``, pixels through GDAL's ``/vsizip/``. XML is foreign text, so
entities and external references are refused.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from rsdata.errors import RsdataError, SceneError

MAX_XML_BYTES = 64 * 2**20  # the largest real tile metadata are about 1 MB
# What zipfile raises on damage; RuntimeError and its NotImplementedError for flags and versions, the last for names.
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, UnicodeDecodeError)


@dataclass(frozen=True)
class ProductFiles:
    """Files of one product by their path inside it, with ``/`` between folders."""

    path: Path  # the folder, or the zip
    prefix: str  # folder inside the zip, "" for a folder
    sizes: dict[str, int] = field(repr=False)  # path inside the product to bytes

    @property
    def zipped(self) -> bool:
        return self.path.is_file()

    @property
    def name(self) -> str:
        """Name of the product's own folder."""
        return PurePosixPath(self.prefix).name if self.prefix else self.path.name

    def gdal_path(self, inside: str) -> str:
        """What GDAL opens to read one file."""
        return f"/vsizip/{{{self.path}}}/{self.prefix}{inside}" if self.zipped else str(self.path / inside)

    def read_xml(self, inside: str) -> Element:
        """Parse one XML file.

        Raises: SceneError if it is missing, too large, damaged, or declares entities.
        """
        if inside not in self.sizes:
            raise SceneError(f"{self.path} lacks {inside}; the product is incomplete, fetch it again", path=str(self.path), file=inside)
        if self.sizes[inside] > MAX_XML_BYTES:
            raise SceneError(
                f"{self.path}: {inside} has {self.sizes[inside]} bytes, more than any real metadata file; fetch the product again",
                path=str(self.path),
                file=inside,
            )
        text = self._read(inside)
        try:
            return fromstring(text, forbid_dtd=True)
        except (ParseError, DefusedXmlException, ValueError, LookupError) as error:  # the last of an encoding that is none
            reason = "it declares a DTD, as no metadata do" if isinstance(error, DefusedXmlException) else str(error)
            raise SceneError(
                f"{self.path}: {inside} is not well-formed XML ({reason}); fetch the product again", path=str(self.path), file=inside
            ) from error

    def _read(self, inside: str) -> bytes:
        try:
            if self.zipped:
                with zipfile.ZipFile(self.path) as archive:
                    return archive.read(self.prefix + inside)
            return (self.path / inside).read_bytes()
        except (OSError, KeyError, *ZIP_ERRORS) as error:
            raise SceneError(f"{self.path}: {inside} cannot be read ({error}); fetch the product again", path=str(self.path)) from error

    def digest(self, inside: str, algorithm: str) -> str:
        """Hex digest over the contents of one file; reading from a zip checks its CRC as well.

        Raises: SceneError if the file cannot be read.
        """
        try:
            if not self.zipped:
                with (self.path / inside).open("rb") as stream:
                    return hashlib.file_digest(stream, algorithm).hexdigest()
            found = hashlib.new(algorithm)
            with zipfile.ZipFile(self.path) as archive, archive.open(self.prefix + inside) as entry:
                while block := entry.read(2**20):
                    found.update(block)
            return found.hexdigest()
        except (OSError, KeyError, *ZIP_ERRORS) as error:
            raise SceneError(f"{self.path}: {inside} cannot be read ({error}); fetch the product again", path=str(self.path)) from error

    def signature(self) -> str:
        """A quick mark that changes when a file is replaced: names, sizes and times, no contents."""
        digest = hashlib.sha256()
        for inside in sorted(self.sizes):
            stat = self.path.stat() if self.zipped else (self.path / inside).stat()
            digest.update(f"{inside}\0{self.sizes[inside]}\0{stat.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def sha256(self) -> str:
        """Digest over the contents of every file, or of the zip as it is."""
        if self.zipped:
            return _sha256(self.path)
        digest = hashlib.sha256()
        for inside in sorted(self.sizes):
            digest.update(f"{inside}\0{_sha256(self.path / inside)}\n".encode())
        return digest.hexdigest()


@contextmanager
def making_sense(where: str, remedy: str = "fetch the product again", of: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn a number, time or name that is none, wherever foreign metadata hold it, into a refusal.

    Args: of: what else foreign values can raise. Those of XML are texts, where a TypeError is a mistake of ours; those of
        JSON may be of any type.

    Raises: SceneError in the place of ValueError, ArithmeticError and these; rsdata's own errors pass.
    """
    senseless: tuple[type[Exception], ...] = (ValueError, ArithmeticError, *of)
    try:
        yield
    except RsdataError:
        raise
    except senseless as error:
        reason = " ".join(str(error).split())[:200]
        raise SceneError(f"{where}: its metadata make no sense ({reason}); {remedy}", path=where) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def product_folder(entries: Iterable[str], markers: tuple[str, ...], where: str) -> str:
    """The folder inside a zip that is the product, with a slash at its end: where the first marker lies nearest the top.

    Raises: SceneError if no entry is named as a marker.
    """
    ordered = sorted(entries, key=len)
    found = [name for each in markers for name in ordered if fnmatchcase(PurePosixPath(name).name, each)]
    if not found:
        raise SceneError(f"{where} holds no {markers[0]}; expected a zip with one product's folder in it, so name another", path=where)
    return found[0].removesuffix(PurePosixPath(found[0]).name)


def list_files(path: Path, marker: str | tuple[str, ...] | None = None) -> ProductFiles:
    """List a product's files.

    Args:
        path: a folder, or a zip with the product's folder in it.
        marker: a file at the product's top that tells which folder of a zip is the product, as a name or pattern such
            as ``MTD_MSI*.xml``; of several the first that is found.

    Raises: SceneError if there is nothing there, the folder is empty, or the zip is damaged.
    """
    if path.is_dir():
        sizes = {item.relative_to(path).as_posix(): item.stat().st_size for item in path.rglob("*") if item.is_file()}
        if not sizes:
            raise SceneError(f"{path} is an empty folder; expected a product with its files, so fetch it again", path=str(path))
        return ProductFiles(path, "", sizes)
    if not path.is_file():
        raise SceneError(f"{path} does not exist; name a product's folder or zip", path=str(path))
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {info.filename: info.file_size for info in archive.infolist() if not info.filename.endswith("/")}
    except (OSError, ValueError, *ZIP_ERRORS) as error:  # of names and versions that are none
        raise SceneError(f"{path} is a damaged zip or none at all ({error}); fetch the product again", path=str(path)) from error
    prefix = product_folder(entries, (marker,) if isinstance(marker, str) else marker, str(path)) if marker is not None else ""
    return ProductFiles(path, prefix, {name.removeprefix(prefix): size for name, size in entries.items() if name.startswith(prefix)})
