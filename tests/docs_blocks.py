"""Code in the documentation: found page by page, and run as it stands.

Every block is fenced and says its language. ``sh`` and ``python`` blocks are run, in order, in one folder for each page; ``yaml`` is
held against what rsdata reads. Blocks of nothing but ``make`` and ``python tests/…`` are for a checkout and take minutes: what they
name has to be there, and is not run. A comment on the line before a block says what else becomes of it:

    <!-- slow -->                       run by `make check-docs` alone
    <!-- fails -->                      what it shows ends with another exit code than 0
    <!-- run by tests/test_x.py -->     that file runs it, with more to compare
    <!-- not run: needs a GPU -->       nobody does, and why
"""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from rsdata.commands import app
from rsdata.errors import RsdataError

ROOT = Path(__file__).parents[1]
PAGES = sorted({ROOT / "README.md", *(ROOT / "docs").rglob("*.md")})
SHOWN = {"text", "csv", "json", "toml", "html"}  # languages that are looked at and not run
OWN_PROCESS = {"build", "demo"}  # verbs of rsdata that start processes, and want one without tests
_FENCE = re.compile(r"^( *)```(.*)$")
_MARK = re.compile(r"^ *<!-- (slow|fails|run by|not run:)(?: (.+))? -->$")


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: Path
    line: int  # of its first line of code, from 1
    language: str
    code: str
    mark: str | None = None  # slow, fails, run by, not run:
    said: str | None = None  # the rest of the mark

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def of_checkout(self) -> bool:
        """Whether its commands are those of a checkout, which run tests and benchmarks themselves."""
        return self.language == "sh" and all(each.startswith(("make ", "python tests/")) for each in commands(self.code))

    @property
    def compiled(self) -> str:
        """Its code on the lines where it stands, so that a traceback names them."""
        return "\n" * (self.line - 1) + self.code


def blocks_of(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order.

    Raises: ValueError if one is never closed.
    """
    lines, number = page.read_text(encoding="utf-8").splitlines(), 0
    while number < len(lines):
        opened = _FENCE.match(lines[number])
        if opened is None:
            number += 1
            continue
        marked = _MARK.match(lines[number - 1]) if number else None
        start = number + 1
        number = start
        while not (number < len(lines) and lines[number].strip() == "```"):
            number += 1
            if number > len(lines):
                raise ValueError(f"{page}:{start} opens a block that is never closed")
        code = "\n".join(line.removeprefix(opened[1]) for line in lines[start:number]) + "\n"
        yield Block(page, start + 1, opened[2].strip(), code, *(marked.groups() if marked else ()))
        number += 1


def outside(page: Path) -> list[tuple[int, str]]:
    """Lines of a page that stand in no fenced block, with their numbers from 1."""
    found, inside = [], False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if _FENCE.match(line):
            inside = not inside
        elif not inside:
            found.append((number, line))
    return found


def commands(code: str) -> Iterator[str]:
    """The commands of a shell block, one by one; a line that ends with a backslash goes on."""
    for line in code.replace("\\\n", " ").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield line.strip()


def words_of(command: str, folder: Path) -> list[str]:
    """The words of a command as a shell makes them: quotes, names with ``*``, comments."""
    shell = ["bash", "-c", f"printf '%s\\0' {command}"]
    done = subprocess.run(shell, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.split("\0")[:-1]


def run_command(command: str, folder: Path, replaced: Mapping[str, str], fails: bool) -> str:
    """Run one command in a folder, that of rsdata in this process; return what it printed.

    Args:
        replaced: words, or parts of them, that stand for something else here, such as the address of a server.
        fails: whether it should.

    Raises: AssertionError if it ends in another way than it should.
    """
    said = command
    for name, value in replaced.items():
        said = said.replace(name, value)
    words = words_of(said, folder) if said.startswith("rsdata ") else []
    if words and words[1] not in OWN_PROCESS:
        done = CliRunner().invoke(app, words[1:])
        if done.exception is not None and not isinstance(done.exception, SystemExit | RsdataError):
            raise done.exception
        code, printed = done.exit_code, f"{done.output}{done.exception or ''}"
    else:
        ran = subprocess.run(
            [sys.executable, "-m", *words] if words else ["bash", "-e", "-c", said], cwd=folder, capture_output=True, text=True, check=False
        )
        code, printed = ran.returncode, ran.stdout + ran.stderr
    assert (code != 0) == fails, f"`{shlex.join(shlex.split(command, comments=True))}` ended with {code}:\n{printed[-3000:]}"
    return printed


def run_block(block: Block, folder: Path, replaced: Mapping[str, str], names: dict[str, object]) -> None:
    """Run one block; a program finds what earlier programs of the page made, and ``names``."""
    if block.language == "sh":
        for command in commands(block.code):
            run_command(command, folder, replaced, block.mark == "fails")
    elif block.language == "python":
        exec(compile(block.compiled, str(block.page), "exec"), names)
