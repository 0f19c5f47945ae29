"""The report of a dataset, a page to read, to filter and to print."""

from rsdata.catalog.audit_sentences import audit_sentences
from rsdata.catalog.pages import percent
from rsdata.catalog.report.building import ShardFacts, StageTime
from rsdata.catalog.report.gallery import MAX_SAMPLES, Sample, choose_samples
from rsdata.catalog.report.page import write_report

__all__ = ["MAX_SAMPLES", "Sample", "ShardFacts", "StageTime", "audit_sentences", "choose_samples", "percent", "write_report"]
