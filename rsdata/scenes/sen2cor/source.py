"""Level-1C products before sen2cor sees them: held to be whole, copied, unpacked safely, and mended in the copy."""

import errno
import re
import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath
from typing import IO

from rsdata.errors import CorrectionError, SceneError
from rsdata.records import Sentinel2Scene
from rsdata.scenes.product import ZIP_ERRORS
from rsdata.scenes.sen2cor.program import Program
from rsdata.scenes.sentinel2 import Sentinel2Product, check_contents, open_sentinel2
from rsdata.sensors import SENTINEL2

OFFSET_VERSION = (2, 10)  # the first that knows RADIO_ADD_OFFSET (product specification 14.9)
CIRRUS = "B10"  # in Level-1C only
MANIFEST = "manifest.safe"

# A full Level-1C product unpacks to about 0.8 GB in some 150 files, and JPEG 2000 does not shrink any further.
MAX_UNPACKED_BYTES = 16 * 2**30
MAX_ENTRIES = 20_000
MAX_RATIO = 50  # unpacked to packed, above the floor
RATIO_FLOOR_BYTES = 256 * 2**20

# What ESA's products hold, and archives that keep files but no empty folders lose on the way.
# Source: https://github.com/vascobnunes/fetchLandsatSentinelFromGoogleCloud/issues/20, and the SAFE layout of S2 PSD 14.
_TOP_FOLDERS = ("AUX_DATA", "HTML", "rep_info")
_GRANULE_FOLDERS = ("AUX_DATA", "QI_DATA", "IMG_DATA")
_DATASTRIP_FOLDERS = ("QI_DATA",)

_COMPACT_NAME = re.compile(r"S2[A-D]_MSIL1C_")


def open_l1c(path: Path) -> Sentinel2Product:
    """Open a product that is to be corrected.

    Raises: SceneError if it cannot be opened; CorrectionError if it is not Level-1C.
    """
    product = open_sentinel2(path)
    if product.scene.level != "L1C":
        raise CorrectionError(f"{path} is Level-{product.scene.level[1:]} already; expected Level-1C, so use it as it is", path=str(path))
    return product


def check_supported(scene: Sentinel2Scene, program: Program) -> None:
    """Refuse a pairing of product and version that would be wrong without anybody noticing.

    Source: Sen2Cor FAQ, radiometric offset, https://forum.step.esa.int/t/sen2cor-frequently-asked-questions/39182.

    Raises: CorrectionError if the product carries an offset that this version does not know, or has the naming before
        December 2016, whose products hold many tiles (https://github.com/ranghetti/sen2r/issues/118).
    """
    if not _COMPACT_NAME.match(scene.product):
        raise CorrectionError(
            f"{scene.product} has the naming before December 2016; sen2cor is run on products in compact naming only, "
            "so fetch the reprocessed product of the same date",
            product=scene.product,
        )
    if any(scene.offsets.values()) and program.number < OFFSET_VERSION:
        raise CorrectionError(
            f"{scene.product} is of baseline {scene.baseline} and carries a radiometric offset, which {program} does not know; "
            "its result would be off by 0.1 in reflectance, so use sen2cor 2.10 or later",
            product=scene.product,
            version=program.version,
        )


def check_input(source: Sentinel2Product) -> None:
    """See that a Level-1C product is whole, so that hours are not spent on a damaged one.

    Raises: SceneError naming the band that is missing, or the file that is cut short or damaged.
    """
    files = source.files
    missing = [band.name for band in SENTINEL2.bands if band.name not in source.scene.bands]
    if not any(PurePosixPath(name).stem.endswith(f"_{CIRRUS}") and "/IMG_DATA/" in name for name in files.sizes):
        missing.append(CIRRUS)
    if missing:
        raise SceneError(
            f"{files.path} lacks {', '.join(missing)}; expected all thirteen bands, so fetch the product again", missing=missing
        )
    if not any(re.fullmatch(r"DATASTRIP/[^/]+/MTD_DS\.xml", name) for name in files.sizes):
        raise SceneError(f"{files.path} lacks DATASTRIP/…/MTD_DS.xml, which sen2cor reads; fetch the whole product again")
    for stream in files.read_xml(MANIFEST).iter("byteStream"):
        location, stated = stream.find("fileLocation"), stream.get("size", "")
        inside = location.get("href", "").removeprefix("./") if location is not None else ""
        if stated.isdigit() and files.sizes.get(inside, int(stated)) < int(stated):
            raise SceneError(
                f"{files.path}: {inside} has {files.sizes[inside]} bytes, but {MANIFEST} says {stated}; "
                "the file is cut short, fetch the product again",
                file=inside,
            )
    check_contents(source)


def prepare(source: Sentinel2Product, folder: Path) -> tuple[Path, list[str]]:
    """Copy or unpack a product, and mend in the copy what downloads lack.

    Files are copied and not linked, so that a program that writes into its input cannot reach the user's product.

    Returns: the copy, named as sen2cor wants it (``S2?_MSIL1C*.SAFE``), and a sentence for each thing mended.
    Raises: CorrectionError if a zip is not safe to unpack.
    """
    copy = folder / f"{source.scene.product}.SAFE"
    mended = []
    folder.mkdir(parents=True, exist_ok=True)
    if source.files.zipped:
        unpack(Path(source.files.path), folder / "unpacked")
        (folder / "unpacked" / source.files.prefix).replace(copy)
        shutil.rmtree(folder / "unpacked", ignore_errors=True)
    else:
        shutil.copytree(source.files.path, copy)
    for item in (copy, *copy.rglob("*")):
        item.chmod(item.stat().st_mode | (stat.S_IRWXU if item.is_dir() else stat.S_IRUSR | stat.S_IWUSR))
    if source.files.name != copy.name:
        mended.append(f"renamed {source.files.name} to {copy.name} in the copy, as sen2cor goes by the name")
    wanted = [copy / name for name in _TOP_FOLDERS]
    wanted += [granule / name for granule in sorted(copy.glob("GRANULE/*/")) for name in _GRANULE_FOLDERS]
    wanted += [strip / name for strip in sorted(copy.glob("DATASTRIP/*/")) for name in _DATASTRIP_FOLDERS]
    for path in wanted:
        if not path.is_dir():
            path.mkdir(parents=True)
            mended.append(f"added the empty folder {path.relative_to(copy).as_posix()} to the copy, as the download lacks it")
    return copy, mended


def unpack(archive: Path, target: Path) -> None:
    """Unpack a zip that may be hostile.

    Nothing is written before every entry was judged, and no more bytes than the limits are written whatever the
    archive states of itself.

    Raises: CorrectionError if an entry leaves the folder, is no plain file, is encrypted or damaged, or the whole is too large.
    """

    def refuse(reason: str) -> CorrectionError:
        return CorrectionError(f"{archive} {reason}, so it is not unpacked; fetch the product again from its source", path=str(archive))

    try:
        with zipfile.ZipFile(archive) as opened:
            entries = opened.infolist()
            for entry in entries:
                path = PurePosixPath(entry.filename)
                if (
                    path.is_absolute()
                    or ".." in path.parts
                    or "\\" in entry.filename
                    or ":" in entry.filename
                    or "\0" in entry.orig_filename
                ):
                    raise refuse(f"holds {entry.filename!r}, which would lie outside its folder")
                kind = stat.S_IFMT(entry.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise refuse(f"holds {entry.filename!r}, which is a link or a device and no plain file")
                if entry.flag_bits & 1:
                    raise refuse(f"holds {entry.filename!r}, which is encrypted")
            total, packed = sum(entry.file_size for entry in entries), max(1, archive.stat().st_size)
            if len(entries) > MAX_ENTRIES or total > MAX_UNPACKED_BYTES or (total > RATIO_FLOOR_BYTES and total / packed > MAX_RATIO):
                raise refuse(f"would unpack to {total:,} bytes in {len(entries):,} files, more than any product")
            for entry in entries:
                place = target / entry.filename
                if entry.filename.endswith("/"):
                    place.mkdir(parents=True, exist_ok=True)
                    continue
                place.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(entry) as stream, place.open("xb") as out:
                    _copy_at_most(stream, out, entry.file_size)
    except ZIP_ERRORS as error:
        raise refuse(f"is damaged ({error})") from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise refuse(f"holds the same path twice ({Path(error.filename).name})") from error
    except OSError as error:  # a place beyond the file's beginning, or a name that the system cannot hold
        if error.errno not in (errno.EINVAL, errno.ENAMETOOLONG, errno.EILSEQ):
            raise
        raise refuse(f"is damaged ({error.strerror})") from error


def _copy_at_most(stream: IO[bytes], out: IO[bytes], size: int) -> None:
    written = 0
    while block := stream.read(2**20):
        written += len(block)
        if written > size:
            raise zipfile.BadZipFile("an entry is longer than the archive says")
        out.write(block)
