"""Atmospheric correction by sen2cor, ESA's own program: Level-1C in, a Level-2A product that was looked at out.

The program is never trusted with the user's files nor taken at its word. It works on a copy in a scratch folder of its
own, inside a process group that ends with us, and what it leaves is recognised by its metadata and decoded band by band
before anybody may use it: sen2cor is known to end with exit code 0 and an empty ``IMG_DATA``
(https://github.com/ranghetti/sen2r/issues/380) and to hang (https://github.com/ranghetti/sen2r/issues/346).
"""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from rsdata.errors import CorrectionError
from rsdata.recipe import Sen2cor
from rsdata.scenes.sen2cor.output import check_output, expected_bands, find_output, settle
from rsdata.scenes.sen2cor.process import run, stop_all, stops
from rsdata.scenes.sen2cor.program import (
    PROGRAM,
    PROGRAM_VARIABLE,
    Program,
    ask_program,
    build_command,
    find_program,
    installed,
    options_digest,
    write_gipp,
)
from rsdata.scenes.sen2cor.scratch import held, scratch_folder
from rsdata.scenes.sen2cor.source import check_input, check_supported, open_l1c, prepare, unpack
from rsdata.scenes.sentinel2 import Sentinel2Product

MEMORY_BYTES = 8 * 2**30  # of one run over a full tile


@dataclass(frozen=True)
class Corrected:
    """A Level-2A product in its scratch folder, found whole, and how it came about."""

    product: Sentinel2Product
    command: list[str]
    mended: list[str]
    attempts: int


def correct(source: Sentinel2Product, program: Program, options: Sen2cor, scratch: Path) -> Corrected:
    """Run sen2cor on a copy of a Level-1C product, as often as it is allowed to, and see that its output is whole.

    Everything is written below ``scratch``, of which ``log.txt`` says what was done and holds all that sen2cor printed.

    Raises: SceneError if the input is damaged; CorrectionError if no attempt gave a whole product.
    """
    began = stops()
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
            run(command, program, options, scratch, log, began)
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


__all__ = [
    "MEMORY_BYTES",
    "PROGRAM",
    "PROGRAM_VARIABLE",
    "Corrected",
    "Program",
    "ask_program",
    "build_command",
    "check_input",
    "check_supported",
    "correct",
    "expected_bands",
    "find_output",
    "find_program",
    "held",
    "installed",
    "open_l1c",
    "options_digest",
    "prepare",
    "scratch_folder",
    "settle",
    "stop_all",
    "unpack",
    "write_gipp",
]
