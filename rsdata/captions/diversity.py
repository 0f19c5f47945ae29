"""How much texts differ: duplicates, length, vocabulary, and measures of variety that linguists use.

Words are runs of letters and digits, in lower case; marks between sentences do not count.
"""

import random
import re
from collections.abc import Sequence
from types import ModuleType

from rsdata.errors import CaptionError
from rsdata.records import Diversity

MTLD_THRESHOLD = 0.72
SELF_BLEU_SAMPLE = 100  # texts; every one is held to all others
_WORD = re.compile(r"\w+(?:['’.-]\w+)*")


def words_of(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def diversity_of(texts: Sequence[str], seed: int = 0) -> Diversity:
    """Measure texts in the order given.

    Args:
        seed: of the sample for self-BLEU, where there are more texts than it holds.

    Raises: CaptionError if sacrebleu is not installed.
    """
    words = [words_of(text) for text in texts]
    flat = [word for each in words for word in each]
    lengths = [len(each) for each in words] or [0]
    sample = random.Random(seed).sample(list(texts), SELF_BLEU_SAMPLE) if len(texts) > SELF_BLEU_SAMPLE else list(texts)
    return Diversity(
        texts=len(texts),
        duplicates=len(texts) - len({" ".join(text.casefold().split()) for text in texts}),
        words_mean=round(len(flat) / max(1, len(texts)), 4),
        words_min=min(lengths),
        words_max=max(lengths),
        vocabulary=len(set(flat)),
        type_token_ratio=round(len(set(flat)) / len(flat), 6) if flat else 0.0,
        mtld=round(mtld(flat), 4),
        self_bleu=self_bleu(sample),
        self_bleu_texts=len(sample),
    )


def mtld(words: Sequence[str], threshold: float = MTLD_THRESHOLD) -> float:
    """Mean length of runs of words that keep their ratio of types to tokens above a threshold; mean of both directions.

    Texts whose words all differ have no such run; the result is their length.
    Source: McCarthy and Jarvis 2010, MTLD, vocd-D, and HD-D, Behavior Research Methods 42.
    """
    return (_mtld_forward(words, threshold) + _mtld_forward(words[::-1], threshold)) / 2 if words else 0.0


def _mtld_forward(words: Sequence[str], threshold: float) -> float:
    factors, seen, count = 0.0, set[str](), 0
    for word in words:
        seen.add(word)
        count += 1
        if len(seen) / count <= threshold:
            factors, seen, count = factors + 1, set(), 0
    if count:  # what is left counts by how far it got
        factors += (1 - len(seen) / count) / (1 - threshold)
    return len(words) / factors if factors else float(len(words))


def bleu_package() -> ModuleType:
    """What computes BLEU.

    Raises: CaptionError if it is not installed.
    """
    try:
        from sacrebleu import metrics
    except ImportError as error:
        raise CaptionError("self-BLEU needs sacrebleu; run `pip install 'rsdata[llm]'`") from error
    return metrics


def self_bleu(texts: Sequence[str]) -> float | None:
    """Mean BLEU-4 of each text against all others, 0 to 100; high means they resemble each other. None for fewer than two.

    Source: Zhu et al. 2018, Texygen; BLEU as sacrebleu computes it for sentences, in lower case.
    """
    if len(texts) < 2:
        return None
    bleu = bleu_package().BLEU(effective_order=True, lowercase=True)
    scores = [bleu.sentence_score(text, [*texts[:i], *texts[i + 1 :]]).score for i, text in enumerate(texts)]
    return round(sum(scores) / len(scores), 4)
