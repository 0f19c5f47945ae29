"""Damage whatever rsdata reads of others, in every way that comes to mind: each must be read or refused in words, soon and in bounds.

    python tests/benchmarks/fuzz.py [--seconds S] [--seed N] [--only NAME…]

Readers run in a process of their own whose memory is limited, so a crash, an endless loop and a greedy allocation are seen and
named. Damage follows from a seed: ``--only NAME --seed N --inputs 1`` repeats a finding. Readers and originals are in
``fuzz_targets.py``; video blobs are damaged with their checksums mended, by ``video_fuzz.py``.
"""

import argparse
import copy
import importlib
import json
import multiprocessing
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import yaml

MEMORY_BYTES = 3 * 2**29  # address space that reading may take beyond what the process has before
SECONDS_EACH = 5.0  # of a processor; longer is a finding
_SILENCE_S = 120.0  # after this the process is ended
READY = "ready"

Input = tuple[str, int]  # kind of input and number
_NUMBERS = (0, 1, -1, 2, 255, 65_535, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63 - 1, 2**63, 2**64, 10**30, -(2**63))
_TEXTS = (
    "", " ", "nan", "inf", "-inf", "1e308", "1e999", "-0", "٣", "0x10", "../../etc/passwd", "/dev/zero", "\x00", "é" * 300, "a" * 70_000,
    "<b>", "[[[[", "null", "true", "9999-12-31T23:59:59Z", "0000-00-00T00:00:00Z", "2023-02-30", "{}", "%s%n",
)  # fmt: skip
_THINGS: tuple[Any, ...] = (None, True, [], {}, [[]], [None], {"": 0}, 1.5, float("nan"), *_NUMBERS, *_TEXTS)


# --- damage -----------------------------------------------------------------------------------------------


def _pick(rng: np.random.Generator, things: Sequence[Any]) -> Any:
    return things[int(rng.integers(len(things)))]


def damage_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """Any kind of file: cut, flipped, overwritten, with runs inserted, removed, repeated or exchanged, and with absurd numbers."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        size = max(1, len(changed))
        at, length = int(rng.integers(size)), int(rng.integers(1, 32))
        if rng.random() < 0.4:  # headers and footers matter most
            at = int(rng.integers(min(size, 200))) if rng.random() < 0.5 else size - 1 - int(rng.integers(min(size, 400)))
        kind = int(rng.integers(9))
        if kind == 0:
            del changed[at:]
        elif kind == 1:
            for place in rng.integers(at, min(size, at + length), int(rng.integers(1, 6))):
                if place < len(changed):
                    changed[place] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            changed[at : at + length] = rng.bytes(length)
        elif kind == 3:
            changed[at:at] = rng.bytes(length)
        elif kind == 4:
            del changed[at : at + length]
        elif kind == 5:
            changed[at:at] = changed[at : at + length] * int(rng.integers(1, 30))
        elif kind == 6:
            other = int(rng.integers(size))
            first, second = changed[at : at + length], changed[other : other + length]
            changed[at : at + len(second)], changed[other : other + len(first)] = second, first
        else:
            wide = _pick(rng, (1, 2, 4, 8))
            number = int(_pick(rng, _NUMBERS)) % (1 << (8 * wide))
            changed[at : at + wide] = number.to_bytes(wide, _pick(rng, ("little", "big")))
    return bytes(changed)


def _damage_tree(root: Any, rng: np.random.Generator) -> Any:
    """A tree of dicts and lists with one to three nodes replaced, removed or repeated."""
    for _ in range(int(rng.integers(1, 4))):
        holder, nodes = {"root": root}, []  # type: dict[str, Any], list[tuple[Any, Any]]
        stack: list[Any] = [holder]
        while stack:
            node = stack.pop()
            places = list(node) if isinstance(node, dict) else list(range(len(node)))
            nodes += [(node, place) for place in places]
            stack += [node[place] for place in places if isinstance(node[place], dict | list)]
        node, place = _pick(rng, nodes)
        kind = int(rng.integers(5))
        if kind == 0 and node is not holder:
            del node[place]
        elif kind == 1 and isinstance(node, list):
            node += [copy.deepcopy(node[place]) for _ in range(int(rng.integers(1, 20)))]
        elif kind == 2 and isinstance(node, dict) and node is not holder:
            node[_pick(rng, _TEXTS)] = node.pop(place)
        elif kind == 3 and isinstance(node[place], int | float) and not isinstance(node[place], bool):
            node[place] = _pick(rng, (-node[place], node[place] * 10**9, node[place] + 0.5, str(node[place]), [node[place]]))
        else:
            node[place] = copy.deepcopy(_pick(rng, _THINGS))  # its own, so that no tree ever holds itself
        root = holder["root"]
    return root


def damage_json(data: bytes, rng: np.random.Generator) -> bytes:
    """JSON that stays JSON, but says other things."""
    return json.dumps(_damage_tree(json.loads(data), rng)).encode("utf-8", "surrogatepass")


def damage_jsonl(data: bytes, rng: np.random.Generator) -> bytes:
    lines = data.splitlines()
    place = int(rng.integers(len(lines)))
    lines[place] = damage_json(lines[place], rng)
    return b"\n".join(lines) + b"\n"


def damage_yaml(data: bytes, rng: np.random.Generator) -> bytes:
    tree = _damage_tree(yaml.safe_load(data), rng)
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True).encode("utf-8", "surrogatepass")


def damage_xml(data: bytes, rng: np.random.Generator) -> bytes:
    """XML that stays XML: elements and attributes removed, repeated, moved, renamed, or saying other things."""
    root = ElementTree.fromstring(data)
    for _ in range(int(rng.integers(1, 4))):
        parents = [(parent, child) for parent in root.iter() for child in parent]
        if not parents:
            break
        if rng.random() < 0.5:  # among the parts that are few: every tag alike, however often it occurs
            tag = _pick(rng, sorted({child.tag for _, child in parents}))
            parents = [pair for pair in parents if pair[1].tag == tag]
        parent, child = _pick(rng, parents)
        kind = int(rng.integers(7))
        if kind == 0:
            parent.remove(child)
        elif kind == 1:
            parent.extend([child] * int(rng.integers(1, 12)))
        elif kind == 2 and child.attrib:
            child.set(_pick(rng, list(child.attrib)), _clean(str(_pick(rng, (*_NUMBERS, *_TEXTS)))))
        elif kind == 3 and child.attrib:
            del child.attrib[_pick(rng, list(child.attrib))]
        elif kind == 4 and (child.text or "").strip():
            words = (child.text or "").split()
            words[int(rng.integers(len(words)))] = _clean(str(_pick(rng, (*_NUMBERS, *_TEXTS))))
            child.text = " ".join(words)
        elif kind == 5:
            for gone in list(child):
                child.remove(gone)
            child.text = None
        else:
            child.text = _clean(str(_pick(rng, (*_NUMBERS, *_TEXTS))))
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _clean(text: str) -> str:
    return text.replace("\x00", "")


def damage_safetensors(data: bytes, rng: np.random.Generator) -> bytes:
    """A header that lies, with its length right or absurd."""
    length = int.from_bytes(data[:8], "little")
    head = damage_json(data[8 : 8 + length], rng)
    stated = len(head) if rng.random() < 0.8 else int(_pick(rng, _NUMBERS)) % 2**64
    return stated.to_bytes(8, "little") + head + data[8 + length :]


STRUCTURED = {"json": damage_json, "jsonl": damage_jsonl, "yaml": damage_yaml, "xml": damage_xml, "safetensors": damage_safetensors}


def damaged(kind: str, original: bytes, rng: np.random.Generator) -> bytes:
    """Args: kind: one of ``STRUCTURED``, or anything else for bytes without known structure."""
    if kind in STRUCTURED and rng.random() < 0.75:
        return STRUCTURED[kind](original, rng)
    return damage_bytes(original, rng)


# --- attack -----------------------------------------------------------------------------------------------


def _limit(extra_bytes: int | None) -> None:
    """Let the process take so much address space beyond what it has, or any if None."""
    status = Path("/proc/self/status")
    if not status.exists():
        return
    had = next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmSize"))
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (most if extra_bytes is None else had + extra_bytes, most))


def _attack(inputs: Sequence[Input], pipe: Any) -> None:
    """Read damaged inputs and send what became of each."""
    warnings.filterwarnings("ignore")
    from rsdata.errors import RsdataError

    targets = importlib.import_module("fuzz_targets").TARGETS
    made = ""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        for name, number in inputs:
            if name != made:
                _limit(None)
                folder = Path(scratch) / f"{name} {number}"
                folder.mkdir()
                subjects = targets[name](folder)
                for subject in subjects:
                    subject.read(subject.original)  # what is not damaged is read, and all that is loaded late is loaded
                _limit(MEMORY_BYTES)
                made = name
                pipe.send(READY)
            rng = np.random.default_rng([*name.encode(), number])
            subject = subjects[int(rng.integers(len(subjects)))]
            data = damaged(subject.kind, subject.original, rng)
            start = time.process_time()
            try:
                subject.read(data)
                outcome = "read"
            except RsdataError:
                outcome = "refused"
            except Exception as error:  # anything else is the finding; the last line of rsdata's own tells where
                own = [each for each in traceback.extract_tb(error.__traceback__) if "/rsdata/" in each.filename]
                where = f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else "?"
                outcome = f"{subject.name}: {type(error).__name__} at {where}: {' '.join(str(error).split())[:200]}"
            pipe.send((outcome, time.process_time() - start))
    pipe.send(None)


def fuzz(inputs: Sequence[Input], seconds: float = 1e9) -> tuple[Counter[str], list[str]]:
    """How many inputs were read and refused, and a sentence for each that was neither, or took too long.

    Args:
        inputs: kind and number of each, those of a kind together; a number gives the same damage every time.
        seconds: after which no more are asked for; making the originals does not count.
    """
    counts: Counter[str] = Counter()
    findings: list[str] = []
    left = list(inputs)
    context = multiprocessing.get_context("spawn")
    spent = 0.0
    while left and spent < seconds:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_attack, args=(left, sender))
        process.start()
        sender.close()
        ready = False
        try:
            while spent < seconds:
                start = time.monotonic()
                if not receiver.poll(_SILENCE_S):
                    findings.append(f"{' '.join(map(str, left.pop(0)))}: no answer within {_SILENCE_S:.0f} s")
                    break
                message = receiver.recv()
                if message is None:
                    left = []
                    break
                if message == READY:
                    ready = True
                    continue
                spent += time.monotonic() - start
                (name, number), (outcome, took) = left.pop(0), message
                counts[outcome if outcome in ("read", "refused") else "else"] += 1
                if outcome not in ("read", "refused") or took > SECONDS_EACH:
                    findings.append(f"{name} {number}: {outcome} after {took:.1f} s")
        except EOFError:
            process.join()
            if not ready:
                raise RuntimeError(f"{left[0][0]} cannot be tried: its originals are not read") from None
            findings.append(f"{' '.join(map(str, left.pop(0)))}: the process died with exit code {process.exitcode}")
        if process.is_alive():
            process.kill()
        process.join()
    return counts, findings


def main() -> None:
    from fuzz_targets import TARGETS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="in all, spread evenly over what is tried")
    parser.add_argument("--seed", type=int, default=0, help="number of the first input")
    parser.add_argument("--inputs", type=int, default=20_000, help="of each kind, at most")
    parser.add_argument("--only", nargs="*", choices=[*TARGETS, "video"], help="kinds of input")
    given = parser.parse_args()
    names = given.only or [*TARGETS, "video"]
    found: list[str] = []
    print(f"{'input':<24}{'read':>8}{'refused':>9}{'else':>6}{'seconds':>9}")
    for name in names:
        start = time.monotonic()
        if name == "video":
            from video_fuzz import fuzz as fuzz_video

            counts, findings = fuzz_video(min(given.inputs, max(20, int(given.seconds / len(names) * 12))), given.seed)
            counts["read"] = counts.pop("decoded", 0)
        else:
            inputs = [(name, number) for number in range(given.seed, given.seed + given.inputs)]
            counts, findings = fuzz(inputs, given.seconds / len(names))
        print(f"{name:<24}{counts['read']:>8,}{counts['refused']:>9,}{len(findings):>6}{time.monotonic() - start:>9.0f}", flush=True)
        for finding in findings:
            print(f"  {finding}", flush=True)
        found += findings
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
