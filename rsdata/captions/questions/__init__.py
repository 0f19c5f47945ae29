"""Questions and instructions about one patch, with answers that follow from its facts.

A subject is a function that looks at a patch and asks what it can ask without a doubt; adding one is a file and a name in
``SUBJECTS``. Yes and no always come in pairs, so they are balanced in every patch.
"""

from collections.abc import Iterator

from rsdata.captions.division import DIVIDED, Division
from rsdata.captions.draw import Draw
from rsdata.captions.questions.adjacency import ask_adjacency
from rsdata.captions.questions.area import ask_area
from rsdata.captions.questions.circumstances import ask_climate, ask_country, ask_season, countries_to_ask
from rsdata.captions.questions.counting import ask_counting
from rsdata.captions.questions.position import ask_position
from rsdata.captions.questions.presence import ask_presence
from rsdata.captions.questions.question import OPTIONS, Around, Asker, Question
from rsdata.captions.questions.referring import ask_regions
from rsdata.captions.view import View
from rsdata.records import TextType

SUBJECTS: dict[TextType, Asker] = {
    "presence": ask_presence,
    "area": ask_area,
    "counting": ask_counting,
    "adjacency": ask_adjacency,
    "relative_position": ask_position,
    "country": ask_country,
    "season": ask_season,
    "climate": ask_climate,
    "region": ask_regions,
}


def questions_about(view: View, division: Division, around: Around, seed: int) -> Iterator[tuple[TextType, list[Question]]]:
    """All questions about one patch, subject by subject."""
    for subject, ask in SUBJECTS.items():
        if subject in DIVIDED and subject not in division.asked:
            continue
        yield subject, ask(view, division.hidden, around, Draw(seed, view.facts.patch_id, subject))


__all__ = ["OPTIONS", "SUBJECTS", "Around", "Asker", "Question", "countries_to_ask", "questions_about"]
