"""Template captions: the family's suite, and sentences read by eye."""

import re
import subprocess
import sys

import pytest
from suites import CLASS_NAMES, CaptionerTests, facts

from rsdata.captions import TemplateCaptioner, caption_all, captioner_for, check_caption, facts_digest
from rsdata.errors import CaptionError
from rsdata.recipe import Captions


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


def test_all_wordings_of_one_patch_read_as_english():
    said = {TemplateCaptioner(seed).caption(MEADOW) for seed in range(400)}
    openings = {re.sub(r"( It also shows| Smaller parts| Unclassified| It was seen).*", "", each) for each in said}
    assert openings == {
        "A summer satellite image from the Netherlands: pastures (60%) and mixed forest (30%).",
        "This summer scene in the Netherlands shows pastures (60%) and mixed forest (30%).",
        "In summer 2017, this patch in the Netherlands is covered by pastures (60%) and mixed forest (30%).",
        "Taken in June 2017, this summer image from the Netherlands shows pastures (60%) and mixed forest (30%).",
        "This patch in the Netherlands, seen in summer, is dominated by pastures (60%), with mixed forest (30%).",
        "Most of this summer scene in the Netherlands is covered by pastures. The rest includes mixed forest (30%).",
    }
    assert any("Smaller parts are covered by beaches, dunes, sands." in each for each in said)
    assert all("Unclassified land makes up 6% of it." in each for each in said)
    assert any(each.endswith("It was seen by Sentinel-2 and Sentinel-1.") for each in said)


def test_names_with_commas_are_listed_with_semicolons():
    shore = facts({"Beaches, dunes, sands": 0.5, "Transitional woodland, shrub": 0.3, "Marine waters": 0.2})
    said = {TemplateCaptioner(seed).caption(shore) for seed in range(50)}
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
    said = {TemplateCaptioner(seed).caption(lake) for seed in range(50)}
    assert any("inland waters (more than 99%)" in each for each in said)
    assert not any("100%" in each or " 0%" in each for each in said)


def test_captions_become_rows_with_the_digest_of_their_facts():
    rows = caption_all([MEADOW], TemplateCaptioner(3), CLASS_NAMES)
    assert [(row.patch_id, row.engine, row.text) for row in rows] == [(MEADOW.patch_id, "template", TemplateCaptioner(3).caption(MEADOW))]
    assert rows[0].facts_sha256 == facts_digest(MEADOW)


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
    odd = facts({"{0.__class__} % fields": 1.0}, country="{country}")
    for seed in range(30):
        text = TemplateCaptioner(seed).caption(odd)
        assert "{0.__class__} % fields" in text
        assert check_caption(text, odd, CLASS_NAMES) == []
