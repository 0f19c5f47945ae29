"""Suites that every member of a family passes: a new member is one class that names it.

class TestFrame(SplitStrategyTests):
    strategy = "frame"
"""

import itertools
from typing import ClassVar

import pandas as pd
import pytest

from rsdata.captions import captioner_for, check_caption, facts_digest
from rsdata.errors import SplitError
from rsdata.labels.nomenclature import load_nomenclature
from rsdata.recipe import Captions, SplitPart
from rsdata.records import SEASONS, SPLITS, ClassShare, PatchFacts
from rsdata.splits import assign

SCENES = (
    "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP",
    "S2B_MSIL2A_20170926T101031_N9999_R022_T33UUP",
    "S2A_MSIL2A_20170614T103021_N9999_R108_T33UVP",
)
CLASS_NAMES = tuple(each.name for each in load_nomenclature("bigearthnet-19").classes)


class SplitStrategyTests:
    """What holds for every way to divide patches."""

    strategy: str
    options: ClassVar[dict[str, object]] = {}
    keeps_places_together = True  # False for strategies that divide by time

    @pytest.fixture
    def part(self) -> SplitPart:
        return SplitPart.model_validate({"strategy": self.strategy, **self.options})

    @pytest.fixture
    def table(self) -> pd.DataFrame:
        """Every third cell of two tiles, one of them on two dates, with two labels each; index counts down."""
        cells = list(itertools.product(range(0, 91, 3), range(0, 91, 3)))
        ids = [f"{scene}_{col:02d}_{row:02d}" for scene in SCENES for col, row in cells]
        labels = [sorted({CLASS_NAMES[col % 19], CLASS_NAMES[row % 19]}) for _ in SCENES for col, row in cells]
        country = ["Austria" if col < 45 else "Germany" for _ in SCENES for col, _ in cells]
        return pd.DataFrame({"patch_id": ids, "labels": labels, "country": country}, index=range(len(ids), 0, -1))

    def test_every_patch_gets_a_known_split_under_its_own_index(self, table, part):
        split = assign(table, part)
        assert split.index.equals(table.index)
        assert set(split) <= set(SPLITS)

    def test_no_split_of_a_whole_tile_is_empty(self, table, part):
        assert set(assign(table, part)) == set(SPLITS)

    def test_order_of_the_rows_does_not_matter(self, table, part):
        shuffled = table.sample(frac=1, random_state=7)
        pd.testing.assert_series_equal(assign(shuffled, part).sort_index(), assign(table, part).sort_index())

    def test_the_table_is_left_as_it_was(self, table, part):
        before = table.copy(deep=True)
        assign(table, part)
        pd.testing.assert_frame_equal(table, before)

    def test_all_dates_of_a_place_share_one_split(self, table, part):
        if not self.keeps_places_together:
            pytest.skip("this strategy divides by time")
        place = table["patch_id"].str[-12:]  # tile, column and row
        assert assign(table, part).groupby(place).nunique().eq(1).all()

    def test_an_empty_table_gives_an_empty_split(self, table, part):
        assert len(assign(table.iloc[:0], part)) == 0

    def test_a_table_without_ids_is_refused(self, table, part):
        with pytest.raises(SplitError, match="no column `patch_id`"):
            assign(table.drop(columns="patch_id"), part)


def facts(classes: dict[str, float], **changes: object) -> PatchFacts:
    """Facts of a made-up patch: classes and their shares, in summer 2017 in Austria unless said otherwise."""
    shares = [ClassShare(name=name, share=share) for name, share in sorted(classes.items(), key=lambda pair: (-pair[1], pair[0]))]
    values: dict[str, object] = {
        "patch_id": f"{SCENES[0]}_26_57", "classes": shares, "season": "summer", "country": "Austria",
        "year": 2017, "month": 6, "sensors": ["s2", "s1"],
    }  # fmt: skip
    return PatchFacts.model_validate(values | changes)


class CaptionerTests:
    """What holds for everyone who writes captions."""

    engine: str
    seeds: ClassVar[tuple[int, ...]] = (0, 1, 2)

    def many_facts(self) -> list[PatchFacts]:
        """Each class alone, largest and smallest of several, in every season, with and without a country."""
        months = {"winter": 1, "spring": 4, "summer": 7, "autumn": 10}
        mixtures = []
        for index, name in enumerate(CLASS_NAMES):
            second, third = CLASS_NAMES[(index + 1) % 19], CLASS_NAMES[(index + 7) % 19]
            mixtures += [{name: 1.0}, {name: 0.52, second: 0.33, third: 0.004}, {second: 0.9957, name: 0.0043}, {name: 0.25, third: 0.125}]
        places = itertools.cycle(["Austria", None, "Bosnia and Herzegovina", "Netherlands", "Bosnia and Herz."])
        sensors = itertools.cycle([["s2"], ["s2", "s1"]])
        cases = zip(itertools.product(mixtures, SEASONS), places, sensors, strict=False)
        return [
            facts(
                mixture, patch_id=f"{SCENES[0]}_{number // 91:02d}_{number % 91:02d}", season=season, month=months[season],
                country=country, sensors=seen,
            )
            for number, ((mixture, season), country, seen) in enumerate(cases)
        ]  # fmt: skip

    @pytest.fixture(params=(0, 1, 2), ids="seed {}".format)
    def captioner(self, request):
        return captioner_for(Captions(engine=self.engine, seed=request.param))

    def test_it_is_called_by_its_short_name(self, captioner):
        assert captioner.name == self.engine

    def test_nothing_is_said_that_the_facts_do_not_hold(self, captioner):
        for each in self.many_facts():
            text = captioner.caption(each)
            assert check_caption(text, each, CLASS_NAMES) == [], text

    def test_the_largest_class_and_the_season_are_always_named(self, captioner):
        for each in self.many_facts():
            text = captioner.caption(each).lower()
            assert each.classes[0].name.lower() in text
            assert each.season in text

    def test_a_caption_is_one_line_of_whole_sentences(self, captioner):
        for each in self.many_facts():
            text = captioner.caption(each)
            assert text == " ".join(text.split())
            assert text[0].isupper()
            assert text.endswith(".")

    def test_a_patch_keeps_its_caption_whatever_was_written_before(self, captioner):
        many = self.many_facts()
        forward = {facts_digest(each): captioner.caption(each) for each in many}
        again = captioner_for(Captions(engine=self.engine, seed=captioner.seed))
        assert {facts_digest(each): again.caption(each) for each in reversed(many)} == forward

    def test_a_patch_without_any_class_still_gets_a_caption(self, captioner):
        nothing = facts({})
        assert check_caption(captioner.caption(nothing), nothing, CLASS_NAMES) == []
