"""Template captions: the family's suite, and sentences read by eye."""

import re
import subprocess
import sys

import numpy as np
import pytest
from suites import CLASS_NAMES, CaptionerTests, facts

from rsdata.captions import MapClasses, TemplateCaptioner, caption_all, captioner_for, check_caption, facts_digest, facts_of
from rsdata.captions.grammar import is_plural
from rsdata.errors import CaptionError
from rsdata.labels import load_nomenclature
from rsdata.recipe import Captions
from rsdata.testing.reference_maps import map_row


class TestTemplateCaptioner(CaptionerTests):
    engine = "template"


MEADOW = facts({"Pastures": 0.6, "Mixed forest": 0.3, "Beaches, dunes, sands": 0.04}, country="Netherlands")


def test_wordings_vary_with_patch_and_seed():
    patches = [facts({"Pastures": 1.0}, patch_id=f"patch {number}") for number in range(40)]
    assert len({TemplateCaptioner(0).caption(each) for each in patches}) > 4
    assert len({TemplateCaptioner(seed).caption(MEADOW) for seed in range(40)}) > 8


def test_a_caption_is_the_same_in_another_process():
    program = (
        "from rsdata.captions import TemplateCaptioner; from rsdata.records import PatchFacts; import sys;"
        "print(TemplateCaptioner(5).caption(PatchFacts.model_validate_json(sys.argv[1])))"
    )
    said = subprocess.run([sys.executable, "-c", program, MEADOW.model_dump_json()], capture_output=True, text=True, check=True).stdout
    assert said.strip() == TemplateCaptioner(5).caption(MEADOW)


def test_all_openings_that_tell_everything_read_as_english():
    said = {TemplateCaptioner(seed, may_answer=True).caption(MEADOW) for seed in range(400)}
    openings = {re.sub(r"( Unclassified| It was seen).*", "", each) for each in said}
    everything = "pastures (60%); mixed forest (30%); and beaches, dunes, sands (4%)"
    rest = "mixed forest (30%); and beaches, dunes, sands (4%)"
    assert openings == {
        f"A summer satellite image from the Netherlands that shows {everything}.",
        f"This summer scene in the Netherlands shows {everything}.",
        f"In summer 2017, this patch in the Netherlands holds {everything}.",
        f"A summer view of a patch in the Netherlands. Its land cover includes {everything}.",
        f"Taken in June 2017, this summer image from the Netherlands shows {everything}.",
        f"This patch in the Netherlands, seen in summer, is dominated by pastures (60%), with {rest}.",
        f"Most of this summer scene in the Netherlands is covered by pastures. The rest includes {rest}.",
    }
    assert all("Unclassified land makes up 6% of it." in each for each in said)
    assert any(each.endswith("It was seen by Sentinel-2 and Sentinel-1.") for each in said)


def test_a_caption_without_areas_names_classes_by_the_alphabet_and_leaves_one_to_be_asked():
    said = {TemplateCaptioner(seed).caption(MEADOW) for seed in range(300)}
    silent = [each for each in said if "%" not in each and "Most" not in each]
    assert silent
    assert not any("dunes" in each for each in said)  # the smallest of three is never named
    assert any("shows mixed forest and pastures." in each for each in silent)
    assert not any("pastures and mixed forest" in each for each in silent)


def test_regions_borders_places_and_counts_are_told_in_words():
    codes = np.full((120, 120), 231, np.uint16)  # pastures
    codes[:, 40:80] = 311  # a belt of broad-leaved forest cuts them in two
    codes[50:70, 50:70] = 512  # a lake in the middle of it
    said = captions_of(codes)
    assert {part for each in said for part in re.findall(r"There are .*?regions.*?\.|Pastures form .*?\.", each)} == {
        "There are two separate regions of pastures.",
        "Pastures form two separate regions.",
    }
    assert any("Inland waters lie in the centre of the patch." in each for each in said)
    assert any("In the centre of the patch lie inland waters." in each for each in said)
    assert not any("broad-leaved forest lies in the" in each.lower() for each in said)  # it is a third of the patch
    assert any("The border between broad-leaved forest and inland waters is 800 m long." in each for each in said)
    assert not any("pastures border inland" in each.lower() or "inland waters border pastures" in each.lower() for each in said)


def test_one_class_lies_in_a_direction_from_another():
    codes = np.full((120, 120), 231, np.uint16)
    codes[20:40, 20:40] = 311
    codes[80:100, 80:100] = 512  # south-east of it
    said = captions_of(codes)
    assert any("Broad-leaved forest lies to the north-west of inland waters." in each for each in said)
    assert any("Inland waters lie south-east of broad-leaved forest." in each for each in said)
    assert not any("waters lie to the north-west" in each or "forest lies to the south-east" in each for each in said)


def captions_of(codes):
    """What is said of a map by many seeds if captions may tell everything; each is held to the check."""
    known = facts_of(map_row(0), codes, MapClasses.of(load_nomenclature("bigearthnet-19").classes))
    said = {TemplateCaptioner(seed, may_answer=True).caption(known) for seed in range(80)}
    assert [findings for each in said if (findings := check_caption(each, known, CLASS_NAMES))] == []
    return said


def test_the_climate_zone_is_told_if_it_is_known():
    there = facts({"Pastures": 1.0}, climate="Cfb (temperate, no dry season, warm summer)")
    said = {TemplateCaptioner(seed).caption(there) for seed in range(60)}
    told = {match[0] for each in said if (match := re.search(r"[^.]*climate zone[^.]*\.", each))}
    assert told == {f" {words} {there.climate}." for words in ("Its climate zone is", "It lies in the climate zone")}
    assert not any("climate" in TemplateCaptioner(seed).caption(MEADOW) for seed in range(60))


@pytest.mark.parametrize(
    ("name", "plural"),
    [
        ("Permanent crops", True), ("Mixed forest", False), ("Grass", False), ("Beaches, dunes, sands", True),
        ("Transitional woodland, shrub", False), ("Moors, heathland and sclerophyllous vegetation", True),
        ("Land principally occupied by agriculture, with significant areas of natural vegetation", False),
    ],
)  # fmt: skip
def test_verbs_agree_with_class_names(name, plural):
    assert is_plural(name) is plural


def test_names_with_commas_are_listed_with_semicolons():
    shore = facts({"Beaches, dunes, sands": 0.5, "Transitional woodland, shrub": 0.3, "Marine waters": 0.2})
    said = {TemplateCaptioner(seed, may_answer=True).caption(shore) for seed in range(50)}
    assert any("beaches, dunes, sands (50%); transitional woodland, shrub (30%); and marine waters (20%)" in each for each in said)


def test_autumn_takes_an():
    said = {TemplateCaptioner(seed).caption(facts({"Pastures": 1.0}, season="autumn", month=10)) for seed in range(50)}
    assert any(each.startswith("An autumn satellite image") for each in said)


@pytest.mark.parametrize(
    ("country", "said"),
    [("Austria", "in Austria "), ("Republic of Serbia", "in the Republic of Serbia "), ("United Kingdom", "in the United Kingdom ")],
)
def test_countries_take_their_article(country, said):
    texts = [TemplateCaptioner(seed).caption(facts({"Pastures": 1.0}, country=country)) for seed in range(50)]
    assert any(said in each for each in texts)
    assert all(check_caption(each, facts({"Pastures": 1.0}, country=country), CLASS_NAMES) == [] for each in texts)


def test_almost_everything_and_almost_nothing_are_not_rounded_away():
    lake = facts({"Inland waters": 0.9999, "Pastures": 0.0001})
    said = {TemplateCaptioner(seed, may_answer=True).caption(lake) for seed in range(50)}
    assert any("inland waters (more than 99%)" in each for each in said)
    assert not any("100%" in each or " 0%" in each for each in said)


def test_captions_become_rows_with_the_digest_of_their_facts():
    rows = caption_all([MEADOW], TemplateCaptioner(3), CLASS_NAMES)
    assert [(row.patch_id, row.category, row.output) for row in rows] == [
        (MEADOW.patch_id, "caption", TemplateCaptioner(3).caption(MEADOW))
    ]
    assert rows[0].facts_digest == facts_digest(MEADOW)


class Liar:
    name = "liar"

    def caption(self, facts):
        return "A summer scene of marine waters."


def test_an_unsupported_caption_is_refused_with_its_findings():
    with pytest.raises(CaptionError, match=r"'liar' wrote for .* names 'Marine waters', which the facts do not hold") as caught:
        caption_all([MEADOW], Liar(), CLASS_NAMES)
    assert caught.value.context["patch_id"] == MEADOW.patch_id
    assert caught.value.context["text"] == "A summer scene of marine waters."


def test_an_unknown_engine_is_refused_with_the_known_ones():
    with pytest.raises(CaptionError, match=r"no caption engine 'gpt'; known are .*template"):
        captioner_for(Captions(engine="gpt"))


def test_braces_in_a_name_are_only_text():
    odd = facts({"{0.__class__} % fields": 1.0})
    for seed in range(30):
        text = TemplateCaptioner(seed).caption(odd)
        assert "{0.__class__} % fields" in text
        assert check_caption(text, odd, CLASS_NAMES) == []
