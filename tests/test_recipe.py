"""Recipes: every refusal names the file, the place in it and what was expected."""

from pathlib import Path

import pytest
import yaml

from rsdata.errors import RecipeError
from rsdata.recipe import Captions, Recipe, SplitPart, load_recipe

SCENES = {"sentinel2": ["scenes/*.SAFE"], "sentinel1": ["/radar/*"]}
VALID = {"name": "meadow", "scenes": SCENES, "labels": {"path": "clc.gpkg"}}
SYNTHETIC = {"name": "demo", "synthetic": {"tiles": ["33UUP"], "dates": ["2017-06-13T10:10:31Z"]}}


@pytest.fixture
def write(tmp_path):
    def write_recipe(content) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
        return path

    return write_recipe


def refusal(path: Path) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert str(path) in str(caught.value)
    assert caught.value.context["path"] == str(path)
    return str(caught.value)


def test_a_recipe_is_read_and_filled_in(write):
    recipe = load_recipe(write(VALID))
    assert (recipe.name, recipe.split.strategy, recipe.captions.engine, recipe.shards.format) == ("meadow", "frame", "template", "lmdb")
    assert recipe.training is None


def test_paths_are_taken_from_the_recipes_own_folder(write, tmp_path, monkeypatch):
    path = write(VALID | {"countries": {"path": "../borders.gpkg"}})
    monkeypatch.chdir("/")
    recipe = load_recipe(path)
    assert recipe.absolute(recipe.scenes.sentinel2[0]) == str(tmp_path / "scenes/*.SAFE")
    assert recipe.absolute(recipe.scenes.sentinel1[0]) == "/radar/*"
    assert recipe.absolute(recipe.labels.path) == str(tmp_path / "clc.gpkg")
    assert Path(recipe.absolute(recipe.countries.path)).resolve() == (tmp_path / "../borders.gpkg").resolve()


def test_a_recipe_says_the_same_wherever_it_lies(write, tmp_path):
    moved = tmp_path / "elsewhere" / "recipe.yaml"
    moved.parent.mkdir()
    moved.write_bytes(write(VALID).read_bytes())
    assert load_recipe(moved).digest() == load_recipe(write(VALID)).digest()


def test_addresses_stay_as_they_are(write):
    recipe = load_recipe(write(VALID))
    for address in ("/vsizip/clc.zip/clc.gpkg", "https://example.org/b.gpkg", "/data/clc.gpkg"):
        assert recipe.absolute(address) == address


def test_an_unknown_key_is_named_with_the_known_ones(write):
    message = refusal(write(VALID | {"lables": {}}))
    assert "unknown key `lables`" in message
    assert "labels" in message.split("known here are")[1]


@pytest.mark.parametrize("part", ["labels", "quality", "split", "captions", "shards", "scenes", "training", "countries"])
def test_an_unknown_key_inside_a_part_is_named_with_the_known_ones_there(write, part):
    message = refusal(write(VALID | {part: {**VALID.get(part, {}), "colour": 1}}))
    assert f"unknown key `{part}.colour`" in message
    known = set(message.split("known here are ")[1].split("; ")[0].split(", "))
    assert known.isdisjoint({"colour", "licence"})  # those of the part, not those of the whole recipe
    assert known


def test_unknown_keys_are_all_named_at_once(write):
    message = refusal(write(SYNTHETIC | {"lables": 1, "split": {"stratgy": "frame"}}))
    assert "`lables`" in message
    assert "`split.stratgy`" in message


def test_scenes_and_synthetic_exclude_each_other(write):
    assert "and not both" in refusal(write(VALID | SYNTHETIC))
    assert "either `scenes` to read or `synthetic`" in refusal(write({"name": "nothing"}))


def test_scenes_need_labels(write):
    assert "`labels.path` is missing" in refusal(write({"name": "meadow", "scenes": SCENES}))


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"name": "Two Words"}, "`name`"),
        ({"labels": {"path": "clc.gpkg", "max_unlabeled_fraction": 2}}, "`labels.max_unlabeled_fraction`"),
        ({"training": {"epochs": "many"}}, "`training.epochs`"),
        ({"training": {"task": "guessing"}}, "`training.task`"),
        ({"scenes": {"sentinel2": []}}, "`scenes.sentinel2`"),
        ({"split": "frame"}, "`split`"),
        ({"labels": None}, "`labels`"),
    ],
)
def test_an_impossible_value_is_placed(write, change, place):
    assert place in refusal(write(VALID | change))


def test_a_missing_file_is_named(tmp_path):
    assert "cannot be read: No such file" in refusal(tmp_path / "none.yaml")


def test_a_folder_is_no_recipe(tmp_path):
    assert "cannot be read" in refusal(tmp_path)


@pytest.mark.parametrize("text", ["name: [unclosed", "name: 'meadow", "\t- x", "!!python/object:os.system x"])
def test_what_is_not_yaml_is_refused(write, text):
    assert "is not YAML" in refusal(write(text))


@pytest.mark.parametrize("text", ["", "just words", "- a\n- b", "42"])
def test_yaml_without_keys_is_no_recipe(write, text):
    assert "holds no recipe" in refusal(write(text))


def test_a_recipe_in_another_encoding_is_refused(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_bytes("title: Grünland".encode("latin-1"))
    refusal(path)


def test_digest_follows_content_and_not_layout(write):
    def turned(value):
        return {key: turned(inner) for key, inner in reversed(value.items())} if isinstance(value, dict) else value

    content = VALID | {"quality": {"snow_probability": 40, "cloud_probability": 60}}
    one = load_recipe(write(yaml.safe_dump(content, sort_keys=False)))
    other = load_recipe(write("# a comment\n" + yaml.safe_dump(turned(content), sort_keys=False, indent=7)))
    assert one.digest() == other.digest()
    assert one.digest() != load_recipe(write(content | {"title": "Meadow"})).digest()


def test_a_part_has_its_own_digest(write):
    one, other = load_recipe(write(VALID)), load_recipe(write(VALID | {"title": "other", "captions": {"seed": 1}}))
    assert one.split.digest() == other.split.digest() == SplitPart().digest()
    assert one.captions.digest() != other.captions.digest() == Captions(seed=1).digest()


def test_saying_a_default_changes_no_digest(write):
    assert load_recipe(write(VALID | {"split": {"strategy": "frame"}})).digest() == load_recipe(write(VALID)).digest()


def test_a_recipe_cannot_be_changed_after_it_was_read(write):
    recipe = load_recipe(write(VALID))
    with pytest.raises(ValueError, match="frozen"):
        recipe.name = "other"


def test_a_recipe_survives_being_written_and_read(write):
    recipe = Recipe.model_validate(SYNTHETIC)
    assert load_recipe(write(recipe.model_dump(mode="json"))).model_dump() == recipe.model_dump()
