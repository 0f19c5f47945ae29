# ruff: noqa: E501 - lines of XML are as long as in the products
"""Writes Sentinel-2 Level-1C products as ESA delivers them: thirteen bands as JPEG 2000, and the XML sen2cor reads.

Element names, nesting and namespaces are those of real products of baselines 02.04 and 05.00. Colour image, preview and
masks are left out. The same arguments give the same bytes.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from rsdata.errors import SceneError
from rsdata.grid import Tile
from rsdata.sensors.sentinel2 import MISSIONS, NODATA_COUNTS, OFFSET_COUNTS, QUANTIFICATION, SATURATED_COUNTS, SENTINEL2
from rsdata.testing import safe
from rsdata.testing.safe import QUALITY_PASSED, Pixels

# Band to ground sampling distance, metres, in the order products list them; B10 (cirrus) has no surface reflectance.
_NAMES = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
L1C_BANDS = {name: 60 if name == "B10" else SENTINEL2[name].gsd_m for name in _NAMES}
_DELAY = timedelta(hours=2, minutes=11, seconds=3)


def write_l1c_safe(
    folder: Path,
    *,
    tile: Tile,
    sensing: datetime,
    bands: Mapping[str, Pixels],
    ul_x_m: int | None = None,
    ul_y_m: int | None = None,
    baseline: str = "05.09",
    mission: str = "S2A",
    relative_orbit: int = 22,
    orbit_direction: str = "DESCENDING",
    processed: datetime | None = None,
    offset: int | None = None,
    quantification: int = QUANTIFICATION,
    quality_checks: Mapping[str, str] = QUALITY_PASSED,
    empty_folders: bool = True,
    threads: int | str = "ALL_CPUS",
) -> Path:
    """Write a Level-1C product; it appears under its name only once it is whole.

    Args:
        folder: where the product's folder is made.
        sensing: start of the datatake, UTC if it has no timezone; part of the name.
        bands: each of the thirteen bands by name, (y, x) uint16 counts at its native resolution, 0 no data.
        ul_x_m: left edge of the raster, metres; the tile's own if absent.
        ul_y_m: upper edge of the raster, metres; the tile's own if absent.
        baseline: processing baseline such as 05.09.
        processed: processing time, part of the name; some hours after ``sensing`` if absent.
        offset: RADIO_ADD_OFFSET of every band, counts. If absent, what the baseline carries: -1000 from 04.00 on, none before.
        quality_checks: inspection to PASSED or FAILED; those not named are PASSED.
        empty_folders: make the folders that real products hold empty (AUX_DATA, HTML, …), which some downloads lose.
        threads: GDAL_NUM_THREADS while encoding.

    Returns: the product's folder, ``<product name>.SAFE``.
    Raises:
        SceneError: if a band is missing, is of another type, or does not cover the same ground as the others.
        GridError: if the raster does not lie in its tile, or not on its 60 m lattice.
        WorkspaceError: if the system refuses to write.
    """
    missing = [name for name in L1C_BANDS if name not in bands]
    if missing or mission not in MISSIONS:
        raise SceneError(
            f"a Level-1C product needs all of {', '.join(L1C_BANDS)} and one of {', '.join(MISSIONS)}; "
            f"{', '.join(missing) or mission} cannot be written",
            missing=missing,
        )
    sensing = safe.utc(sensing)
    processed = safe.utc(processed) if processed else sensing + _DELAY
    number = baseline.replace(".", "")
    name = f"{mission}_MSIL1C_{safe.stamp(sensing)}_N{number}_R{relative_orbit:03d}_T{tile.name}_{safe.stamp(processed)}"
    if offset is None and float(baseline) >= 4:
        offset = OFFSET_COUNTS
    ul_x_m, ul_y_m = tile.ul_x_m if ul_x_m is None else ul_x_m, tile.ul_y_m if ul_y_m is None else ul_y_m
    orbit = safe.absolute_orbit(mission, relative_orbit, sensing)
    granule = f"GRANULE/L1C_T{tile.name}_A{orbit:06d}_{safe.stamp(sensing)}"
    strip = f"DATASTRIP/DS_2BPS_{safe.stamp(processed)}_S{safe.stamp(sensing)}"
    raster = safe.Raster(tile, ul_x_m, ul_y_m, threads)
    with safe.written_aside(folder / f"{name}.SAFE") as aside:
        images = {band: f"{granule}/IMG_DATA/T{tile.name}_{safe.stamp(sensing)}_{band}" for band in L1C_BANDS}
        for band in sorted(L1C_BANDS, key=lambda each: L1C_BANDS[each]):  # 10 m first, so that the others are held to it
            raster.write(aside / f"{images[band]}.jp2", bands[band], L1C_BANDS[band], "uint16", band)
        rows, cols = raster.shape_yx
        zenith_deg, azimuth_deg = safe.sun_angles(raster, sensing)
        values = {
            "name": name,
            "start": safe.instant(sensing),
            "generation": safe.instant(processed),
            "baseline": baseline,
            "mission": mission,
            "datatake": f"G{mission}_{safe.stamp(sensing)}_{orbit:06d}_N{baseline}",
            "relative_orbit": relative_orbit,
            "absolute_orbit": orbit,
            "orbit_direction": orbit_direction,
            "datastrip_id": f"{mission}_OPER_MSI_L1C_DS_2BPS_{safe.stamp(processed)}_S{safe.stamp(sensing)}_N{baseline}",
            "tile_id": f"{mission}_OPER_MSI_L1C_TL_2BPS_{safe.stamp(processed)}_A{orbit:06d}_T{tile.name}_N{baseline}",
            "images": list(images.values()),
            "special_values": {"NODATA": NODATA_COUNTS, "SATURATED": SATURATED_COUNTS},
            "quantification": quantification,
            "offset": offset,
            "sun_distance_factor": safe.sun_distance_factor(sensing),
            "spectral_bands": safe.spectral_bands(),
            "footprint": safe.footprint(raster),
            "quality_checks": {each: flag for each, flag in {**QUALITY_PASSED, **quality_checks}.items() if each != "L2A_QUALITY"},
            "crs_name": f"WGS84 / UTM zone {tile.name[:2]}{'N' if tile.epsg < 32700 else 'S'}",
            "epsg": tile.epsg,
            "sizes": {gsd_m: (rows * 10 // gsd_m, cols * 10 // gsd_m) for gsd_m in (10, 20, 60)},
            "ul_x_m": ul_x_m,
            "ul_y_m": ul_y_m,
            "sun_zenith_deg": zenith_deg,
            "sun_azimuth_deg": azimuth_deg,
        }
        xml = {"MTD_MSIL1C.xml": _PRODUCT, f"{granule}/MTD_TL.xml": _TILE, f"{strip}/MTD_DS.xml": _DATASTRIP}
        for path, template in xml.items():
            (aside / path).parent.mkdir(parents=True, exist_ok=True)
            (aside / path).write_text(template.render(values), encoding="utf-8")
        modern = float(baseline) >= 5
        algorithm, checksum_name = ("sha3_256", "SHA3-256") if modern else ("md5", "MD5")
        files = [safe.described(aside, path, algorithm) for path in (*xml, *(f"{image}.jp2" for image in images.values()))]
        (aside / "manifest.safe").write_text(_MANIFEST.render(values, files=files, checksum_name=checksum_name), encoding="utf-8")
        if empty_folders:
            for path in ("AUX_DATA", "HTML", "rep_info", f"{granule}/AUX_DATA", f"{granule}/QI_DATA", f"{strip}/QI_DATA"):
                (aside / path).mkdir(parents=True)
    return folder / f"{name}.SAFE"


_ENVIRONMENT = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined)

_PRODUCT = _ENVIRONMENT.from_string("""\
<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-1C_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-1C.xsd" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-1C.xsd">
    <n1:General_Info>
        <Product_Info>
            <PRODUCT_START_TIME>{{ start }}</PRODUCT_START_TIME>
            <PRODUCT_STOP_TIME>{{ start }}</PRODUCT_STOP_TIME>
            <PRODUCT_URI>{{ name }}.SAFE</PRODUCT_URI>
            <PROCESSING_LEVEL>Level-1C</PROCESSING_LEVEL>
            <PRODUCT_TYPE>S2MSI1C</PRODUCT_TYPE>
            <PROCESSING_BASELINE>{{ baseline }}</PROCESSING_BASELINE>
            <GENERATION_TIME>{{ generation }}</GENERATION_TIME>
            <PREVIEW_IMAGE_URL>Not applicable</PREVIEW_IMAGE_URL>
            <PREVIEW_GEO_INFO>Not applicable</PREVIEW_GEO_INFO>
            <Datatake datatakeIdentifier="{{ datatake }}">
                <SPACECRAFT_NAME>Sentinel-{{ mission[1:] }}</SPACECRAFT_NAME>
                <DATATAKE_TYPE>INS-NOBS</DATATAKE_TYPE>
                <DATATAKE_SENSING_START>{{ start }}</DATATAKE_SENSING_START>
                <SENSING_ORBIT_NUMBER>{{ relative_orbit }}</SENSING_ORBIT_NUMBER>
                <SENSING_ORBIT_DIRECTION>{{ orbit_direction }}</SENSING_ORBIT_DIRECTION>
            </Datatake>
            <Query_Options completeSingleTile="true">
                <PRODUCT_FORMAT>SAFE_COMPACT</PRODUCT_FORMAT>
            </Query_Options>
            <Product_Organisation>
                <Granule_List>
                    <Granule datastripIdentifier="{{ datastrip_id }}" granuleIdentifier="{{ tile_id }}" imageFormat="JPEG2000">
{% for image in images %}
                        <IMAGE_FILE>{{ image }}</IMAGE_FILE>
{% endfor %}
                    </Granule>
                </Granule_List>
            </Product_Organisation>
        </Product_Info>
        <Product_Image_Characteristics>
{% for text, index in special_values.items() %}
            <Special_Values>
                <SPECIAL_VALUE_TEXT>{{ text }}</SPECIAL_VALUE_TEXT>
                <SPECIAL_VALUE_INDEX>{{ index }}</SPECIAL_VALUE_INDEX>
            </Special_Values>
{% endfor %}
            <Image_Display_Order>
                <RED_CHANNEL>3</RED_CHANNEL>
                <GREEN_CHANNEL>2</GREEN_CHANNEL>
                <BLUE_CHANNEL>1</BLUE_CHANNEL>
            </Image_Display_Order>
            <QUANTIFICATION_VALUE unit="none">{{ quantification }}</QUANTIFICATION_VALUE>
{% if offset is not none %}
            <Radiometric_Offset_List>
{% for band_id in range(13) %}
                <RADIO_ADD_OFFSET band_id="{{ band_id }}">{{ offset }}</RADIO_ADD_OFFSET>
{% endfor %}
            </Radiometric_Offset_List>
{% endif %}
            <Reflectance_Conversion>
                <U>{{ "%.15f" | format(sun_distance_factor) }}</U>
                <Solar_Irradiance_List>
{% for band in spectral_bands %}
                    <SOLAR_IRRADIANCE bandId="{{ band.band_id }}" unit="W/m²/µm">{{ band.irradiance }}</SOLAR_IRRADIANCE>
{% endfor %}
                </Solar_Irradiance_List>
            </Reflectance_Conversion>
            <Spectral_Information_List>
{% for band in spectral_bands %}
                <Spectral_Information bandId="{{ band.band_id }}" physicalBand="{{ band.name }}">
                    <RESOLUTION>{{ band.gsd_m }}</RESOLUTION>
                    <Wavelength>
                        <MIN unit="nm">{{ band.low_nm }}</MIN>
                        <MAX unit="nm">{{ band.high_nm }}</MAX>
                        <CENTRAL unit="nm">{{ band.centre_nm }}</CENTRAL>
                    </Wavelength>
                </Spectral_Information>
{% endfor %}
            </Spectral_Information_List>
            <REFERENCE_BAND>3</REFERENCE_BAND>
        </Product_Image_Characteristics>
    </n1:General_Info>
    <n1:Geometric_Info>
        <Product_Footprint>
            <Product_Footprint>
                <Global_Footprint>
                    <EXT_POS_LIST>{{ footprint }} </EXT_POS_LIST>
                </Global_Footprint>
            </Product_Footprint>
            <RASTER_CS_TYPE>POINT</RASTER_CS_TYPE>
            <PIXEL_ORIGIN>1</PIXEL_ORIGIN>
        </Product_Footprint>
    </n1:Geometric_Info>
    <n1:Quality_Indicators_Info>
        <Cloud_Coverage_Assessment>0.0</Cloud_Coverage_Assessment>
        <Technical_Quality_Assessment>
            <DEGRADED_ANC_DATA_PERCENTAGE>0.0</DEGRADED_ANC_DATA_PERCENTAGE>
            <DEGRADED_MSI_DATA_PERCENTAGE>0</DEGRADED_MSI_DATA_PERCENTAGE>
        </Technical_Quality_Assessment>
        <Quality_Control_Checks>
            <Quality_Inspections>
{% for check, flag in quality_checks.items() %}
                <quality_check checkType="{{ check }}">{{ flag }}</quality_check>
{% endfor %}
            </Quality_Inspections>
            <Failed_Inspections/>
        </Quality_Control_Checks>
    </n1:Quality_Indicators_Info>
</n1:Level-1C_User_Product>
""")

_TILE = _ENVIRONMENT.from_string("""\
<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-1C_Tile_ID xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/S2_PDI_Level-1C_Tile_Metadata.xsd" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="https://psd-14.sentinel2.eo.esa.int/PSD/S2_PDI_Level-1C_Tile_Metadata.xsd">
  <n1:General_Info>
    <TILE_ID metadataLevel="Brief">{{ tile_id }}</TILE_ID>
    <DATASTRIP_ID metadataLevel="Standard">{{ datastrip_id }}</DATASTRIP_ID>
    <DOWNLINK_PRIORITY metadataLevel="Standard">NOMINAL</DOWNLINK_PRIORITY>
    <SENSING_TIME metadataLevel="Standard">{{ start }}</SENSING_TIME>
    <Archiving_Info metadataLevel="Expertise">
      <ARCHIVING_CENTRE>2BPS</ARCHIVING_CENTRE>
      <ARCHIVING_TIME>{{ generation }}</ARCHIVING_TIME>
    </Archiving_Info>
  </n1:General_Info>
  <n1:Geometric_Info>
    <Tile_Geocoding metadataLevel="Brief">
      <HORIZONTAL_CS_NAME>{{ crs_name }}</HORIZONTAL_CS_NAME>
      <HORIZONTAL_CS_CODE>EPSG:{{ epsg }}</HORIZONTAL_CS_CODE>
{% for gsd_m, (rows, cols) in sizes.items() %}
      <Size resolution="{{ gsd_m }}">
        <NROWS>{{ rows }}</NROWS>
        <NCOLS>{{ cols }}</NCOLS>
      </Size>
{% endfor %}
{% for gsd_m in sizes %}
      <Geoposition resolution="{{ gsd_m }}">
        <ULX>{{ ul_x_m }}</ULX>
        <ULY>{{ ul_y_m }}</ULY>
        <XDIM>{{ gsd_m }}</XDIM>
        <YDIM>-{{ gsd_m }}</YDIM>
      </Geoposition>
{% endfor %}
    </Tile_Geocoding>
    <Tile_Angles metadataLevel="Standard">
      <Mean_Sun_Angle>
        <ZENITH_ANGLE unit="deg">{{ "%.6f" | format(sun_zenith_deg) }}</ZENITH_ANGLE>
        <AZIMUTH_ANGLE unit="deg">{{ "%.6f" | format(sun_azimuth_deg) }}</AZIMUTH_ANGLE>
      </Mean_Sun_Angle>
    </Tile_Angles>
  </n1:Geometric_Info>
  <n1:Quality_Indicators_Info metadataLevel="Standard">
    <Image_Content_QI>
      <CLOUDY_PIXEL_PERCENTAGE>0</CLOUDY_PIXEL_PERCENTAGE>
      <DEGRADED_MSI_DATA_PERCENTAGE>0</DEGRADED_MSI_DATA_PERCENTAGE>
    </Image_Content_QI>
    <Pixel_Level_QI geometry="FULL_RESOLUTION"/>
  </n1:Quality_Indicators_Info>
</n1:Level-1C_Tile_ID>
""")

_DATASTRIP = _ENVIRONMENT.from_string("""\
<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-1C_DataStrip_ID xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/S2_PDI_Level-1C_Datastrip_Metadata.xsd" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="https://psd-14.sentinel2.eo.esa.int/PSD/S2_PDI_Level-1C_Datastrip_Metadata.xsd">
  <n1:General_Info>
    <Datatake_Info datatakeIdentifier="{{ datatake }}" metadataLevel="Standard">
      <SPACECRAFT_NAME>Sentinel-{{ mission[1:] }}</SPACECRAFT_NAME>
      <DATATAKE_TYPE>INS-NOBS</DATATAKE_TYPE>
      <DATATAKE_SENSING_START>{{ start }}</DATATAKE_SENSING_START>
      <SENSING_ORBIT_NUMBER>{{ relative_orbit }}</SENSING_ORBIT_NUMBER>
      <SENSING_ORBIT_DIRECTION>{{ orbit_direction }}</SENSING_ORBIT_DIRECTION>
    </Datatake_Info>
    <Datastrip_Time_Info metadataLevel="Standard">
      <DATASTRIP_SENSING_START>{{ start }}</DATASTRIP_SENSING_START>
      <DATASTRIP_SENSING_STOP>{{ start }}</DATASTRIP_SENSING_STOP>
    </Datastrip_Time_Info>
    <Processing_Info metadataLevel="Standard">
      <PROCESSING_BASELINE>{{ baseline }}</PROCESSING_BASELINE>
    </Processing_Info>
  </n1:General_Info>
</n1:Level-1C_DataStrip_ID>
""")

_MANIFEST = _ENVIRONMENT.from_string("""\
<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<xfdu:XFDU xmlns:gml="http://www.opengis.net/gml" xmlns:safe="http://www.esa.int/safe/sentinel/1.1" xmlns:xfdu="urn:ccsds:schema:xfdu:1" version="esa/safe/sentinel/1.1/sentinel-2/msi/archive_l1c_user_product">
    <informationPackageMap>
        <xfdu:contentUnit dmdID="acquisitionPeriod platform" pdiID="processing" textInfo="SENTINEL-2 MSI Level-1C User Product" unitType="Product_Level-1C">
{% for file in files %}
            <xfdu:contentUnit ID="{{ file.unit_id }}" unitType="{{ 'Measurement Data Unit' if file.measurement else 'Metadata Unit' }}">
                <dataObjectPointer dataObjectID="{{ file.object_id }}"/>
            </xfdu:contentUnit>
{% endfor %}
        </xfdu:contentUnit>
    </informationPackageMap>
    <metadataSection>
        <metadataObject ID="acquisitionPeriod" category="DMD" classification="DESCRIPTION">
            <metadataWrap mimeType="text/xml" textInfo="Acquisition Period" vocabularyName="Sentinel-SAFE">
                <xmlData>
                    <safe:acquisitionPeriod>
                        <safe:startTime>{{ start }}</safe:startTime>
                    </safe:acquisitionPeriod>
                </xmlData>
            </metadataWrap>
        </metadataObject>
        <metadataObject ID="platform" category="DMD" classification="DESCRIPTION">
            <metadataWrap mimeType="text/xml" textInfo="Platform Description" vocabularyName="Sentinel-SAFE">
                <xmlData>
                    <safe:platform>
                        <safe:familyName>SENTINEL</safe:familyName>
                        <safe:number>{{ mission[1:] }}</safe:number>
                    </safe:platform>
                </xmlData>
            </metadataWrap>
        </metadataObject>
        <metadataObject ID="processing" category="PDI" classification="PROVENANCE">
            <metadataWrap mimeType="text/xml" textInfo="Processing" vocabularyName="Sentinel-SAFE">
                <xmlData>
                    <safe:processing name="Generation of Level-1C User Product" start="{{ generation }}"/>
                </xmlData>
            </metadataWrap>
        </metadataObject>
    </metadataSection>
    <dataObjectSection>
{% for file in files %}
        <dataObject ID="{{ file.object_id }}">
            <byteStream mimeType="{{ file.mime_type }}" size="{{ file.bytes }}">
                <fileLocation href="./{{ file.path }}" locatorType="URL"/>
                <checksum checksumName="{{ checksum_name }}">{{ file.checksum }}</checksum>
            </byteStream>
        </dataObject>
{% endfor %}
    </dataObjectSection>
</xfdu:XFDU>
""")
