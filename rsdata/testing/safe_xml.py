# ruff: noqa: E501 - lines of XML are as long as in the products
"""The three XML files of a Level-2A product, as templates.

Element names, nesting and namespaces are those of products of baseline 05.09; of the parts that vary with a
product (angles, auxiliary files, spectral responses) only those are written that follow from what is known.
"""

from jinja2 import Environment, StrictUndefined

_ENVIRONMENT = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined)

_PRODUCT = """\
<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-2A_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-2A.xsd" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-2A.xsd">
    <n1:General_Info>
        <Product_Info>
            <PRODUCT_START_TIME>{{ start }}</PRODUCT_START_TIME>
            <PRODUCT_STOP_TIME>{{ start }}</PRODUCT_STOP_TIME>
            <PRODUCT_URI>{{ name }}.SAFE</PRODUCT_URI>
            <PROCESSING_LEVEL>Level-2A</PROCESSING_LEVEL>
            <PRODUCT_TYPE>S2MSI2A</PRODUCT_TYPE>
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
            <QUANTIFICATION_VALUES_LIST>
                <BOA_QUANTIFICATION_VALUE unit="none">{{ quantification }}</BOA_QUANTIFICATION_VALUE>
                <AOT_QUANTIFICATION_VALUE unit="none">1000.0</AOT_QUANTIFICATION_VALUE>
                <WVP_QUANTIFICATION_VALUE unit="cm">1000.0</WVP_QUANTIFICATION_VALUE>
            </QUANTIFICATION_VALUES_LIST>
{% if offset is not none %}
            <BOA_ADD_OFFSET_VALUES_LIST>
{% for band_id in range(13) %}
                <BOA_ADD_OFFSET band_id="{{ band_id }}">{{ offset }}</BOA_ADD_OFFSET>
{% endfor %}
            </BOA_ADD_OFFSET_VALUES_LIST>
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
            <Scene_Classification_List>
{% for index, text in scl_classes.items() %}
                <Scene_Classification_ID>
                    <SCENE_CLASSIFICATION_TEXT>SC_{{ text }}</SCENE_CLASSIFICATION_TEXT>
                    <SCENE_CLASSIFICATION_INDEX>{{ index }}</SCENE_CLASSIFICATION_INDEX>
                </Scene_Classification_ID>
{% endfor %}
            </Scene_Classification_List>
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
        <Coordinate_Reference_System>
            <GEO_TABLES version="1">EPSG</GEO_TABLES>
            <HORIZONTAL_CS_TYPE>GEOGRAPHIC</HORIZONTAL_CS_TYPE>
        </Coordinate_Reference_System>
    </n1:Geometric_Info>
    <n1:Quality_Indicators_Info>
        <Cloud_Coverage_Assessment>{{ percent(cloudy) }}</Cloud_Coverage_Assessment>
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
        <Image_Content_QI>
            <CLOUDY_PIXEL_OVER_LAND_PERCENTAGE>{{ percent(cloudy_land) }}</CLOUDY_PIXEL_OVER_LAND_PERCENTAGE>
{% for name, value in content.items() %}
            <{{ name }}_PERCENTAGE>{{ percent(value) }}</{{ name }}_PERCENTAGE>
{% endfor %}
            <RADIATIVE_TRANSFER_ACCURACY>0.0</RADIATIVE_TRANSFER_ACCURACY>
            <WATER_VAPOUR_RETRIEVAL_ACCURACY>0.0</WATER_VAPOUR_RETRIEVAL_ACCURACY>
            <AOT_RETRIEVAL_ACCURACY>0.0</AOT_RETRIEVAL_ACCURACY>
        </Image_Content_QI>
    </n1:Quality_Indicators_Info>
</n1:Level-2A_User_Product>
"""

_TILE = """\
<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-2A_Tile_ID xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/S2_PDI_Level-2A_Tile_Metadata.xsd" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="https://psd-14.sentinel2.eo.esa.int/PSD/S2_PDI_Level-2A_Tile_Metadata.xsd">
  <n1:General_Info>
    <L1C_TILE_ID metadataLevel="Brief">{{ l1c_tile_id }}</L1C_TILE_ID>
    <TILE_ID metadataLevel="Brief">{{ tile_id }}</TILE_ID>
    <DATASTRIP_ID metadataLevel="Standard">{{ datastrip_id }}</DATASTRIP_ID>
    <DOWNLINK_PRIORITY metadataLevel="Standard">NOMINAL</DOWNLINK_PRIORITY>
    <SENSING_TIME metadataLevel="Standard">{{ sensing }}</SENSING_TIME>
    <Archiving_Info metadataLevel="Expertise">
      <ARCHIVING_CENTRE>2APS</ARCHIVING_CENTRE>
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
      <CLOUDY_PIXEL_PERCENTAGE>{{ percent(cloudy) }}</CLOUDY_PIXEL_PERCENTAGE>
      <CLOUDY_PIXEL_OVER_LAND_PERCENTAGE>{{ percent(cloudy_land) }}</CLOUDY_PIXEL_OVER_LAND_PERCENTAGE>
      <DEGRADED_MSI_DATA_PERCENTAGE>0.000000</DEGRADED_MSI_DATA_PERCENTAGE>
{% for name, value in content.items() %}
      <{{ name }}_PERCENTAGE>{{ percent(value) }}</{{ name }}_PERCENTAGE>
{% endfor %}
      <RADIATIVE_TRANSFER_ACCURACY>0.0</RADIATIVE_TRANSFER_ACCURACY>
      <WATER_VAPOUR_RETRIEVAL_ACCURACY>0.0</WATER_VAPOUR_RETRIEVAL_ACCURACY>
      <AOT_RETRIEVAL_ACCURACY>0.0</AOT_RETRIEVAL_ACCURACY>
    </Image_Content_QI>
    <Pixel_Level_QI geometry="FULL_RESOLUTION">
{% for kind, path in masks.items() %}
      <MASK_FILENAME type="{{ kind }}">{{ path }}</MASK_FILENAME>
{% endfor %}
    </Pixel_Level_QI>
  </n1:Quality_Indicators_Info>
</n1:Level-2A_Tile_ID>
"""

_MANIFEST = """\
<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<xfdu:XFDU xmlns:gml="http://www.opengis.net/gml" xmlns:safe="http://www.esa.int/safe/sentinel/1.1" xmlns:xfdu="urn:ccsds:schema:xfdu:1" version="esa/safe/sentinel/1.1/sentinel-2/msi/archive_l2a_user_product">
    <informationPackageMap>
        <xfdu:contentUnit dmdID="acquisitionPeriod platform" pdiID="processing" textInfo="SENTINEL-2 MSI Level-2A User Product" unitType="Product_Level-2A">
{% for file in files if not file.measurement %}
            <xfdu:contentUnit ID="{{ file.unit_id }}" unitType="Metadata Unit">
                <dataObjectPointer dataObjectID="{{ file.object_id }}"/>
            </xfdu:contentUnit>
{% endfor %}
            <xfdu:contentUnit ID="Tiles" textInfo="Tiles Container">
                <xfdu:contentUnit ID="Tile1" textInfo="Tile Container">
{% for file in files if file.measurement %}
                    <xfdu:contentUnit ID="{{ file.unit_id }}" textInfo="Image Data container" unitType="Measurement Data Unit">
                        <dataObjectPointer dataObjectID="{{ file.object_id }}"/>
                    </xfdu:contentUnit>
{% endfor %}
                </xfdu:contentUnit>
            </xfdu:contentUnit>
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
        <metadataObject ID="measurementOrbitReference" category="DMD" classification="DESCRIPTION">
            <metadataWrap mimeType="text/xml" textInfo="Orbit Reference" vocabularyName="Sentinel-SAFE">
                <xmlData>
                    <safe:orbitReference>
                        <safe:orbitNumber groundTrackDirection="{{ orbit_direction | lower }}" type="start">{{ "%06d" | format(absolute_orbit) }}</safe:orbitNumber>
                        <safe:relativeOrbitNumber type="start">{{ "%03d" | format(relative_orbit) }}</safe:relativeOrbitNumber>
                    </safe:orbitReference>
                </xmlData>
            </metadataWrap>
        </metadataObject>
        <metadataObject ID="platform" category="DMD" classification="DESCRIPTION">
            <metadataWrap mimeType="text/xml" textInfo="Platform Description" vocabularyName="Sentinel-SAFE">
                <xmlData>
                    <safe:platform>
                        <safe:familyName>SENTINEL</safe:familyName>
                        <safe:number>{{ mission[1:] }}</safe:number>
                        <safe:instrument>
                            <safe:familyName abbreviation="MSI">Multi-Spectral Instrument</safe:familyName>
                        </safe:instrument>
                    </safe:platform>
                </xmlData>
            </metadataWrap>
        </metadataObject>
        <metadataObject ID="processing" category="PDI" classification="PROVENANCE">
            <metadataWrap mimeType="text/xml" textInfo="Processing" vocabularyName="Sentinel-SAFE">
                <xmlData>
                    <safe:processing name="Generation of Level-2A User Product" start="{{ generation }}"/>
                </xmlData>
            </metadataWrap>
        </metadataObject>
        <metadataObject ID="measurementFrameSet" category="DMD" classification="DESCRIPTION">
            <metadataWrap mimeType="text/xml" textInfo="Frame Set" vocabularyName="Sentinel-SAFE">
                <xmlData>
                    <safe:frameSet>
                        <safe:footPrint srsName="http://www.opengis.net/gml/srs/epsg.xml#4326">
                            <gml:coordinates>{{ footprint }} </gml:coordinates>
                        </safe:footPrint>
                    </safe:frameSet>
                </xmlData>
            </metadataWrap>
        </metadataObject>
{% for file in files if not file.measurement %}
        <metadataObject ID="{{ file.object_id }}_Information" category="DMD" classification="DESCRIPTION">
            <dataObjectPointer dataObjectID="{{ file.object_id }}"/>
        </metadataObject>
{% endfor %}
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
"""

PRODUCT_XML = _ENVIRONMENT.from_string(_PRODUCT)  # MTD_MSIL2A.xml
TILE_XML = _ENVIRONMENT.from_string(_TILE)  # GRANULE/*/MTD_TL.xml
MANIFEST_XML = _ENVIRONMENT.from_string(_MANIFEST)  # manifest.safe
