"""Label noise, few and nested patches, clients, strata and pruning, against hand counts and brute force."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from suites import CLASS_NAMES, PartitionTests
from typer.testing import CliRunner

from rsdata import steps
from rsdata.catalog.geoparquet import write_rows
from rsdata.commands import app
from rsdata.errors import CatalogError, SubsetError
from rsdata.records import SUBSET_KEY, PatchFacts, SubsetInfo
from rsdata.steps.subset_sources import read_embeddings
from rsdata.subsets import (
    FREE,
    NOISES,
    PARTITIONS,
    Patches,
    Settings,
    divide,
    far_apart,
    few_shot,
    inject,
    main_themes,
    near_duplicates,
    nested,
    sample,
    stratify,
    unit_vectors,
)

SCENE = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP"
CLASSES = ("Arable land", "Pastures", "Inland waters", "Mixed forest")


def table_of(count: int = 400, seed: int = 0) -> pd.DataFrame:
    """Patches with classes of 60, 30, 8 and 2 %, some with none; every fifth is of the test split."""
    random = np.random.default_rng(seed)
    have = random.random((count, 4)) < [0.6, 0.3, 0.08, 0.02]
    return pd.DataFrame(
        {
            "patch_id": [f"{SCENE}_{number // 91:02d}_{number % 91:02d}" for number in range(count)],
            "labels": [[name for name, yes in zip(CLASSES, row, strict=True) if yes] for row in have],
            "split": ["test" if number % 5 == 4 else "train" for number in range(count)],
        }
    )


@pytest.fixture
def patches() -> Patches:
    return Patches.of(table_of(), classes=CLASSES)


# --- the patches ------------------------------------------------------------------------------------------


def test_dropped_patches_and_those_of_other_splits_are_left_out():
    table = table_of(10).assign(kept=[True] * 8 + [False] * 2)
    assert list(Patches.of(table, "train").ids) == [f"{SCENE}_00_{each:02d}" for each in (0, 1, 2, 3, 5, 6, 7)]


@pytest.mark.parametrize(
    ("change", "split", "words"),
    [
        (lambda t: pd.concat([t, t[:1]]), None, "1 rows name a patch that is there already"),
        (lambda t: t.drop(columns="split"), "train", "has no column `split`"),
        (lambda t: t.drop(columns="labels"), None, "has no column `labels`"),
        (lambda t: t, "validation", "no patches of the validation split"),
        (lambda t: t.assign(labels="Pastures"), None, "expected a list of class names"),
        (lambda t: t.assign(labels=[["Tundra"]] * len(t)), None, "Tundra, which the label table does not list"),
    ],
)
def test_a_table_that_does_not_serve_is_refused_in_words(change, split, words):
    with pytest.raises(SubsetError, match=words):
        Patches.of(change(table_of(10)), split, CLASSES)


# --- noise ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("rate", [0.0, 0.05, 0.3, 1.0])
def test_each_class_has_exactly_the_noise_asked_for(patches, kind, rate):
    noise = inject(patches, kind, rate, seed=3)
    present = patches.labels.sum(axis=0)
    absent = len(patches) - present
    removed = (patches.labels & ~noise.labels).sum(axis=0)
    added = (~patches.labels & noise.labels).sum(axis=0)
    wanted = [(int(rate * p + 0.5), int(rate * a + 0.5)) for p, a in zip(present, absent, strict=True)]
    assert removed.tolist() == [p if kind != "additive" else 0 for p, _ in wanted]
    assert added.tolist() == [a if kind != "subtractive" else 0 for _, a in wanted]
    assert (noise.flipped == (noise.labels != patches.labels)).all()


def test_half_an_entry_counts_up():
    table = pd.DataFrame({"patch_id": [f"{SCENE}_00_{each:02d}" for each in range(5)], "labels": [["Pastures"]] * 5})
    assert [int(inject(Patches.of(table), "subtractive", rate, 0).flipped.sum()) for rate in (0.1, 0.29, 0.3, 0.7)] == [1, 1, 2, 4]


def test_what_little_noise_flips_more_noise_flips_too(patches):
    little, more = inject(patches, "mixed", 0.1, 1).flipped, inject(patches, "mixed", 0.2, 1).flipped
    assert not (little & ~more).any()
    assert (little != inject(patches, "mixed", 0.1, 2).flipped).any()


def test_noise_does_not_depend_on_the_order_of_rows():
    first, second = (inject(Patches.of(table), "mixed", 0.1, 1) for table in (table_of(), table_of().sample(frac=1, random_state=2)))
    assert (first.flipped == second.flipped).all()


def test_noise_that_is_none_is_refused(patches):
    with pytest.raises(SubsetError, match="known are additive, subtractive, mixed"):
        inject(patches, "salt", 0.1, 0)
    with pytest.raises(SubsetError, match="expected 0 to 1"):
        inject(patches, "mixed", 1.1, 0)


def test_the_manifest_of_noise_keeps_clean_labels_and_a_mask_by_class(tmp_path):
    table_of().sample(frac=1, random_state=3).to_parquet(tmp_path / "patches.parquet")
    info = steps.make_noise(tmp_path / "patches.parquet", tmp_path / "noise.parquet", kind="mixed", rate=0.1, seed=5)
    rows = pq.read_table(tmp_path / "noise.parquet").to_pylist()
    clean = {row.patch_id: sorted(row.labels) for row in table_of().itertuples() if row.split == "train"}
    assert {row["patch_id"]: row["clean_labels"] for row in rows} == clean
    for row in rows:
        flipped = {name for name, mask in zip(info.classes, row["flipped"], strict=True) if mask}
        assert set(row["labels"]) ^ set(row["clean_labels"]) == flipped
    stored = SubsetInfo.model_validate_json(pq.read_metadata(tmp_path / "noise.parquet").metadata[SUBSET_KEY.encode()])
    assert stored == info
    assert info.counts["removed"] + info.counts["added"] == sum(sum(row["flipped"]) for row in rows)
    bytes_of = (tmp_path / "noise.parquet").read_bytes()
    steps.make_noise(tmp_path / "patches.parquet", tmp_path / "noise.parquet", kind="mixed", rate=0.1, seed=5)
    assert (tmp_path / "noise.parquet").read_bytes() == bytes_of


# --- few-shot and nested ----------------------------------------------------------------------------------


def test_few_shot_gives_each_class_k_patches_or_all_it_has(patches):
    within = few_shot(patches, [1, 5, 20], seed=0)
    for k in (1, 5, 20):
        have = patches.labels[within <= k].sum(axis=0)
        assert (have >= np.minimum(k, patches.labels.sum(axis=0))).all()
        assert (within <= k).sum() <= 4 * k
    assert patches.labels.sum(axis=0).min() < 20  # so that one class gave all it has


def test_the_patches_of_one_k_do_not_depend_on_other_sizes(patches):
    together, alone = few_shot(patches, [1, 5, 20], seed=0), few_shot(patches, [5], seed=0)
    assert ((together <= 5) == (alone <= 5)).all()
    assert ((few_shot(patches, [5], seed=1) <= 5) != (alone <= 5)).any()


def test_shares_are_exact_lie_inside_each_other_and_keep_the_share_of_every_class(patches):
    within = nested(patches, [0.5, 0.1, 0.2], seed=0)
    assert [int((within <= share).sum()) for share in (0.1, 0.2, 0.5)] == [40, 80, 200]
    for share in (0.1, 0.2, 0.5):
        assert np.abs(patches.labels[within <= share].sum(axis=0) - share * patches.labels.sum(axis=0)).max() <= 2


def test_stratified_groups_differ_less_than_random_ones(patches):
    sizes = [100, 100, 200]
    wanted = patches.labels.sum(axis=0)[None] * np.array(sizes)[:, None] / 400

    def distance(group):
        return np.abs([patches.labels[group == each].sum(axis=0) for each in range(3)] - wanted).max()

    ours = distance(stratify(patches.labels, sizes, np.random.default_rng(0)))
    by_chance = [distance(np.random.default_rng(seed).permutation(np.repeat([0, 1, 2], sizes))) for seed in range(20)]
    assert ours <= 1.5 < min(by_chance)


def test_sizes_that_are_none_are_refused(patches):
    with pytest.raises(SubsetError, match="expected 1 and more"):
        few_shot(patches, [0], 0)
    with pytest.raises(SubsetError, match="above 0 and at most 1"):
        nested(patches, [0.1, 1.5], 0)


# --- clients ----------------------------------------------------------------------------------------------


class TestIid(PartitionTests):
    partition = "iid"

    def test_sizes_differ_by_one_at_most(self, table):
        sizes = pd.Series(self.deal(table, clients=7)).value_counts()
        assert sizes.max() - sizes.min() == 1
        assert len(sizes) == 7


class TestModality(PartitionTests):
    partition = "modality"

    def test_clients_have_radar_then_optical_then_both(self, table):
        found = divide(Patches.of(table), "modality", Settings(clients=4), 0)
        assert list(found.sensors.values()) == [("s1",), ("s2",), ("s1", "s2"), ("s1",)]


class TestCountry(PartitionTests):
    partition = "country"
    draws_lots = False
    clients = None

    def test_each_country_is_a_client(self, table):
        assert self.deal(table) == dict(zip(table["patch_id"], table["country"], strict=True))

    def test_fewer_clients_share_countries_evenly(self, table):
        assert sorted(pd.Series(self.deal(table, clients=2)).value_counts()) == [80, 160]


class TestSeason(PartitionTests):
    partition = "season"
    draws_lots = False
    clients = None

    def test_the_season_follows_from_the_id(self, table):
        assert {each[11:17]: client for each, client in self.deal(table).items()} == {
            "201701": "winter", "201704": "spring", "201707": "summer", "201710": "autumn",
        }  # fmt: skip


class TestTile(PartitionTests):
    partition = "tile"
    draws_lots = False
    clients = None

    def test_the_tile_follows_from_the_id(self, table):
        assert all(f"_T{client}_" in patch_id for patch_id, client in self.deal(table).items())

    def test_more_clients_than_tiles_are_refused(self, table):
        with pytest.raises(SubsetError, match="2 groups by tile are too few for 3 clients"):
            self.deal(table, clients=3)


class TestDirichlet(PartitionTests):
    partition = "dirichlet"

    def test_a_small_alpha_gives_clients_that_differ_more(self, table):
        def unevenness(alpha):
            patches = Patches.of(table)
            client = divide(patches, "dirichlet", Settings(3, alpha, least=5), 0).client
            shares = np.stack([patches.labels[client == name].mean(axis=0) for name in sorted(set(client))])
            return np.abs(shares - shares.mean(axis=0)).sum()

        assert unevenness(0.1) > 2 * unevenness(100.0)

    def test_with_a_huge_alpha_every_client_has_its_part_of_every_rarest_class(self, table):
        patches = Patches.of(table)
        client = divide(patches, "dirichlet", Settings(3, 1e9), 0).client
        sizes = patches.labels.sum(axis=0)
        rarest = [min(np.flatnonzero(row), key=lambda each: (sizes[each], each), default=-1) for row in patches.labels]
        for _, rows in pd.Series(range(len(patches))).groupby(rarest):
            counts = pd.Series(client[rows]).value_counts().reindex(sorted(set(client)), fill_value=0)
            assert counts.max() - counts.min() <= 1

    def test_a_partition_that_chance_does_not_give_is_refused(self, table):
        with pytest.raises(SubsetError, match="100 draws with alpha 0.001 left one of 3 clients fewer than 79 patches"):
            self.deal(table, alpha=0.001, least=79)


def test_every_partition_is_held_to_the_suite():
    assert {each.partition for each in PartitionTests.__subclasses__()} == set(PARTITIONS)


def test_clients_that_cannot_be_are_refused(patches):
    with pytest.raises(SubsetError, match="known are iid, country"):
        divide(patches, "planet", Settings(), 0)
    with pytest.raises(SubsetError, match="has no column `country`"):
        divide(patches, "country", Settings(), 0)
    with pytest.raises(SubsetError, match="s3 is no choice of sensors"):
        divide(patches, "iid", Settings(), 0, ["s3"])
    with pytest.raises(SubsetError, match="401 clients cannot share 400 patches"):
        divide(patches, "iid", Settings(clients=401), 0)


def test_the_picture_of_a_partition_is_the_same_bytes_each_time_and_names_clients_and_classes(tmp_path):
    table_of().to_parquet(tmp_path / "patches.parquet")
    pictures = [tmp_path / "first.svg", tmp_path / "second.svg"]
    for picture in pictures:
        steps.make_clients(tmp_path / "patches.parquet", tmp_path / "clients.parquet", by="iid", picture=picture)
    assert pictures[0].read_bytes() == pictures[1].read_bytes()
    text = pictures[0].read_text(encoding="utf-8")
    assert all(name in text for name in ("client-0", "client-2", *CLASSES))


# --- strata -----------------------------------------------------------------------------------------------


def test_the_main_theme_goes_by_area_where_areas_are_known():
    table = pd.DataFrame({"patch_id": [f"{SCENE}_00_00", f"{SCENE}_00_01"], "labels": [["Arable land", "Mixed forest", "Pastures"], []]})
    themes = {"Arable land": "fields", "Pastures": "fields", "Mixed forest": "woods"}
    assert main_themes(Patches.of(table), themes).tolist() == ["fields", "no theme"]
    table["label_fractions"] = [{"Arable land": 0.2, "Pastures": 0.1, "Mixed forest": 0.6}, {}]
    assert main_themes(Patches.of(table), themes).tolist() == ["woods", "no theme"]
    with pytest.raises(SubsetError, match="no theme is known of Mixed forest"):
        main_themes(Patches.of(table), {"Arable land": "fields", "Pastures": "fields"})


def test_each_stratum_gives_its_share_but_one_patch_at_least():
    stratum = np.array(["a"] * 40 + ["b"] * 15 + ["c"] * 3, object)
    within = sample(stratum, [0.1, 0.5], 0)
    assert [[int((within[stratum == name] <= size).sum()) for name in "abc"] for size in (0.1, 0.5)] == [[4, 2, 1], [20, 8, 2]]
    within = sample(stratum, [2, 10], 0)
    assert [[int((within[stratum == name] <= size).sum()) for name in "abc"] for size in (2, 10)] == [[2, 2, 2], [10, 10, 3]]
    with pytest.raises(SubsetError, match="are no sizes"):
        sample(stratum, [0.1, 10], 0)


def test_themes_of_the_19_classes_are_the_five_groups_of_corine(tmp_path):
    rows = [(f"{SCENE}_00_{number:02d}", [name], ("Cfb", "Dfc")[number % 2], "train") for number, name in enumerate(CLASS_NAMES)]
    pd.DataFrame(rows, columns=["patch_id", "labels", "climate", "split"]).to_parquet(tmp_path / "patches.parquet")
    info = steps.make_strata(tmp_path / "patches.parquet", tmp_path / "strata.parquet", sizes=[1.0], by=["climate", "theme"])
    found = dict.fromkeys(("Artificial surfaces", "Agricultural areas", "Forest and semi-natural areas", "Wetlands", "Water bodies"), 0)
    for row in info.rows:
        found[row.name.split(" × ")[1]] += row.counts["all"]
    assert list(found.values()) == [2, 6, 7, 2, 2]  # 2 artificial, 6 agricultural, 7 forest and semi-natural, 2 wetlands, 2 waters


def test_climates_come_from_the_facts_of_a_dataset_and_classes_from_its_recipe(tmp_path):
    table = table_of(20).assign(kept=True, split="train")
    table.to_parquet(tmp_path / "patches.parquet")
    (tmp_path / "recipe.yaml").write_text(
        "name: small\nsynthetic: {tiles: [33UUP], dates: ['2023-04-18T10:00:31Z'], raster_px: [360, 360]}\n"
    )
    with pytest.raises(CatalogError, match="facts.parquet does not exist"):
        steps.make_strata(tmp_path, tmp_path / "strata.parquet", sizes=[0.5])
    facts = pd.DataFrame([_FACTS | {"patch_id": each, "climate": ("Cfb", "Dfc")[row % 2]} for row, each in enumerate(table["patch_id"])])
    write_rows(tmp_path / "facts.parquet", facts, PatchFacts)
    info = steps.make_strata(tmp_path, tmp_path / "strata.parquet", sizes=[0.5], by=["climate"])
    assert [(row.name, row.counts) for row in info.rows] == [("Cfb", {"all": 10, "0.5": 5}), ("Dfc", {"all": 10, "0.5": 5})]
    assert info.classes == list(CLASS_NAMES)


_FACTS = {
    "patch_id": "", "s1_name": None, "split": None, "classes": [], "unlabeled_fraction": 0.0, "regions": [], "adjacent": [],
    "diversity": 0.0, "season": "spring", "datetime": pd.Timestamp("2017-06-13T10:10:31Z"), "country": None, "climate": None,
    "longitude": 0.0, "latitude": 0.0, "sensors": ["s2"],
}  # fmt: skip


# --- pruning ----------------------------------------------------------------------------------------------


def vectors_of(count: int = 300, seed: int = 0) -> np.ndarray:
    """Some of them copies of others, exact and nearly so."""
    random = np.random.default_rng(seed)
    made = random.normal(size=(count, 8))
    copies = random.choice(count, count // 3, replace=False)
    made[copies] = made[random.choice(count, len(copies))] * 2 + random.choice([0, 0.01, 0.2], (len(copies), 1)) * random.normal(
        size=(len(copies), 8)
    )
    return unit_vectors(made.astype(np.float32))


@pytest.mark.parametrize("threshold", [0.8, 0.99, 1.0])
@pytest.mark.parametrize("block", [7, 64, 1024])
def test_near_duplicates_are_those_that_brute_force_finds(threshold, block):
    vectors = vectors_of()
    kept: list[int] = []
    wanted = []
    for row, vector in enumerate(vectors):
        cosines = [float(np.dot(vector, vectors[other])) for other in kept]
        if cosines and max(cosines) >= threshold - 1e-9:
            wanted.append(next(other for other, each in zip(kept, cosines, strict=True) if each >= max(cosines) - 1e-9))
        else:
            kept.append(row)
            wanted.append(FREE)
    found = near_duplicates(vectors, threshold, block)
    assert found.keeper.tolist() == wanted
    assert 0 < sum(each != FREE for each in wanted) < len(vectors) - 1
    for row, keeper in enumerate(wanted):
        assert np.isnan(found.similarity[row]) if keeper == FREE else abs(found.similarity[row] - vectors[row] @ vectors[keeper]) < 1e-9


def test_the_most_diverse_are_those_that_brute_force_finds():
    vectors = vectors_of(120)
    candidates = np.arange(0, 120, 2)
    chosen = [max(candidates, key=lambda each: (round(float(vectors[each] @ vectors[candidates].mean(axis=0)), 8), -each))]
    while len(chosen) < 15:
        left = [each for each in candidates if each not in chosen]
        gap = {each: min(float(((vectors[each] - vectors[other]) ** 2).sum()) for other in chosen) for each in left}
        chosen.append(max(left, key=lambda each: (round(gap[each], 8), -each)))
    assert far_apart(vectors, 15, candidates).tolist() == chosen
    assert sorted(far_apart(vectors, 60, candidates)) == candidates.tolist()
    with pytest.raises(SubsetError, match="ask for 1 to 60"):
        far_apart(vectors, 61, candidates)


def test_an_embedding_without_a_direction_is_refused():
    with pytest.raises(SubsetError, match="2 embeddings are zero or not finite, row 1 first"):
        unit_vectors(np.array([[1.0, 2], [0, 0], [np.nan, 1]]))


@pytest.mark.parametrize(
    ("columns", "split"),
    [
        ({"patch_id": ["a", "b"], "embedding": [1.0, 2.0]}, None),
        ({"patch_id": ["a", "b"], "embedding": [["north"], ["south"]]}, None),
        ({"patch_id": ["a", "b"], "embedding": [[1.0], [2.0]], "split": [1, 2]}, "train"),
    ],
)
def test_a_table_whose_columns_are_no_embeddings_is_refused(tmp_path, columns, split):
    pd.DataFrame(columns).to_parquet(tmp_path / "embeddings.parquet")
    with pytest.raises(SubsetError, match="cannot be read as embeddings"):
        read_embeddings(tmp_path / "embeddings.parquet", split)


def test_the_keep_list_names_the_patch_that_each_left_out_one_is_like(tmp_path):
    embeddings = [[1.0, 0], [0, 1.0], [0.999, 0.01], [-1.0, 0], [1.0, 0]]
    ids = [f"{SCENE}_00_{each:02d}" for each in (3, 1, 0, 2, 4)]
    table = pd.DataFrame({"patch_id": ids, "split": ["train"] * 4 + ["test"], "embedding": embeddings})
    table.to_parquet(tmp_path / "embeddings.parquet")
    info = steps.prune_patches(tmp_path / "embeddings.parquet", tmp_path / "keep.parquet", near=0.99)
    rows = pq.read_table(tmp_path / "keep.parquet").to_pylist()
    assert [(row["patch_id"][-2:], row["kept"], row["near"] and row["near"][-2:]) for row in rows] == [
        ("00", True, None), ("01", True, None), ("02", True, None), ("03", False, "00"),
    ]  # fmt: skip
    assert info.counts == {"patches": 4, "near another": 1, "kept": 3}
    info = steps.prune_patches(tmp_path / "embeddings.parquet", tmp_path / "keep.parquet", near=0.99, keep=2)
    assert info.counts == {"patches": 4, "near another": 1, "left out for diversity": 1, "kept": 2}
    with pytest.raises(SubsetError, match="nothing says what to leave out"):
        steps.prune_patches(tmp_path / "embeddings.parquet", tmp_path / "keep.parquet")


# --- the command line -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "kind", "patches"),
    [
        (["noise", "--rate", "0.2"], "noise", 320),
        (["few-shot", "--k", "1,3"], "few-shot", 320),
        (["nested", "--shares", "0.1", "--split", "all"], "nested", 400),
        (["clients", "--by", "dirichlet", "--modalities", "s1,s2"], "clients", 320),
        (["strata", "--by", "season,theme", "--sizes", "0.25"], "strata", 320),
    ],
)
def test_each_verb_writes_a_manifest_and_says_how_it_was_made(tmp_path, arguments, kind, patches):
    table_of().to_parquet(tmp_path / "patches.parquet")
    verb, *options = arguments
    result = CliRunner().invoke(
        app, ["subset", verb, str(tmp_path / "patches.parquet"), "--out", str(tmp_path / "m.parquet"), "--json", *options]
    )
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert (said["kind"], said["counts"]["patches"]) == (kind, patches)
    assert set(pq.read_table(tmp_path / "m.parquet")["patch_id"].to_pylist()) <= set(table_of()["patch_id"])


def test_the_published_table_gives_exact_noise_and_shares(shared_data, tmp_path):
    table = shared_data / "bigearthnet_v2" / "metadata_sample" / "metadata_3tiles.parquet"
    rows = pq.read_table(table).to_pandas()
    train = rows[rows["split"] == "train"]
    present = sum(map(len, train["labels"]))
    info = steps.make_noise(table, tmp_path / "noise.parquet", kind="subtractive", rate=0.4)
    assert info.counts["present"] == present
    assert abs(info.counts["removed"] - 0.4 * present) <= 0.5 * len(info.classes)
    info = steps.make_nested(table, tmp_path / "nested.parquet", shares=[0.01, 0.1])
    assert info.counts["patches within 0.01"] == int(0.01 * len(train) + 0.5)
    for row in info.rows:
        assert abs(row.counts["0.1"] - 0.1 * row.counts["all"]) <= max(2, 0.1 * 0.1 * row.counts["all"])
