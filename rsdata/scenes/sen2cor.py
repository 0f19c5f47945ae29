"""Atmospheric correction by sen2cor, ESA's own program: Level-1C in, a Level-2A product that was looked at out.

The program is never trusted with the user's files nor taken at its word. It works on a copy in a scratch folder of its
own, inside a process group that ends with us, and what it leaves is recognised by its metadata and decoded band by band
before anybody may use it: sen2cor is known to end with exit code 0 and an empty ``IMG_DATA``
(https://github.com/ranghetti/sen2r/issues/380) and to hang (https://github.com/ranghetti/sen2r/issues/346).
"""

import fcntl
import functools
import hashlib
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO
from xml.etree.ElementTree import ParseError, tostring

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from rsdata.errors import CorrectionError, SceneError
from rsdata.recipe import Sen2cor
from rsdata.records import Sentinel2Scene
from rsdata.scenes.sentinel2 import LAYERS, Sentinel2Product, check_complete, check_contents, open_sentinel2
from rsdata.sensors import SENTINEL2

PROGRAM = "L2A_Process"
PROGRAM_VARIABLE = "RSDATA_SEN2COR"  # environment variable that names the program
MEMORY_BYTES = 8 * 2**30  # of one run over a full tile
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

_VERSION = re.compile(r"(?:Version:\s*|Sen2Cor[ _-]+v?)0*(\d+)\.0*(\d+)(?:\.0*(\d+))?")
_OPTION = re.compile(r"--[A-Za-z][\w-]*")
_DEM_LINE = re.compile(
    r"^.*\bDEM\b.*(?:not found|not exist|missing|no such|cannot|could not|not available|error|fail).*$", re.IGNORECASE | re.MULTILINE
)
_COMPACT_NAME = re.compile(r"S2[A-D]_MSIL1C_")
_USAGE_EXIT = 2  # of a program that does not understand its command line


# --- the program ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Program:
    """An installed sen2cor: where it lies, and what it says of itself."""

    path: Path
    version: str  # such as 2.11.0
    options: frozenset[str]  # that its help lists, with their dashes

    @property
    def number(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.version.split("."))

    def __str__(self) -> str:
        return f"sen2cor {self.version}"


def find_program(setting: str | None = None) -> Path:
    """Where sen2cor lies: as set, else as the environment variable RSDATA_SEN2COR says, else on PATH.

    Raises: CorrectionError if it is nowhere.
    """
    asked = setting or os.environ.get(PROGRAM_VARIABLE)
    found = shutil.which(asked or PROGRAM)
    if found is None and asked and (inside := Path(asked).expanduser() / "bin" / PROGRAM).is_file():
        found = shutil.which(str(inside))  # the folder sen2cor was installed in
    if found is None:
        where = f"{asked} is no program that can be run" if asked else f"{PROGRAM} is not on PATH"
        raise CorrectionError(
            f"{where}; install sen2cor from https://step.esa.int/main/snap-supported-plugins/sen2cor/ and name its {PROGRAM} "
            f"with --program, `sen2cor.program` in the recipe, or the environment variable {PROGRAM_VARIABLE}",
            program=asked,
        )
    return Path(found).absolute()


def installed(setting: str | None = None) -> Program:
    """The sen2cor that is set or on PATH, asked once as long as its file stays the same."""
    path = find_program(setting)
    return _asked(path, path.stat().st_mtime_ns)


@functools.lru_cache
def _asked(path: Path, changed_ns: int) -> Program:
    return ask_program(path)


def ask_program(path: Path, timeout_s: float = 120) -> Program:
    """Ask sen2cor for its version and options; both stand in its help.

    The banner reads ``Sentinel-2 Level 2A Processor (Sen2Cor). Version: 2.8.0, created: 2019.02.20, supporting …`` in 2.3
    to 2.8 and pads its numbers in later ones (``03.02.00``). Which options exist is read off, not looked up by version:
    2.5 has no ``--output_dir``, 2.8 and later do.

    Raises: CorrectionError if it does not answer or does not say a version.
    """
    try:
        answer = subprocess.run(
            [str(path), "--help"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CorrectionError(f"{path} --help did not answer within {timeout_s:.0f} s; see that sen2cor runs by itself") from error
    except OSError as error:
        raise CorrectionError(f"{path} cannot be run: {error.strerror or error}; see that sen2cor runs by itself") from error
    text = " ".join(answer.stdout.decode(errors="replace").split())
    match = _VERSION.search(text)
    if match is None:
        raise CorrectionError(
            f"{path} --help does not say a version of sen2cor but {text[:120]!r}; name sen2cor's {PROGRAM}", program=str(path)
        )
    return Program(path, ".".join(str(int(part or 0)) for part in match.groups()), frozenset(_OPTION.findall(text)))


def build_command(program: Program, product: Path, output: Path, options: Sen2cor, gipp: Path | None) -> list[str]:
    """The command line for one product, in the words this version of sen2cor knows.

    Raises: CorrectionError if a setting has no option in this version.
    """
    wanted: dict[str, str | None] = {
        "--resolution": str(options.resolution),
        "--GIP_L2A": str(gipp) if gipp else None,
        "--GIP_L2A_SC": options.gipp_sc,
        "--GIP_L2A_AC": options.gipp_ac,
        "--GIP_L2A_PB": options.gipp_pb,
        "--processing_baseline": options.processing_baseline,
    }
    given = {name: value for name, value in wanted.items() if value is not None}
    if unknown := sorted(set(given) - program.options):
        raise CorrectionError(
            f"{program} has no {', '.join(unknown)}; leave the setting out or use a version that has it", version=program.version
        )
    if "--output_dir" in program.options:  # 2.5 and before write beside the input
        given["--output_dir"] = str(output)
    return [str(program.path), *(part for pair in given.items() for part in pair), str(product)]


def options_digest(options: Sen2cor) -> str:
    """Digest over the settings that decide the pixels: resolution, baseline, contents of GIPP files, files of the DEM."""
    digest = hashlib.sha256(f"{options.resolution} {options.processing_baseline}".encode())
    for path in (options.gipp, options.gipp_sc, options.gipp_ac, options.gipp_pb):
        digest.update(b"\0" + (hashlib.sha256(_checked(path).read_bytes()).digest() if path else b"none"))
    if options.dem:
        for file in _dem_files(options.dem):
            digest.update(f"\0{file.name} {file.stat().st_size}".encode())
    return digest.hexdigest()


def _checked(path: str) -> Path:
    if not Path(path).is_file():
        raise CorrectionError(f"{path} is no file; name a GIPP file of sen2cor, such as …/sen2cor/2.11/cfg/L2A_GIPP.xml", path=path)
    return Path(path)


def _dem_files(folder: str) -> list[Path]:
    files = sorted(file for file in Path(folder).rglob("*") if file.is_file()) if Path(folder).is_dir() else []
    if not files:
        raise CorrectionError(
            f"the DEM folder {folder} {'is empty' if Path(folder).is_dir() else 'does not exist'}; put the DEM's tiles there, "
            "or leave `dem` out to correct without terrain",
            path=folder,
        )
    return files


# --- the way of one product -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corrected:
    """A Level-2A product in its scratch folder, found whole, and how it came about."""

    product: Sentinel2Product
    command: list[str]
    mended: list[str]
    attempts: int


def open_l1c(path: Path) -> Sentinel2Product:
    """Open a product that is to be corrected.

    Raises: SceneError if it cannot be opened; CorrectionError if it is not Level-1C.
    """
    product = open_sentinel2(path)
    if product.scene.level != "L1C":
        raise CorrectionError(f"{path} is Level-{product.scene.level[1:]} already; expected Level-1C, so use it as it is", path=str(path))
    return product


def correct(source: Sentinel2Product, program: Program, options: Sen2cor, scratch: Path) -> Corrected:
    """Run sen2cor on a copy of a Level-1C product, as often as it is allowed to, and see that its output is whole.

    Everything is written below ``scratch``, of which ``log.txt`` says what was done and holds all that sen2cor printed.

    Raises: SceneError if the input is damaged; CorrectionError if no attempt gave a whole product.
    """
    stops = _stops
    log = scratch / "log.txt"
    note(log, f"{source.files.path}\n{program} at {program.path}")
    check_supported(source.scene, program)
    check_input(source)
    copy, mended = prepare(source, scratch / "input")
    for line in mended:
        note(log, line)
    gipp = write_gipp(program, options, scratch)
    for attempt in range(1, options.retries + 2):
        output = scratch / f"output-{attempt}"
        output.mkdir()
        command = build_command(program, copy, output, options, gipp)
        note(log, f"attempt {attempt}: {' '.join(command)}")
        try:
            _run(command, program, options, scratch, log, stops)
            product = find_output([output, copy.parent], copy, source.scene, program)
            check_output(product, source.scene, options.resolution, program)
        except CorrectionError as error:
            note(log, f"attempt {attempt} failed: {error}")
            if attempt > options.retries or not error.context.get("again", False):
                error.context["attempts"], error.context["command"] = attempt, command
                raise
            for made in copy.parent.iterdir():
                if made != copy:
                    shutil.rmtree(made, ignore_errors=True)
            continue
        note(log, f"attempt {attempt} gave {product.scene.product}")
        return Corrected(product, command, mended, attempt)
    raise CorrectionError(f"{source.scene.product} was not tried; `retries` must not be negative")


def note(log: Path, line: str) -> None:
    """Add a line of our own to a log."""
    with log.open("a", encoding="utf-8") as stream:
        stream.write(f"rsdata {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {line}\n")


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
                if entry.is_dir():
                    place.mkdir(parents=True, exist_ok=True)
                    continue
                place.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(entry) as stream, place.open("xb") as out:
                    _copy_at_most(stream, out, entry.file_size)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise refuse(f"is damaged ({error})") from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise refuse(f"holds the same path twice ({Path(error.filename).name})") from error


def _copy_at_most(stream: IO[bytes], out: IO[bytes], size: int) -> None:
    written = 0
    while block := stream.read(2**20):
        written += len(block)
        if written > size:
            raise zipfile.BadZipFile("an entry is longer than the archive says")
        out.write(block)


def write_gipp(program: Program, options: Sen2cor, scratch: Path) -> Path | None:
    """The GIPP to run with: the user's own, or with a DEM a copy that names its folder and forbids to go on without it.

    With ``Force_Exit_On_DEM_Error`` at its default, sen2cor corrects for a flat surface where the DEM is missing, and says
    so in its log only. Source: comments in L2A_GIPP.xml, senbox-org/s2tbx, Sen2Cor-gipp211-template.xsl.
    """
    gipp = _checked(options.gipp) if options.gipp else None
    if options.dem is None:
        return gipp.absolute() if gipp else None
    _dem_files(options.dem)
    gipp = gipp or _default_gipp(program, options)
    try:
        root = fromstring(gipp.read_bytes(), forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise CorrectionError(f"{gipp} is not well-formed XML ({error}); name an L2A_GIPP.xml of sen2cor", path=str(gipp)) from error
    for tag, text in (("DEM_Directory", str(Path(options.dem).absolute())), ("Force_Exit_On_DEM_Error", "TRUE")):
        element = root.find(f".//{tag}")
        if element is not None:
            element.text = text
        elif tag == "DEM_Directory":
            raise CorrectionError(f"{gipp} has no {tag}; name an L2A_GIPP.xml of sen2cor", path=str(gipp))
    copy = scratch / "L2A_GIPP.xml"
    copy.write_bytes(b'<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="utf-8"))
    return copy


def _default_gipp(program: Program, options: Sen2cor) -> Path:
    """Where sen2cor keeps the GIPP it uses by itself: ``cfg`` in SEN2COR_HOME, by default ``~/sen2cor/<major.minor>``."""
    minor = ".".join(program.version.split(".")[:2])
    home = options.home or os.environ.get("SEN2COR_HOME") or str(Path.home() / "sen2cor" / minor)
    path = Path(home) / "cfg" / "L2A_GIPP.xml"
    if not path.is_file():
        raise CorrectionError(
            f"a DEM is set, but {path} does not exist to be told of it; name sen2cor's L2A_GIPP.xml as `gipp`", path=str(path)
        )
    return path


# --- the process ------------------------------------------------------------------------------------------

# Runs the program in a process group of its own and waits for it. Its standard input is a pipe that we hold: once we are
# gone, however that came, the pipe ends and the whole group is killed.
_KEEPER = """
import os, signal, subprocess, sys, threading
def watch():
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
threading.Thread(target=watch, daemon=True).start()
code = child.wait()
os._exit(code if code >= 0 else 128 - code)
"""

_running: set[int] = set()  # process groups
_running_lock = threading.Lock()
_stops = 0  # how often all runs were ended; a correction that began before the last stop starts no program any more


def stop_all() -> None:
    """End every sen2cor that this process runs, and let corrections that are under way start no other."""
    global _stops
    with _running_lock:
        _stops += 1
        for group in _running:
            _kill(group)


def _run(command: Sequence[str], program: Program, options: Sen2cor, scratch: Path, log: Path, stops: int) -> None:
    """Run sen2cor to its end or to ours; nothing it started outlives this call.

    Raises: CorrectionError if it ran out of time or did not end well; ``again`` in its context tells if trying once more may help.
    """
    folders = {"SEN2COR_HOME": options.home, "SEN2COR_BIN": options.tables}
    environment = {**os.environ, **{name: folder for name, folder in folders.items() if folder}}
    before = log.stat().st_size
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _KEEPER, *command],
            stdin=subprocess.PIPE, stdout=stream, stderr=subprocess.STDOUT, cwd=scratch, env=environment, start_new_session=True,
        )  # fmt: skip
        with _running_lock:
            _running.add(process.pid)
            if _stops != stops:
                _kill(process.pid)
        try:
            code = process.wait(timeout=options.timeout_s)
        except subprocess.TimeoutExpired as error:
            raise CorrectionError(
                f"{program} did not end within {options.timeout_s:,.0f} s; it was stopped with all it had started, "
                "so raise the limit (--timeout, `sen2cor.timeout_s`) if it was still at work",
                again=True,
                timeout_s=options.timeout_s,
            ) from error
        finally:
            _kill(process.pid)
            process.wait()
            with _running_lock:
                _running.discard(process.pid)
            if process.stdin is not None:
                process.stdin.close()
    if code == 0:
        return
    if _stops != stops:
        raise CorrectionError(f"{program} was stopped, as all that ran beside it; the same command begins this product again")
    code = 128 - code if code < 0 else code  # the keeper itself was killed
    printed = log.read_bytes()[before:].decode(errors="replace")
    if dem := _DEM_LINE.search(printed):
        raise CorrectionError(
            f"{program} stopped for want of a DEM ({dem.group().strip()[:200]}); put the tile into the DEM folder, "
            "or leave `dem` out to correct without terrain",
            exit_code=code,
        )
    last = next((line.strip() for line in reversed(printed.splitlines()) if line.strip()), "it printed nothing")
    if code == _USAGE_EXIT:
        raise CorrectionError(f"{program} does not understand its command line ({last[:200]}); see `{PROGRAM} --help`", exit_code=code)
    how = f"was killed by {_signal_name(code - 128)}" if code > 128 else f"ended with exit code {code}"
    remedy = "it may lack memory (8 GB a scene), so try with fewer at a time" if code - 128 == signal.SIGKILL else "its log says more"
    raise CorrectionError(f"{program} {how} ({last[:200]}); {remedy}", exit_code=code, again=True)


def _kill(group: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


# --- what it left -----------------------------------------------------------------------------------------


def find_output(folders: Sequence[Path], copy: Path, source: Sentinel2Scene, program: Program) -> Sentinel2Product:
    """Find the Level-2A product of the same tile and sensing time, by its metadata.

    Args:
        folders: where to look; the input's own copy is passed over.

    Raises: CorrectionError saying what was there instead.
    """
    seen = []
    for path in sorted({file.parent for folder in folders for file in folder.rglob("MTD_MSIL*.xml") if not file.is_relative_to(copy)}):
        if not _has_images(path):
            raise CorrectionError(
                f"{program} ended with exit code 0, but IMG_DATA of {path.name} is empty; its log says where it stopped, "
                "often for want of memory or of a DEM",
                again=True,
            )
        try:
            product = open_sentinel2(path)
        except SceneError as error:
            seen.append(f"{path.name} cannot be opened ({error})")
            continue
        scene = product.scene
        if scene.level != "L2A":
            seen.append(f"{path.name} is Level-{scene.level[1:]}")
        elif scene.tile_id != source.tile_id:
            seen.append(f"{path.name} is of tile {scene.tile_id}")
        elif scene.datetime != source.datetime:
            seen.append(f"{path.name} was sensed at {scene.datetime:%Y-%m-%dT%H:%M:%SZ}")
        else:
            return product
    what = "; ".join(seen) or "it left no product at all"
    raise CorrectionError(
        f"{program} ended with exit code 0, but {what}; expected Level-2A of tile {source.tile_id}, "
        f"sensed at {source.datetime:%Y-%m-%dT%H:%M:%SZ}, so see its log",
        again=not seen,
    )


def _has_images(product: Path) -> bool:
    return any(file.is_file() and file.stat().st_size for file in product.glob("GRANULE/*/IMG_DATA/**/*"))


def expected_bands(resolution: int) -> list[str]:
    """Bands and layers in their native resolution that sen2cor makes when asked for 10, 20 or 60 m.

    At 10 m it makes all, at 20 m those of 20 m and (``Downsample_20_to_60``) 60 m, at 60 m only those of 60 m.
    """
    gsds = {band.name: band.gsd_m for band in SENTINEL2.bands} | {layer: LAYERS[layer] for layer in ("SCL", "CLDPRB", "SNWPRB")}
    return [name for name, gsd_m in gsds.items() if gsd_m >= resolution]


def check_output(product: Sentinel2Product, source: Sentinel2Scene, resolution: int, program: Program) -> None:
    """See that a product is whole: all bands, on the input's ground, as its metadata say, decoded, neither empty nor constant.

    Bands are decoded one at a time. Water or a clear sky may give a scene class or a probability that is the same
    everywhere, so layers need only decode, and the classes hold something.

    Raises: CorrectionError naming the band and what is wrong with it.
    """
    scene = product.scene
    place, expected = ((each.epsg, each.ul_x_m, each.ul_y_m, each.width_m, each.height_m) for each in (scene, source))
    if place != expected:
        raise CorrectionError(f"{program} made {scene.product} on {place}; expected the input's own grid {expected}")
    names = expected_bands(resolution)
    if missing := [name for name in names if name not in scene.bands]:
        raise CorrectionError(
            f"{program} ended with exit code 0, but {scene.product} lacks {', '.join(missing)}; its log says where it stopped",
            again=True,
            missing=missing,
        )
    try:
        if resolution == min(band.gsd_m for band in SENTINEL2.bands):
            check_complete(product)
        for name in names:
            pixels = product.read(name)
            low, high = int(pixels.min()), int(pixels.max())
            if high == scene.nodata and name not in ("CLDPRB", "SNWPRB"):
                raise CorrectionError(f"{program} made {scene.product} with {name} empty: every pixel is no data", again=True, band=name)
            if low == high and name not in LAYERS:
                raise CorrectionError(
                    f"{program} made {scene.product} with {name} constant: every pixel is {low}; see its log", again=True, band=name
                )
    except CorrectionError:
        raise
    except SceneError as error:
        reason = str(error).replace(", fetch the product again", "").replace("; fetch the product again", "")
        raise CorrectionError(f"{program} left a damaged product: {reason}", again=True, **_without_again(error.context)) from error


def _without_again(context: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in context.items() if name != "again"}


def settle(product: Path, folder: Path) -> None:
    """Move a product into an empty folder, on another file system by copying, and have every file reach the disk."""
    try:
        product.replace(folder)
    except OSError:  # another file system
        shutil.copytree(product, folder, dirs_exist_ok=True)
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())


# --- scratch ----------------------------------------------------------------------------------------------


@contextmanager
def scratch_folder(parent: Path, name: str) -> Iterator[Path]:
    """A folder for one run alone, gone afterwards; folders of runs that were killed are removed first.

    A run holds a lock on its folder for as long as it lives, so what nobody holds a lock on is a leftover.
    """
    parent.mkdir(parents=True, exist_ok=True)
    with _locked(parent / "lock"):
        for old in sorted(parent.iterdir()):
            if old.is_dir() and not _is_held(old / "lock"):
                shutil.rmtree(old, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=parent))
        holding = _locked(folder / "lock")
        holding.__enter__()
    try:
        yield folder
    finally:
        holding.__exit__(None, None, None)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def held(parent: Path, name: str) -> Iterator[None]:
    """Wait until nobody else works on this product below this folder, in this process or another, and keep others waiting.

    Raises: CorrectionError if all runs were stopped meanwhile.
    """
    stops = _stops
    parent.mkdir(parents=True, exist_ok=True)
    with _locked(parent / f"{name}.lock"):
        if _stops != stops:
            raise CorrectionError(f"{name} was not begun, as all that ran was stopped; the same command begins it")
        yield


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _is_held(path: Path) -> bool:
    try:
        with path.open("a") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
