"""Texts about patches: facts first, then wording, then a check of the wording against the facts.

A captioner turns facts into a text and sees nothing else. Whoever wrote it, a text reaches the disk only if
the check finds nothing in it that the facts do not hold.
"""

from rsdata.captions.check import Finding, FindingKind, check_caption, findings_of
from rsdata.captions.climate import ClimateRaster, climate_names
from rsdata.captions.engines import (
    CAPTIONERS,
    Captioner,
    Engine,
    ModelEngine,
    Surroundings,
    caption_all,
    captioner_for,
    open_engine,
    open_model,
)
from rsdata.captions.exports import (
    BIGEARTHNET_TXT_SCHEMA,
    bigearthnet_txt,
    coco_boxes,
    llava_conversation,
    spelled_answer,
    spelled_question,
    write_tar,
)
from rsdata.captions.facts import ROW_COLUMNS, MapClasses, centre_of, facts_digest, facts_of
from rsdata.captions.llm import BudgetSpent, NoAnswer, Picture, ResponseStore, ServerRefuses, read_batch, run_batch
from rsdata.captions.questions import Around, Question, countries_to_ask
from rsdata.captions.rows import TextOptions, TextRows, asked_rows, rows_of
from rsdata.captions.scores import Scores, retrieval_recall, score_texts
from rsdata.captions.solver import MapSolver, QuestionReader
from rsdata.captions.templates import TemplateCaptioner
from rsdata.captions.wording import COUNTRIES

__all__ = [
    "BIGEARTHNET_TXT_SCHEMA",
    "CAPTIONERS",
    "COUNTRIES",
    "ROW_COLUMNS",
    "Around",
    "BudgetSpent",
    "Captioner",
    "ClimateRaster",
    "Engine",
    "Finding",
    "FindingKind",
    "MapClasses",
    "MapSolver",
    "ModelEngine",
    "NoAnswer",
    "Picture",
    "Question",
    "QuestionReader",
    "ResponseStore",
    "Scores",
    "ServerRefuses",
    "Surroundings",
    "TemplateCaptioner",
    "TextOptions",
    "TextRows",
    "asked_rows",
    "bigearthnet_txt",
    "caption_all",
    "captioner_for",
    "centre_of",
    "check_caption",
    "climate_names",
    "coco_boxes",
    "countries_to_ask",
    "facts_digest",
    "facts_of",
    "findings_of",
    "llava_conversation",
    "open_engine",
    "open_model",
    "read_batch",
    "retrieval_recall",
    "rows_of",
    "run_batch",
    "score_texts",
    "spelled_answer",
    "spelled_question",
    "write_tar",
]
