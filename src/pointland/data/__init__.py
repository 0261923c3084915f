"""Pictures and what is known of them, read from where people keep them."""

from pointland.data.folder import Folder, read_folder
from pointland.data.item import Item, Items
from pointland.data.labels import read_labels
from pointland.data.parquet import ParquetFiles
from pointland.data.picture import Picture, UnreadablePicture, decode_picture, read_picture
from pointland.data.source import Source
from pointland.data.sources import open_source
from pointland.data.spool import spooled
from pointland.data.tar import Tars

__all__ = [
    "Folder",
    "Item",
    "Items",
    "ParquetFiles",
    "Picture",
    "Source",
    "Tars",
    "UnreadablePicture",
    "decode_picture",
    "open_source",
    "read_folder",
    "read_labels",
    "read_picture",
    "spooled",
]
