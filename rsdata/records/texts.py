"""What is known of a patch without a model, and the rows of text that say it."""

from typing import Literal, get_args

from pydantic import Field

from rsdata.records.base import Instant, Record

Direction = Literal["north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)  # clockwise
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
    regions: int = Field(ge=1, description="8-connected regions it lies in")


class RegionFact(Record):
    """Pixels of one class that touch each other by a side or a corner (8-connected)."""

    name: str = Field(description="of the class")
    pixels: int
    area_m2: float
    centroid_x: float = Field(description="mean over pixel centres, pixels from the left border")
    centroid_y: float = Field(description="pixels from the upper border")
    box: PixelBox = Field(description="the smallest that holds all its pixels")
    inside: PixelPoint = Field(description="one of its pixels, the one nearest to its centroid")
    extent_ratio: float = Field(description="pixels over pixels of the box")
    position: Direction | Literal["centre"] = Field(description="in which of 3 by 3 equal fields of the patch its centroid lies")


class AdjacencyFact(Record):
    """Two classes whose pixels share sides."""

    first: str = Field(description="before the second in the alphabet")
    second: str
    border_m: float = Field(gt=0, description="shared sides of pixels, in all")


class PatchFacts(Record):
    """What is known about a patch without a model; texts are written from it and checked against it."""

    patch_id: str
    s1_name: str | None
    split: str | None
    classes: list[ClassFact] = Field(description="by falling share, then name")
    unlabeled_fraction: float
    regions: list[RegionFact] = Field(description="of at least the smallest size that counts; by falling size, then box and class")
    adjacent: list[AdjacencyFact]
    diversity: float = Field(description="Shannon entropy of the shares of the classes, base e; 0 for one class")
    season: str
    datetime: Instant
    country: str | None
    climate: str | None = Field(description="Köppen-Geiger class as the user's raster names it; none without a raster")
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
