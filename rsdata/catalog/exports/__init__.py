"""Forms of a dataset for other programs. Each is a class with ``summary`` and ``write``; adding one is a module and a line here."""

from rsdata.catalog.exports.archive import pack
from rsdata.catalog.exports.bigearthnet import BigEarthNet
from rsdata.catalog.exports.card import Card
from rsdata.catalog.exports.croissant import Croissant
from rsdata.catalog.exports.huggingface import HuggingFace
from rsdata.catalog.exports.source import Advance, Export, Read, Source
from rsdata.catalog.exports.stac import Stac
from rsdata.catalog.exports.taco import Taco
from rsdata.catalog.exports.unpacking import unpack
from rsdata.catalog.exports.webdataset import WebDataset

EXPORTS: dict[str, Export] = {
    "bigearthnet": BigEarthNet(),
    "card": Card(),
    "croissant": Croissant(),
    "huggingface": HuggingFace(),
    "stac": Stac(),
    "taco": Taco(),
    "webdataset": WebDataset(),
}

__all__ = ["EXPORTS", "Advance", "Export", "Read", "Source", "pack", "unpack"]
