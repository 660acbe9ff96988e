from __future__ import annotations

import pytest

from omniwsi.slide.pixel_size import (
    Claim,
    claims_of,
    description_claim,
    description_power,
    given,
    judge,
    ome_claim,
    tiff_resolution_claim,
)

OME = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image><Pixels {}/></Image></OME>'


@pytest.mark.parametrize(
    ("claim", "mpp"),
    [
        (Claim("0.2520", "0.2520", "aperio.MPP"), 0.252),
        (Claim(0.25, 0.5, "x and y differ"), 0.25),
        (Claim("250", "250", "OME", "nm"), 0.25),
        (Claim("0.00025", "0.00025", "OME", "mm"), 0.25),
        (Claim("2.5e-5", "2.5e-5", "OME", "cm"), 0.25),
        (Claim("0.25", "0.25", "OME", "µm"), 0.25),
        (Claim(40000, 40000, "TIFF", "cm", per_unit=True), 0.25),
        (Claim((400000, 10), (400000, 10), "TIFF", "cm", per_unit=True), 0.25),
        (Claim(101600, 101600, "TIFF", "inch", per_unit=True), 0.25),
        (Claim(4000, 4000, "TIFF", "mm", per_unit=True), 0.25),
        (Claim(4, 4, "TIFF", "um", per_unit=True), 0.25),
    ],
)
def test_believed(claim: Claim, mpp: float) -> None:
    size, problem = judge([claim], None, "a.svs")
    assert problem == ""
    assert size is not None
    assert size.x == pytest.approx(mpp)
    assert not size.estimated
    assert size.source == claim.source


@pytest.mark.parametrize(
    "claim",
    [
        Claim("0", "0", "aperio.MPP"),
        Claim("nan", "nan", "aperio.MPP"),
        Claim("inf", "inf", "aperio.MPP"),
        Claim("-0.25", "-0.25", "aperio.MPP"),
        Claim("", "", "aperio.MPP"),
        Claim("about a quarter", "x", "aperio.MPP"),
        Claim("499", "499", "aperio.MPP"),
        Claim("0.25", "0", "aperio.MPP"),
        Claim("0.25", "0.25", "OME", "furlong"),
        Claim(72, 72, "TIFF", "inch", per_unit=True),
        Claim((720000, 10000), (720000, 10000), "TIFF", "inch", per_unit=True),
        Claim(0, 0, "TIFF", "cm", per_unit=True),
        Claim((1, 0), (1, 0), "TIFF", "cm", per_unit=True),
    ],
)
@pytest.mark.parametrize("power", [None, "40"])
def test_never_used_silently(claim: Claim, power: str | None) -> None:
    """Nor is the objective taken instead: a file that contradicts itself is for a person to judge."""
    size, problem = judge([claim], power, "a.svs")
    assert size is None
    assert problem.startswith("a.svs states a pixel size that cannot be right (")
    assert "pass --mpp " in problem
    assert "\n" not in problem


def test_72_dpi_says_what_it_reads_as() -> None:
    _, problem = judge([Claim(72, 72, "TIFF resolution", "inch", per_unit=True)], None, "a.tif")
    assert "reads as 352.8 um a pixel" in problem


def test_a_decimal_comma_is_offered_not_taken() -> None:
    size, problem = judge([Claim("0,2520", "0,2520", "aperio.MPP")], None, "a.svs")
    assert size is None
    assert problem.endswith("pass --mpp 0.252 if that is meant")


@pytest.mark.parametrize(("power", "mpp"), [("40", 0.25), ("20", 0.5), (10.0, 1.0), ("5", 2.0)])
def test_objective_power_is_an_estimate(power: object, mpp: float) -> None:
    size, _ = judge([], power, "a.svs")
    assert size is not None
    assert size.x == size.y == mpp
    assert size.estimated
    assert "objective power" in size.source


@pytest.mark.parametrize("power", [None, "", "0", "-20", "many", "1000", "nan"])
def test_nothing_known(power: object) -> None:
    size, problem = judge([], power, "a.svs")
    assert size is None
    assert problem == "a.svs has no pixel size in its metadata; pass --mpp, for example --mpp 0.25 for 40x"


def test_tiff_units() -> None:
    for unit in (2, 3, "inch", "centimeter", "cm"):
        assert len(tiff_resolution_claim(40000, 40000, unit, "TIFF")) == 1
    for unit in (1, "none", None, 99):
        assert tiff_resolution_claim(1, 1, unit, "TIFF") == []


def test_ome_xml() -> None:
    size = 'PhysicalSizeX="0.499" PhysicalSizeY="0.5" PhysicalSizeXUnit="µm"'
    assert ome_claim(OME.format(size)) == [Claim("0.499", "0.5", "OME-XML PhysicalSize", "µm")]
    assert ome_claim(OME.format('PhysicalSizeX="1" PhysicalSizeY="1"'))[0].unit == "µm"  # the standard's default
    assert ome_claim(OME.format("")) == []
    assert ome_claim("<OME") == []


def test_descriptions() -> None:
    aperio = "Aperio Image Library v1|AppMag = 40|MPP = 0.2498|Left = 1"
    assert description_claim(aperio)[0].x == "0.2498"
    assert description_power(aperio) == "40"
    assert description_claim("ImageJ=1.53") == []
    assert description_power("ImageJ=1.53") is None


def test_openslide_properties() -> None:
    vendor = {"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.26", "openslide.vendor": "hamamatsu"}
    assert claims_of(vendor) == [Claim("0.25", "0.26", "hamamatsu metadata")]
    assert claims_of({"openslide.vendor": "aperio", "aperio.MPP": "0,25"})[0].x == "0,25"
    assert claims_of({"openslide.vendor": "generic-tiff"}) == []


def test_given() -> None:
    assert given(0.25).source == "given"
    assert (given((0.25, 0.5)).x, given((0.25, 0.5)).y) == (0.25, 0.5)
    for wrong in (0.0, -1.0, 352.8, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="mpp must lie between"):
            given(wrong)
