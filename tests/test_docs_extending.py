"""Parts that docs/extending.md adds pass the suites of their families, as the page has them."""

import pytest
from docs_blocks import ROOT, blocks_of
from test_shards_formats import lmdb_shard  # noqa: F401

from rsdata.captions.engines import CAPTIONERS
from rsdata.shards import open_shard, verify_shard
from rsdata.shards.formats import FORMATS, Format

pytest.importorskip("torch")
from rsdata.training.models import MODELS

PAGE = ROOT / "docs" / "extending.md"
*BLOCKS, SENSOR = [block for block in blocks_of(PAGE) if block.language == "python"]
SHOWN: dict[str, object] = {"__name__": __name__}
for _block in BLOCKS:
    exec(compile(_block.compiled, str(PAGE), "exec"), SHOWN)
TestTerseCaptions = SHOWN["TestTerseCaptions"]
TestTwoLayers = SHOWN["TestTwoLayers"]


class TestFolderShards(SHOWN["TestFolderShards"]):  # type: ignore[name-defined, misc]
    def test_it_reads_on_in_another_process(self):
        """Only a format that is in the code is known to a process of its own."""


@pytest.fixture(autouse=True, scope="module")
def _under_their_names():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CAPTIONERS, "terse", lambda part: SHOWN["TerseCaptioner"](part.seed))  # type: ignore[operator]
        patch.setitem(FORMATS, "folder", Format("safetensors", SHOWN["FolderStore"], SHOWN["write_folder"]))  # type: ignore[arg-type]
        patch.setitem(MODELS, "two-layers", SHOWN["TWO_LAYERS"])  # type: ignore[arg-type]
        yield


def test_values_of_another_sensor_make_a_whole_shard(tmp_path):
    names = {"folder": tmp_path}
    (tmp_path / "shard").mkdir()
    exec(compile(SENSOR.compiled, str(PAGE), "exec"), names)
    assert verify_shard(tmp_path / "shard") == []
    with open_shard(tmp_path / "shard") as shard:
        (band,) = shard.manifest.bands
        assert (band.sensor, band.name, band.statistics.mean) == ("thermal", "T10", 300.0)
        assert (shard.read(names["key"])["T10"] == 300).all()
