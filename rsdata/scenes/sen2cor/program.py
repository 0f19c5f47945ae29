"""The sen2cor that is installed: where it lies, what it says of itself, and its command line in the words it knows."""

import functools
import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import ParseError, tostring

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from rsdata.errors import CorrectionError
from rsdata.recipe import Sen2cor

PROGRAM = "L2A_Process"
PROGRAM_VARIABLE = "RSDATA_SEN2COR"  # environment variable that names the program

_VERSION = re.compile(r"(?:Version:\s*|Sen2Cor[ _-]+v?)0*(\d+)\.0*(\d+)(?:\.0*(\d+))?")
_OPTION = re.compile(r"--[A-Za-z][\w-]*")


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
