"""Texts in the forms that others read: the columns of BigEarthNet.txt, LLaVA's conversations, COCO's boxes, WebDataset.

All are pure: rows go in as plain dictionaries with the fields of ``TextRow``, what comes out is rows, JSON or bytes. A
picture comes from whoever calls, as PNG.
"""

from rsdata.captions.exports.bigearthnet_txt import BIGEARTHNET_TXT_SCHEMA, bigearthnet_txt
from rsdata.captions.exports.coco import coco_boxes
from rsdata.captions.exports.llava import llava_conversation
from rsdata.captions.exports.spelling import spelled_answer, spelled_question
from rsdata.captions.exports.webdataset import write_tar

__all__ = [
    "BIGEARTHNET_TXT_SCHEMA",
    "bigearthnet_txt",
    "coco_boxes",
    "llava_conversation",
    "spelled_answer",
    "spelled_question",
    "write_tar",
]
