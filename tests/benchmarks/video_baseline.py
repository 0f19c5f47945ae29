"""What xarrayvideo does, re-implemented from its description: the other side of the video benchmark.

Bands three at a time, the last group filled up by repeating a band; each band stretched from its smallest to its largest
value over 12 bits; gbrp frames piped into the ffmpeg program, which turns them into yuv444p12 of limited range for
x265 or VP9 and back again on reading; one .mkv per group. Not counted against it: its metadata tag and its second file.
"""

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
_TOP = 4095


@dataclass(frozen=True)
class Coded:
    file_bytes: int
    packet_bytes: int
    decoded: np.ndarray  # (time, band, y, x) float64


def _ffmpeg(arguments: list[str], stdin: bytes = b"") -> bytes:
    return subprocess.run(
        [FFMPEG, "-v", "error", "-nostdin" if not stdin else "-y", *arguments], input=stdin, capture_output=True, check=True
    ).stdout


def options(codec: str, crf: float) -> list[str]:
    if codec == "x265":
        return ["-c:v", "libx265", "-preset", "medium", "-crf", str(crf), "-x265-params", "log-level=none"]
    return ["-c:v", "libvpx-vp9", "-crf", str(crf), "-b:v", "0"]


class Baseline:
    """One cube, written once and read as often as is asked."""

    def __init__(self, cube: np.ndarray, folder: Path, codec: str, crf: float) -> None:
        self.cube_shape, self.folder = cube.shape, folder
        _, bands, rows, columns = cube.shape
        self.low = cube.min(axis=(0, 2, 3), keepdims=True).astype(np.float64)
        self.span = np.maximum(cube.max(axis=(0, 2, 3), keepdims=True) - self.low, 1)
        codes = np.rint((cube - self.low) / self.span * _TOP).astype("<u2")
        self.groups = [list(range(first, min(first + 3, bands))) for first in range(0, bands, 3)]
        for number, group in enumerate(self.groups):
            planes = codes[:, (group + [group[-1]] * 2)[:3]]
            size = ["-f", "rawvideo", "-pix_fmt", "gbrp12le", "-s", f"{columns}x{rows}", "-r", "25", "-i", "-"]
            _ffmpeg([*size, *options(codec, crf), "-pix_fmt", "yuv444p12le", str(self.path(number))], planes.tobytes())

    def path(self, number: int) -> Path:
        return self.folder / f"cube_{number + 1:03d}.mkv"

    def read(self) -> np.ndarray:
        frames, _, rows, columns = self.cube_shape
        out = np.empty(self.cube_shape, np.float64)
        for number, group in enumerate(self.groups):
            # It looks into each file with ffprobe first; the wheel has no ffprobe, and ffmpeg without an output does the same.
            subprocess.run([FFMPEG, "-hide_banner", "-nostdin", "-i", str(self.path(number))], capture_output=True, check=False)
            raw = _ffmpeg(["-i", str(self.path(number)), "-f", "rawvideo", "-pix_fmt", "gbrp12le", "-"])
            planes = np.frombuffer(raw, "<u2").reshape(frames, 3, rows, columns)
            out[:, group] = planes[:, : len(group)]
        return out / _TOP * self.span + self.low

    def sizes(self) -> tuple[int, int]:
        """Bytes of the files and of the coded packets in them."""
        files = packets = 0
        for number in range(len(self.groups)):
            files += self.path(number).stat().st_size
            with av.open(str(self.path(number))) as container:
                packets += sum(packet.size for packet in container.demux(video=0))
        return files, packets


def code(cube: np.ndarray, codec: str, crf: float) -> Coded:
    with tempfile.TemporaryDirectory() as folder:
        coded = Baseline(cube, Path(folder), codec, crf)
        return Coded(*coded.sizes(), coded.read())


def version() -> str:
    return json.dumps(_ffmpeg(["-version"]).decode().splitlines()[0] if FFMPEG else "")
