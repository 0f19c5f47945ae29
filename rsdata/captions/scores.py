"""How well predicted texts answer the rows of a dataset: accuracy per task, overlap of boxes, likeness of captions, retrieval.

Predictions are read tolerantly, as models answer in sentences, but never guessed at: what cannot be read is a wrong answer
and is counted as such. CIDEr is our own, as the package that everyone takes brings 100 MB for other measures and has not
been renewed since 2020; BLEU and ROUGE come from maintained packages.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from rsdata.errors import CaptionError
from rsdata.records import TextRow

_Value = TypeVar("_Value")

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
RECALLS = (1, 5, 10)
_CHOICES = ("binary", "multiple_choice")
_YES_NO = re.compile(r"\b(yes|no|true|false)\b", re.IGNORECASE)
_TRUTH = {"yes": True, "true": True, "no": False, "false": False}
_ALONE = re.compile(
    r"[(\[]?([A-Z])[)\].:]|(?:answer|option|choice)(?:\s+is)?\s*:?\s*[(\[]?(?:((?-i:[A-Z]))\b|([A-Z])[)\].]*$)", re.IGNORECASE
)
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")
_BRACKETS = re.compile(r"[\[(]([^\[\]()]*)[\])]")
_WORD = re.compile(r"\w+(?:[-'’]\w+)*")
_CIDER_N = 4
_CIDER_SIGMA = 6.0  # of the penalty on length, in words
_CHUNK = 2048  # queries at a time


@dataclass(frozen=True)
class TaskScore:
    """Answers to one kind of question."""

    category: str
    type: str
    rows: int
    answered: int  # rows with a prediction
    read: int  # predictions that could be read
    accuracy: float  # right ones over all rows


@dataclass(frozen=True)
class BoxScore:
    """Answers that are boxes."""

    category: str
    rows: int
    answered: int
    read: int
    miou: float  # mean over all rows of intersection over union; 0 where there is no box
    half: float  # share of all rows with an intersection over union of at least 0.5


@dataclass(frozen=True)
class CaptionScore:
    """Predicted captions against those of the same patch; without a prediction a caption counts as empty."""

    rows: int
    answered: int
    bleu4: float  # 0 to 100
    rouge_l: float  # F-measure, 0 to 1
    cider_d: float  # 0 to 10


@dataclass(frozen=True)
class Scores:
    """All of a dataset's rows against predictions."""

    rows: int
    missing: list[str]  # ids of rows without a prediction
    unknown: list[str]  # ids of predictions without a row
    tasks: list[TaskScore]
    boxes: list[BoxScore]
    captions: CaptionScore | None


def score_texts(rows: Iterable[TextRow], predictions: Iterable[tuple[str, str]]) -> Scores:
    """Hold predictions to rows.

    Args:
        rows: with ids that are there once.
        predictions: row id and text.

    Raises: CaptionError if a row or a prediction is there twice, or a package for captions is not installed.
    """
    said = _once(predictions, "prediction")
    known = _once(((row.row_id, row) for row in rows), "row")
    asked: dict[tuple[str, str], list[TextRow]] = defaultdict(list)
    for row in known.values():
        asked[row.category, row.type].append(row)
    captions = [row for row in known.values() if row.category == "caption"]
    return Scores(
        rows=len(known),
        missing=[row_id for row_id in known if row_id not in said],
        unknown=[row_id for row_id in said if row_id not in known],
        tasks=[_task(*kind, group, said) for kind, group in sorted(asked.items()) if kind[0] in _CHOICES],
        boxes=[_boxes(kind[0], group, said) for kind, group in sorted(asked.items()) if kind[0] not in (*_CHOICES, "caption")],
        captions=_captions(captions, said) if any(row.row_id in said for row in captions) else None,
    )


def _once(pairs: Iterable[tuple[str, _Value]], what: str) -> dict[str, _Value]:
    found: dict[str, _Value] = {}
    again: Counter[str] = Counter()
    for key, value in pairs:
        if key in found:
            again[key] += 1
        found[key] = value
    if again:
        raise CaptionError(
            f"{len(again)} row ids have more than one {what}, {', '.join(sorted(again)[:3])} among them; give each row one",
            row_ids=sorted(again),
        )
    return found


# --- questions --------------------------------------------------------------------------------------------


def read_yes_no(text: str) -> bool | None:
    """Whether a text says yes: by its first word, or by the only such word in it; true and false count, too. None if neither."""
    found = [match.group(1).lower() for match in _YES_NO.finditer(text)]
    if not found:
        return None
    first = _WORD.search(text)
    if first is not None and first.group().lower() in _TRUTH:
        return _TRUTH[first.group().lower()]
    meant = {_TRUTH[word] for word in found}
    return meant.pop() if len(meant) == 1 else None


def read_choice(text: str, options: Sequence[str]) -> int | None:
    """Which option a text chooses, from 0; None if that cannot be told.

    In this order: the text is an option, in any case and with or without a full stop; a letter, as in "B", "(b)", "B. north" or
    "answer: B"; a whole number, counted from 0; or exactly one option is named in it, the longest of those that overlap.
    """
    plain = [_plain(option) for option in options]
    said = _plain(text)
    if said in plain:
        return plain.index(said)
    stripped = text.strip()
    letter = _ALONE.match(stripped) or re.fullmatch(r"([A-Za-z])", stripped)
    if letter:
        place = LETTERS.find(next(filter(None, letter.groups())).upper())
        return place if 0 <= place < len(options) else None
    if re.fullmatch(r"\d+", said):
        return int(said) if int(said) < len(options) else None
    named: set[int] = set()
    rest = said
    for place in sorted(range(len(options)), key=lambda place: -len(plain[place])):
        pattern = rf"(?<!\w){re.escape(plain[place])}(?!\w)"
        if plain[place] and re.search(pattern, rest):
            named.add(place)
            rest = re.sub(pattern, "\x00", rest)
    return named.pop() if len(named) == 1 else None


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .!\"'")


def _task(category: str, type_: str, rows: Sequence[TextRow], said: Mapping[str, str]) -> TaskScore:
    answered = read = right = 0
    for row in rows:
        text = said.get(row.row_id)
        if text is None:
            continue
        answered += 1
        binary = category == "binary"
        answer = read_yes_no(text) if binary else read_choice(text, row.options)
        wanted = read_yes_no(row.output) if binary else row.answer_index
        read += answer is not None
        right += answer is not None and answer == wanted
    return TaskScore(category, type_, len(rows), answered, read, right / len(rows))


# --- boxes ------------------------------------------------------------------------------------------------


def read_box(text: str) -> tuple[float, float, float, float] | None:
    """Four numbers x0, y0, x1, y1: those of the first brackets that hold four, or all of a text that has four; None otherwise."""
    for inside in (*_BRACKETS.findall(text), text):
        numbers = [float(number) for number in _NUMBER.findall(inside)]
        if len(numbers) == 4:
            return numbers[0], numbers[1], numbers[2], numbers[3]
    return None


def box_iou(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two half-open boxes x0, y0, x1, y1; 0 for an empty or inverted one."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    areas = [max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1]) for box in (one, other)]
    if width <= 0 or height <= 0 or not all(areas):
        return 0.0
    return width * height / (sum(areas) - width * height)


def _boxes(category: str, rows: Sequence[TextRow], said: Mapping[str, str]) -> BoxScore:
    answered = read = 0
    overlaps = []
    for row in rows:
        if row.box is None:
            raise CaptionError(f"row {row.row_id} asks for a box and has none; write the texts again", row_id=row.row_id)
        text = said.get(row.row_id)
        box = None if text is None else read_box(text)
        answered += text is not None
        read += box is not None
        overlaps.append(0.0 if box is None else box_iou(box, (row.box.x0, row.box.y0, row.box.x1, row.box.y1)))
    return BoxScore(category, len(rows), answered, read, math.fsum(overlaps) / len(rows), sum(each >= 0.5 for each in overlaps) / len(rows))


# --- captions ---------------------------------------------------------------------------------------------


def _captions(rows: Sequence[TextRow], said: Mapping[str, str]) -> CaptionScore:
    of_patch: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        of_patch[row.patch_id].append(row.output)
    texts = [said.get(row.row_id, "") for row in rows]
    references = [of_patch[row.patch_id] for row in rows]
    answered = sum(row.row_id in said for row in rows)
    return CaptionScore(len(rows), answered, bleu4(texts, references), rouge_l(texts, references), cider_d(texts, references))


def bleu4(texts: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """BLEU of up to four words over all texts, 0 to 100, by sacrebleu with its own splitting into words, case ignored.

    Raises: CaptionError if sacrebleu is not installed.
    """
    try:
        from sacrebleu.metrics import BLEU
    except ImportError as error:
        raise _not_installed("sacrebleu") from error
    most = max(map(len, references))
    columns: Any = [[each[place] if place < len(each) else None for each in references] for place in range(most)]
    return float(BLEU(lowercase=True).corpus_score(list(texts), columns).score)


def rouge_l(texts: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Mean F-measure of the longest common subsequence, 0 to 1, against the reference that fits best, by rouge-score.

    Raises: CaptionError if rouge-score is not installed.
    """
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise _not_installed("rouge-score") from error
    scorer = RougeScorer(["rougeL"])
    found = [scorer.score_multi(list(wanted), text)["rougeL"].fmeasure for text, wanted in zip(texts, references, strict=True)]
    return math.fsum(found) / len(found)


def cider_d(texts: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Mean CIDEr-D over all texts, 0 to 10.

    Words are runs of letters and digits in small letters. Word groups that stand in many texts' references weigh little, so the
    value depends on the whole set, and is 0 for a set of one.

    Source: Vedantam, Lawrence Zitnick and Parikh, CIDEr: Consensus-based Image Description Evaluation (2015), section 5, with
    the penalty on length of the COCO caption evaluation.
    """
    return math.fsum(cider_d_each(texts, references)) / len(texts)


def cider_d_each(texts: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """CIDEr-D of each text."""
    wanted = [[_groups(reference) for reference in each] for each in references]
    seen = Counter(group for each in wanted for group in {group for counts in each for group in counts})
    log_count = math.log(len(references))

    def weigh(counts: Counter[tuple[str, ...]]) -> tuple[list[dict[tuple[str, ...], float]], list[float], int]:
        weights: list[dict[tuple[str, ...], float]] = [{} for _ in range(_CIDER_N)]
        for group, count in counts.items():
            weights[len(group) - 1][group] = count * (log_count - math.log(max(1, seen[group])))
        norms = [math.sqrt(math.fsum(value**2 for value in each.values())) for each in weights]
        return weights, norms, sum(count for group, count in counts.items() if len(group) == 2)

    found = []
    for text, each in zip(texts, wanted, strict=True):
        own, own_norms, own_length = weigh(_groups(text))
        likeness = []
        for counts in each:
            theirs, their_norms, their_length = weigh(counts)
            penalty = math.exp(-((own_length - their_length) ** 2) / (2 * _CIDER_SIGMA**2))
            for n in range(_CIDER_N):
                common = math.fsum(min(value, theirs[n].get(group, 0.0)) * theirs[n].get(group, 0.0) for group, value in own[n].items())
                norms = own_norms[n] * their_norms[n]
                likeness.append(penalty * (common / norms if norms else common))
        found.append(10 * math.fsum(likeness) / (_CIDER_N * len(each)))
    return found


def _groups(text: str) -> Counter[tuple[str, ...]]:
    """How often each group of one to four words stands in a text."""
    words = _WORD.findall(text.lower())
    return Counter(tuple(words[i : i + n]) for n in range(1, _CIDER_N + 1) for i in range(len(words) - n + 1))


def _not_installed(package: str) -> CaptionError:
    return CaptionError(f'captions are scored with {package}, which is not installed; run pip install "rsdata[score]"', package=package)


# --- retrieval --------------------------------------------------------------------------------------------


def retrieval_recall(
    images: npt.NDArray[np.floating],
    texts: npt.NDArray[np.floating],
    image_ids: Sequence[str],
    text_ids: Sequence[str],
    most: Sequence[int] = RECALLS,
) -> dict[str, float]:
    """Share of queries with something of the same id among the nearest k by cosine, from texts to images and back.

    Args:
        images, texts: (n, feature) and (m, feature) of any float type, nowhere all zero or NaN.
        image_ids, text_ids: which belong together; an id may have several images and texts.
        most: each k.

    Returns: "text to image R@1" and so on, 0 to 1. Of equal distances the wrong one counts as nearer.
    Raises: CaptionError if the shapes do not fit, a vector has no direction, or an id stands on one side only.
    """
    for vectors, ids, what in ((images, image_ids, "images"), (texts, text_ids, "texts")):
        if vectors.ndim != 2 or len(vectors) != len(ids) or not len(ids):
            raise CaptionError(
                f"the {what} are {vectors.shape} numbers with {len(ids)} ids; expected (n, feature) with n ids, n at least 1"
            )
        if not np.isfinite(vectors).all() or not np.all(np.any(vectors != 0, axis=1)):
            raise CaptionError(f"some {what} are all zero or not finite, so they have no direction; leave them out")
    if images.shape[1] != texts.shape[1]:
        raise CaptionError(f"images have {images.shape[1]} features and texts {texts.shape[1]}; both must come from one model")
    alone = set(image_ids) ^ set(text_ids)
    if alone:
        raise CaptionError(f"{len(alone)} ids have only images or only texts, {min(alone)} among them; give both", ids=sorted(alone))
    places = {name: place for place, name in enumerate(dict.fromkeys(image_ids))}
    of_image, of_text = (np.array([places[name] for name in ids]) for ids in (image_ids, text_ids))
    units = [vectors / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True) for vectors in (images, texts)]
    found: dict[str, float] = {}
    for name, queries, targets, own, other in (
        ("text to image", units[1], units[0], of_text, of_image),
        ("image to text", units[0], units[1], of_image, of_text),
    ):
        ranks = _ranks(queries, targets, own, other)
        found |= {f"{name} R@{k}": float(np.mean(ranks < k)) for k in most}
    return found


def _ranks(queries: np.ndarray, targets: np.ndarray, own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(query,): how many wrong targets are at least as near as the nearest right one."""
    ranks = np.empty(len(queries), np.int64)
    for start in range(0, len(queries), _CHUNK):
        nearness = queries[start : start + _CHUNK] @ targets.T
        right = own[start : start + _CHUNK, None] == other
        best = np.where(right, nearness, -np.inf).max(axis=1, keepdims=True)
        ranks[start : start + _CHUNK] = ((nearness >= best - 1e-12) & ~right).sum(axis=1)
    return ranks
