"""What is known of a patch without a model, and the rows of text that say it."""

from typing import Literal, get_args

from pydantic import Field

from rsdata.records.base import Instant, Record

Direction = Literal["north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)  # clockwise
Position = Direction | Literal["centre"]
Dominance = Literal["primary", "secondary", "marginal"]
# What a row asks for, and what about. A caption is about everything.
TextCategory = Literal["caption", "binary", "multiple_choice", "referring_phrase", "referring_point"]
TEXT_CATEGORIES: tuple[TextCategory, ...] = get_args(TextCategory)
TextType = Literal["caption", "presence", "area", "counting", "adjacency", "relative_position", "country", "season", "climate", "region"]
TEXT_TYPES: tuple[TextType, ...] = get_args(TextType)


class PixelBox(Record):
    """Pixels ``[x0, x1) × [y0, y1)`` of a raster: half-open, x counts east and y south, (0, 0) is the corner in the upper left."""

    x0: int
    y0: int
    x1: int
    y1: int
    raster: str = Field(description="whose pixels these are: reference_map, at 10 m")


class PixelPoint(Record):
    """The pixel in column x and row y of a raster, counted from 0 in the upper left."""

    x: int
    y: int
    raster: str = Field(description="as of a box")


class ClassFact(Record):
    """One class of a patch's reference map."""

    name: str
    share: float = Field(description="of the whole patch, 0 to 1")
    area_m2: float
    decile: int = Field(ge=1, le=10, description="1 up to 10 % of the patch, 2 above that up to 20 %, and so on")
    dominance: Dominance = Field(description="primary above 25 %, secondary from 5 to 25 %, marginal below 5 %")
    regions: int = Field(ge=1, description="8-connected regions it lies in, of any size")


class RegionFact(Record):
    """Pixels of one class that touch each other by a side or a corner (8-connected)."""

    name: str = Field(description="of the class")
    pixels: int
    area_m2: float
    centroid_x: float = Field(description="mean over pixel centres, pixels from the left border")
    centroid_y: float = Field(description="pixels from the upper border")
    box: PixelBox = Field(description="the smallest that holds all its pixels")
    inside: PixelPoint = Field(description="one of its pixels, the one nearest to its centroid; of several, the first in reading order")
    extent_ratio: float = Field(description="pixels over pixels of the box")
    position: Position = Field(description="of its centroid, in 3 by 3 equal fields of the patch; the middle ones own their borders")


class AdjacencyFact(Record):
    """Two classes whose pixels share sides."""

    first: str = Field(description="before the second in the alphabet")
    second: str
    border_m: float = Field(gt=0, description="shared sides of pixels, in all")


class PatchFacts(Record):
    """What is known about a patch without a model; texts are written from it and checked against it.

    Areas are counted on the reference map, over all its pixels; the smallest size that counts is for the list of regions alone.
    """

    patch_id: str
    s1_name: str | None
    split: str | None
    classes: list[ClassFact] = Field(description="by falling share, then name")
    unlabeled_fraction: float = Field(description="pixels whose code means no class")
    regions: list[RegionFact] = Field(description="of at least the smallest size that counts; by falling size, then box and class")
    adjacent: list[AdjacencyFact] = Field(description="by falling length, then names")
    diversity: float = Field(description="Shannon entropy over the pixels that have a class, base e; 0 for one class")
    season: str
    datetime: Instant
    country: str | None
    climate: str | None = Field(description="Köppen-Geiger class under the patch's centre; none without a raster, or where it has none")
    longitude: float = Field(description="of the patch's centre, WGS 84")
    latitude: float
    sensors: list[str]


class TextRow(Record):
    """One text about one patch: a caption, a question with its answer, or an instruction with a box."""

    row_id: str = Field(description="unique in the table; the same for the same facts, template and seed")
    patch_id: str
    s1_name: str | None
    split: str | None
    category: TextCategory
    type: TextType
    input: str = Field(description="the question or instruction")
    output: str = Field(description="the caption or answer; a box as four whole numbers in brackets, separated by commas")
    options: list[str] = Field(description="of a multiple choice question; else empty")
    answer_index: int | None = Field(description="of the right option, from 0")
    box: PixelBox | None = Field(description="asked for")
    point: PixelPoint | None = Field(description="given in the question")
    template_id: str = Field(description="which wording was used; of a model's text, that of the text it began with")
    prompt_digest: str | None = Field(description="SHA-256 of the prompt; none without a model")
    model: str | None = Field(description="that wrote the text; none where a template did")
    facts_digest: str = Field(description="SHA-256 of the facts the text was checked against")
    checked: bool = Field(description="whether the check found every statement supported by the facts")
    seed: int


# How a caption that a model was asked for came to be: its first answer, a later one, or the template's after all.
CaptionOutcome = Literal["first", "repaired", "template"]


class ModelCaption(Record):
    """What became of one caption that a language model was asked for."""

    patch_id: str
    outcome: CaptionOutcome
    tries: int = Field(description="answers looked at")
    kinds: list[str] = Field(description="of error, one for each finding below")
    findings: list[str] = Field(description="what was wrong with the answers that were sent back, in their order")
    prompt_digest: str = Field(description="SHA-256 of the messages the model was first sent")


class Diversity(Record):
    """How much texts differ from each other; words are runs of letters, in lower case."""

    texts: int
    duplicates: int = Field(description="texts that say the same as an earlier one, but for case and spaces")
    words_mean: float = Field(description="per text")
    words_min: int
    words_max: int
    vocabulary: int = Field(description="different words in all texts")
    type_token_ratio: float = Field(description="different words over all words")
    mtld: float = Field(description="measure of textual lexical diversity, all texts in order, threshold 0.72, mean of both directions")
    self_bleu: float | None = Field(description="mean BLEU-4 of a text against the others of a sample, 0 to 100; none below 2 texts")
    self_bleu_texts: int = Field(description="size of that sample")


class TextReport(Record):
    """What a language model's captions came to."""

    engine: str
    model: str
    task: str
    captions: int
    accepted_at_first: int
    accepted_after_repair: int
    fallen_back: int = Field(description="captions that are the template's, as no answer was supported")
    findings: dict[str, int] = Field(description="kind of error to the answers that had it")
    input_tokens: int = Field(description="charged, over every run on this dataset; what was sent and not answered counts in full")
    output_tokens: int
    cost: float = Field(description="in the currency of the recipe's prices")
    diversity: Diversity
