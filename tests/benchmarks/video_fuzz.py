"""Damage video blobs in every way that comes to mind: each must decode or be refused by a ShardError, soon and in bounds.

    python tests/benchmarks/video_fuzz.py [--blobs N] [--seed S]

The decoding runs in a process of its own with limited memory, so a crash is seen and named. Half of the mutations mend the
checksums afterwards: those stand for a hostile blob, which reaches the decoders.
"""

import argparse
import multiprocessing
import resource
import struct
import sys
import time
import zlib
from collections import Counter

import numpy as np

from rsdata.errors import ShardError
from rsdata.shards.video import Clip, VideoSettings, encode
from rsdata.shards.video.container import DICTIONARY, PREFIX_BYTES, parse

MEMORY_BYTES = 3 * 2**30  # address space of the decoding process
SECONDS_EACH = 5.0
MAX_BYTES = 64 * 2**20  # what the reader allows a cube


def originals() -> list[bytes]:
    rng = np.random.default_rng(0)
    smooth = np.cumsum(np.cumsum(rng.normal(0, 8, (9, 4, 40, 48)), axis=2), axis=3)
    counts = np.clip(smooth + 3000, 1, 65_535).astype(np.uint16)
    counts[2:4, :, :9, :7] = 0
    decibels = (smooth / 100).astype(np.float32)
    decibels[0, 0, 3] = np.nan
    wanted = [
        (counts, VideoSettings(mode="lossy", step=40.0, nodata=0, keyint=4)),
        (counts[:, :1], VideoSettings(mode="lossy", step=90.0, keyint=9)),
        (counts, VideoSettings(mode="maxerr", max_error=5, nodata=0)),
        (counts, VideoSettings(keyint=2)),
        (decibels, VideoSettings()),
        (decibels, VideoSettings(mode="maxerr", max_error=0.05)),
    ]
    rough = 9000 + rng.normal(0, 2500, (4, 40, 48)) + rng.normal(0, 20, (12, 4, 40, 48))  # dates are mixed; at 20 after a still
    wanted += [(np.clip(rough, 1, 65_535).astype(np.uint16), VideoSettings(mode="lossy", step=step)) for step in (20.0, 200.0)]
    valid = rng.random((9, 40, 48)) < 0.9
    told = [(counts, VideoSettings(mode="maxerr", max_error=5, nodata=0, keyint=3)), (counts, VideoSettings(keyint=4))]
    return [encode(cube, settings) for cube, settings in wanted] + [encode(cube, settings, valid=valid) for cube, settings in told]


def mutate(blob: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(blob)
    kind = rng.integers(7)
    head = parse(blob).size
    if kind == 0:  # cut short
        return bytes(data[: rng.integers(len(data))])
    if kind == 1:  # a run of other bytes anywhere
        at, length = int(rng.integers(len(data))), int(rng.integers(1, 64))
        data[at : at + length] = rng.bytes(min(length, len(data) - at))
        return bytes(data)
    if kind == 2:  # a header that says something else, with its checksum right
        return _other_header(blob, rng)
    low, high = (PREFIX_BYTES, head) if kind == 3 else (head, len(data))
    if kind == 6:  # packets exchanged
        first, second = sorted(int(at) for at in rng.integers(low, high, 2))
        data[first : first + 20], data[second : second + 20] = data[second : second + 20], data[first : first + 20]
        data = data[: len(blob)]
    else:
        for _ in range(int(rng.integers(1, 9))):
            data[int(rng.integers(low, high))] ^= 1 << int(rng.integers(8))
    return _mended(blob, bytes(data)) if rng.random() < 0.7 else bytes(data)


def _parts(blob: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    *_, text, index, table, _ = struct.unpack_from("<4sBIIII", blob)
    ends = np.cumsum([PREFIX_BYTES, text, index, table])
    return blob[ends[0] : ends[1]], blob[ends[1] : ends[2]], blob[ends[2] : ends[3]], blob[ends[3] :]


def _joined(text: bytes, index: bytes, table: bytes, payload: bytes) -> bytes:
    crc = zlib.crc32(text + index + table)
    return struct.pack("<4sBIIII", b"\x89RSV", 1, len(text), len(index), len(table), crc) + text + index + table + payload


def _mended(original: bytes, damaged: bytes) -> bytes:
    """The damage, with every checksum made to fit it."""
    head = parse(original)
    text, index, table, payload = _parts(damaged[: len(original)].ljust(len(original), b"\0"))
    places = [place for row in head.places for place in row]
    crcs = [zlib.crc32(payload[place.start - head.size : place.stop - head.size]) for place in places]
    index = index[: len(index) - 4 * len(crcs)] + struct.pack(f"<{len(crcs)}I", *crcs)
    return _joined(text, index, table, payload)


def _other_header(blob: bytes, rng: np.random.Generator) -> bytes:
    text, index, table, payload = _parts(blob)
    words = bytearray(zlib.decompressobj(zdict=DICTIONARY).decompress(text))
    digits = [at for at, byte in enumerate(words) if chr(byte).isdigit()]
    for _ in range(int(rng.integers(1, 4))):
        at = digits[int(rng.integers(len(digits)))]
        words[at : at + 1] = str(int(rng.choice([0, 1, 3, 9, 99, 999_999]))).encode()
        digits = [place for place, byte in enumerate(words) if chr(byte).isdigit()]
    packer = zlib.compressobj(9, zdict=DICTIONARY)
    return _joined(packer.compress(bytes(words)) + packer.flush(), index, table, payload)


def _attack(seeds: "list[int]", pipe: object) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    blobs = originals()
    for seed in seeds:
        rng = np.random.default_rng(seed)
        blob = mutate(blobs[seed % len(blobs)], rng)
        start = time.perf_counter()
        try:
            clip = Clip(blob, max_bytes=MAX_BYTES)
            clip.read()
            clip.valid()
            outcome = "decoded"
        except ShardError:
            outcome = "refused"
        except BaseException as error:  # anything else is the finding
            outcome = f"{type(error).__name__}: {error}"
        pipe.send((seed, outcome, time.perf_counter() - start))  # type: ignore[attr-defined]
    pipe.send(None)  # type: ignore[attr-defined]


def fuzz(blobs: int, seed: int = 0) -> tuple[Counter[str], list[str]]:
    """How many blobs decoded and how many were refused, and one sentence for each that did neither or took too long."""
    counts: Counter[str] = Counter()
    findings: list[str] = []
    seeds = list(range(seed, seed + blobs))
    context = multiprocessing.get_context("spawn")
    while seeds:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_attack, args=(seeds, sender))
        process.start()
        sender.close()
        try:
            while receiver.poll(60.0):
                message = receiver.recv()
                if message is None:
                    seeds = []
                    break
                number, outcome, seconds = message
                seeds = seeds[1:]
                counts[outcome] += 1
                if outcome not in ("decoded", "refused") or seconds > SECONDS_EACH:
                    findings.append(f"blob {number}: {outcome} after {seconds:.1f} s")
            else:
                findings.append(f"blob {seeds[0]}: no answer within 60 s")
                seeds = seeds[1:]
        except EOFError:
            process.join()
            findings.append(f"blob {seeds[0]}: the process died with exit code {process.exitcode}")
            seeds = seeds[1:]
        if process.is_alive() and seeds:
            process.kill()
        process.join()
    return counts, findings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blobs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    start = time.monotonic()
    counts, findings = fuzz(given.blobs, given.seed)
    print(f"{given.blobs} blobs in {time.monotonic() - start:.0f} s: {counts['decoded']} decoded, {counts['refused']} refused")
    for finding in findings:
        print(finding)
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
