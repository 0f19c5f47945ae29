"""Tars as WebDataset reads them: ``train-000000.tar`` and so on, and ``dataset.json`` that names bands and classes.

A sample is ``<patch id>.json`` and one ``<patch id>.<stack>.npy`` (band, y, x) for each resolution of each sensor. Samples come in
an order by chance, as who streams tars shuffles only what lies near. Members have no times and no owners.
"""

import io
import json
from pathlib import Path

import numpy as np

from rsdata.catalog.exports.archive import ending, member_head, padding
from rsdata.catalog.exports.side_by_side import side_by_side
from rsdata.catalog.exports.source import Advance, Source
from rsdata.catalog.exports.stacks import Sample, pixels_of, samples_of, stacks_of
from rsdata.catalog.sources import attributions, data_sources

SAMPLES_PER_TAR = 500  # about 150 MB of Sentinel-1 and Sentinel-2
DATASET_FILE = "dataset.json"


class WebDataset:
    """See the module."""

    summary = "WebDataset: tars of NumPy arrays and JSON for each split"

    def write(self, source: Source, folder: Path, *, workers: int = 1, advance: Advance = lambda n: None) -> dict[str, int]:
        stacks = stacks_of(source.manifest)
        by_split = samples_of(source)
        jobs = [
            (f"{split}-{number:06d}.tar", samples[first : first + SAMPLES_PER_TAR])
            for split, samples in by_split.items()
            for number, first in enumerate(range(0, len(samples), SAMPLES_PER_TAR))
        ]

        def write_tar(job: tuple[str, list[Sample]]) -> int:
            name, samples = job
            size = 0
            with (folder / name).open("wb") as tar:
                for sample in samples:
                    said = json.dumps(sample.row | {"datetime": sample.row["datetime"].isoformat()}, ensure_ascii=False)
                    files = {"json": said.encode()}
                    files |= {
                        f"{stack.name}.npy": _npy(values) for stack, values in pixels_of(source, sample, stacks) if values is not None
                    }
                    for suffix, content in files.items():
                        size += tar.write(member_head(f"{sample.id}.{suffix}", len(content)) + content + padding(len(content)))
                tar.write(ending(size))
            return len(samples)

        for count in side_by_side(write_tar, jobs, workers):
            advance(count)
        about = {
            "name": source.name,
            "title": source.title,
            "licence": source.recipe.licence,
            "attribution": attributions(source.recipe, data_sources(source.recipe, source.patches, source.dataset)),
            "arrays": {stack.name: {"bands": stack.bands, "dtype": stack.dtype, "shape": ["band", *stack.shape]} for stack in stacks},
            "bands": [band.model_dump(mode="json", exclude={"shape", "sizes_vary"}) for band in source.manifest.bands],
            "classes": [each.model_dump(mode="json") for each in source.manifest.labels],
            "samples": {split: len(samples) for split, samples in by_split.items()},
            "tars": [name for name, _ in jobs],
        }
        (folder / DATASET_FILE).write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return {"samples": sum(map(len, by_split.values())), "tars": len(jobs)}


def _npy(values: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, np.ascontiguousarray(values), version=(1, 0), allow_pickle=False)
    return out.getvalue()
