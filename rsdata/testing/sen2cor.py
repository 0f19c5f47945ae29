"""Puts a stand-in for sen2cor on disk: a program with its command line that makes Level-2A products, or fails as it can.

sen2cor itself cannot be shipped. What each failure looks like was taken from public reports: exit code 0 with an empty
``IMG_DATA`` (https://github.com/ranghetti/sen2r/issues/380), a hang at the DEM (https://github.com/ranghetti/sen2r/issues/346).
"""

import sys
from pathlib import Path

from rsdata.errors import CorrectionError
from rsdata.testing import l2a_process

BEHAVIOURS = l2a_process.BEHAVIOURS


def write_stand_in(
    path: Path, behaviour: str = "correct", *, version: str = "2.11.0", seconds: float = 0.0, notes: Path | None = None
) -> Path:
    """Write an executable ``L2A_Process``.

    Args:
        path: the file to write, or a folder to write ``L2A_Process`` in.
        behaviour: one of BEHAVIOURS; "flaky" fails the first time that ``notes`` knows of.
        version: what it says of itself; before 2.8.0 it has fewer options, before 2.10.0 it knows no offset.
        seconds: time a run passes before it writes anything.
        notes: a folder where every run leaves a file named by its process number, with its arguments one per line.

    Raises: CorrectionError if the behaviour is not known.
    """
    if behaviour not in BEHAVIOURS:
        raise CorrectionError(f"{behaviour!r} is not what the stand-in can do; expected one of {', '.join(BEHAVIOURS)}")
    path = path / "L2A_Process" if path.is_dir() else path
    if notes is not None:
        notes.mkdir(parents=True, exist_ok=True)
    # The package is entered without its ``__init__``, so that a run loads only what it uses and takes half a second.
    launcher = f"""#!{sys.executable}
import importlib, pathlib, sys, types
package = types.ModuleType("rsdata.testing")
package.__path__ = [{str(Path(l2a_process.__file__).parent)!r}]
sys.modules["rsdata.testing"] = package
module = importlib.import_module("rsdata.testing.l2a_process")
notes = {str(notes) if notes else None!r}
sys.exit(module.main({behaviour!r}, {version!r}, {seconds!r}, pathlib.Path(notes) if notes else None))
"""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(launcher, encoding="utf-8")
    path.chmod(0o755)
    return path
