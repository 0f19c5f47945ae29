"""Captions by a language model: any server that speaks the OpenAI chat protocol, kept honest by the check."""

from rsdata.captions.llm.batch import batch_lines, read_batch, run_batch
from rsdata.captions.llm.budget import Budget, BudgetSpent
from rsdata.captions.llm.client import NoAnswer, ServerRefuses
from rsdata.captions.llm.engine import ModelCaptioner, Pending, Picture, Tally, Written
from rsdata.captions.llm.findings import Check, Draft, Finding, form_findings
from rsdata.captions.llm.store import Question, ResponseStore, Tokens

__all__ = [
    "Budget",
    "BudgetSpent",
    "Check",
    "Draft",
    "Finding",
    "ModelCaptioner",
    "NoAnswer",
    "Pending",
    "Picture",
    "Question",
    "ResponseStore",
    "ServerRefuses",
    "Tally",
    "Tokens",
    "Written",
    "batch_lines",
    "form_findings",
    "read_batch",
    "run_batch",
]
