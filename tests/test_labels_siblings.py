"""Which classes a hierarchy puts together, in CORINE's codes, through a conversion, and where there is none."""

from rsdata.labels import load_nomenclature, siblings


def test_corine_codes_carry_their_groups():
    near = siblings(load_nomenclature("clc-3"))
    assert near["Coniferous forest"][0] == ["Broad-leaved forest", "Mixed forest"]
    assert "Glaciers and perpetual snow" in near["Coniferous forest"][1]
    assert near["Salt marshes"] == [["Salines", "Intertidal flats"], ["Inland marshes", "Peatbogs"]]
    assert len(near) == 44


def test_classes_made_of_several_codes_are_siblings_of_all():
    near = siblings(load_nomenclature("bigearthnet-19"))
    assert near["Coniferous forest"][0] == ["Broad-leaved forest", "Mixed forest"]
    assert near["Inland waters"] == [[], ["Marine waters"]]
    assert near["Urban fabric"] == [[], ["Industrial or commercial units"]]
    assert all(name not in {each for level in levels for each in level} for name, levels in near.items())


def test_a_table_that_converts_to_corine_lends_its_groups():
    near = siblings(load_nomenclature("worldcover-11"))
    assert "Grassland" in near["Tree cover"][0]
    assert "Cropland" not in near  # the only one of agriculture


def test_a_nomenclature_without_a_hierarchy_has_no_siblings():
    assert siblings(load_nomenclature("dynamic-world-9")) == {}
    assert siblings(load_nomenclature("clc-1")) == {}
