"""rsdata: datasets for deep learning from Sentinel-1 and Sentinel-2 scenes."""

__version__ = "0.1.0"
