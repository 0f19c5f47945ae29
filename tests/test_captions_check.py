"""The check of captions: sentences by hand, and true captions with one fact changed."""

import random
import re

import pytest
from suites import CLASS_NAMES, CaptionerTests, facts

from rsdata.captions import COUNTRIES, TemplateCaptioner, check_caption
from rsdata.captions.wording import MONTHS, class_in_sentence
from rsdata.records import SEASONS

MEADOW = facts({"Pastures": 0.447, "Mixed forest": 0.3, "Beaches, dunes, sands": 0.2})


def findings(text, about=MEADOW, class_names=CLASS_NAMES):
    return check_caption(text, about, class_names)


@pytest.mark.parametrize(
    "text",
    [
        "A summer view of pastures (45%), mixed forest (30 %), and beaches, dunes, sands (20 percent).",
        "Pastures cover 45% of the patch and mixed forest 30%.",
        "Pastures cover 44.7% and mixed forest takes up 30.0%.",
        "45% of it is pastures, 30% mixed forest, 20% beaches, dunes and sands.",
        "In Austria, 45\u00a0% is covered by PASTURES, 30% by mixed\u2011forest.",
        "A pasture beside mixed forests; about a fifth would be too hard to say.",
        "About a third of this patch is mixed forest.",
        "Dominated by pastures (about 45%), with some mixed forest (roughly 30%).",
        "Taken on 2017-06-13 by Sentinel-2 and Sentinel-1 over Austria.",
        "June 2017. It may be dry; the rivers march on.",
        "Unclassified land makes up 5%.",
        "The shares fall from west to east.",
    ],
)
def test_true_sentences_pass(text):
    assert findings(text) == []


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("", "the caption is empty"),
        (" \n\t\u00a0", "the caption is empty"),
        ("Pastures beside coniferous forest.", "names 'Coniferous forest'"),
        ("Pastures and transitional woodland and shrub.", "names 'Transitional woodland, shrub'"),
        ("AGRO FORESTRY AREAS", "names 'Agro-forestry areas'"),
        ("Coni\u00adferous\u200b forest.", "names 'Coniferous forest'"),
        ("Broadleaved forest.", "names 'Broad-leaved forest'"),
        ("Pastures (46%).", "says '46%' of 'Pastures', whose share is 44.7%"),
        ("Pastures (45.0%).", "says '45.0%' of 'Pastures'"),
        ("Pastures (less than 1%).", "says 'less than 1%' of 'Pastures'"),
        ("Pastures (30%) and mixed forest (45%).", "says '30%' of 'Pastures'"),
        ("Pastures cover 30% and mixed forest 45%.", "says '45%' of 'Mixed forest'"),
        ("About half of this patch is mixed forest.", "says 'half of' of 'Mixed forest'"),
        ("Most of it is pastures.", "says 'Most of' of 'Pastures'"),
        ("Clouds cover 30%.", "of which class cannot be read"),
        ("Forty-five percent of it is pastures.", "not one number in digits"),
        ("Pastures (40-50%).", "not one number in digits"),
        ("Dominated by mixed forest.", "not the largest class"),
        ("A wintry day.", "says 'wintry', but the season is summer"),
        ("Seen in early fall.", "says 'fall', but the season is summer"),
        ("Pastures in Germany.", "names Germany, but the patch lies in Austria"),
        ("Northern Ireland", "names Northern Ireland"),
        ("In 2018.", "says 2018, but the year is 2017"),
        ("In May.", "says 'May', but the month is June"),
        ("On 2017-07-13.", "says 2017-07, but the month is June"),
        ("Unclassified land makes up 15%.", "says '15%' of 'unclassified land'"),
    ],
)
def test_false_sentences_are_found(text, finding):
    found = findings(text)
    assert len(found) >= 1
    assert any(finding in each for each in found), found


def test_of_two_names_that_fit_the_longer_is_meant():
    names = ("Forest", "Mixed forest", "Forest, burnt")
    assert findings("Mixed forest (30%).", facts({"Mixed forest": 0.3}), names) == []
    assert findings("Forest, burnt.", facts({"Forest, burnt": 1.0}), names) == []
    assert findings("Forest.", facts({"Mixed forest": 0.3}), names) == ["names 'Forest', which the facts do not hold"]
    assert findings("Mixed forest.", facts({"Forest": 0.3}), names) == ["names 'Mixed forest', which the facts do not hold"]


def test_words_inside_a_class_name_are_not_read_again():
    names = ("Spring cereals of Jordan 2020", "May grass", "Forest (90% cover)")
    about = facts(dict.fromkeys(names, 1 / 3))
    assert findings("Spring cereals of Jordan 2020, may grass (33%), and forest (90% cover).", about, names) == []


def test_a_country_is_wrong_if_none_is_known():
    assert findings("In Austria.", facts({"Pastures": 1.0}, country=None)) == ["names Austria, but no country is known"]


def test_the_own_country_need_not_be_on_the_list():
    assert findings("In Bosnia and Herz. lie pastures.", facts({"Pastures": 1.0}, country="Bosnia and Herz.")) == []


def test_radar_is_not_claimed_without_sentinel_1():
    assert findings("Seen by radar.", facts({"Pastures": 1.0}, sensors=["s2"])) == ["speaks of Sentinel-1, which did not see this patch"]


def test_unclassified_land_is_found_where_everything_has_a_class():
    assert findings("Unclassified land.", facts({"Pastures": 1.0})) == ["names 'unclassified land', which the facts do not hold"]


# --- one fact changed -------------------------------------------------------------------------------------


def true_captions():
    many = CaptionerTests().many_facts()
    return [(each, TemplateCaptioner(seed).caption(each)) for seed in range(5) for each in many]


def swap_class(text, about, rng):
    """Name a class the patch does not have in place of one it has."""
    present = [each.name for each in about.classes]
    named = [each for each in present if class_in_sentence(each) in text]
    old, new = rng.choice(named), rng.choice([each for each in CLASS_NAMES if each not in present])
    return text.replace(class_in_sentence(old), class_in_sentence(new), 1)


def exchange_classes(text, about, rng):
    """Give two classes each other's share."""
    named = [each for each in about.classes if re.search(re.escape(class_in_sentence(each.name)) + r" \(\d+%\)", text)]
    pairs = [(a.name, b.name) for a in named for b in named if a.share - b.share > 0.01]
    if not pairs:
        return text
    a, b = (class_in_sentence(name) for name in rng.choice(pairs))
    return text.replace(a, "\0").replace(b, a).replace("\0", b)


def change_percentage(text, about, rng):
    numbers = list(re.finditer(r"\d+(?=%)", text))
    if not numbers:
        return text
    match = rng.choice(numbers)
    bounds = [number for number in range(101) if abs(number - int(match.group())) >= 2]
    return f"{text[: match.start()]}{rng.choice(bounds)}{text[match.end() :]}"


def change_season(text, about, rng):
    return text.replace(about.season, rng.choice([each for each in SEASONS if each != about.season]))


def change_country(text, about, rng):
    if about.country is None:
        return text
    return text.replace(about.country, rng.choice([each for each in COUNTRIES if each != about.country]))


def change_month(text, about, rng):
    name = MONTHS[about.month - 1]
    return text.replace(name, rng.choice([each for each in MONTHS if each != name]))


def change_year(text, about, rng):
    return text.replace("2017", rng.choice(["2015", "2018", "1999"]))


MUTATIONS = (swap_class, exchange_classes, change_percentage, change_season, change_country, change_month, change_year)


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda each: each.__name__)
def test_two_hundred_captions_with_one_fact_changed_are_all_caught(mutate):
    rng = random.Random(11)
    captions = true_captions()
    rng.shuffle(captions)
    changed = 0
    for about, text in captions:
        mutated = mutate(text, about, rng)
        if mutated != text:
            changed += 1
            assert findings(mutated, about), f"{text!r} became {mutated!r}"
        if changed == 200:
            break
    assert changed == 200


def test_two_hundred_unchanged_captions_all_pass():
    captions = true_captions()
    for about, text in random.Random(11).sample(captions, 200):
        assert findings(text, about) == []
