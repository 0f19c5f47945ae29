"""Tar files as WebDataset reads them: for each patch a picture and its rows, side by side under one name.

Files carry no times and no owners, so the same rows give the same bytes.
"""

import io
import json
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, BinaryIO


def write_tar(out: BinaryIO, patches: Iterable[tuple[str, Sequence[Mapping[str, Any]]]], png_of: Callable[[str], bytes] | None) -> int:
    """Write patches into one tar; return how many.

    Args:
        patches: patch id and its text rows. An id holds no dot, so WebDataset takes all of it for the name of the sample.
        png_of: patch id to its picture; without it there are only texts.
    """
    count = 0
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.USTAR_FORMAT) as tar:
        for patch_id, rows in patches:
            count += 1
            if png_of is not None:
                _add(tar, f"{patch_id}.png", png_of(patch_id))
            content = json.dumps(list(rows), ensure_ascii=False, separators=(",", ":"))
            _add(tar, f"{patch_id}.json", content.encode())
    return count


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o644
    tar.addfile(member, io.BytesIO(content))
