"""Pictures and what is known of them, read from where people keep them."""

from pointland.data.folder import read_folder
from pointland.data.item import Item
from pointland.data.labels import read_labels
from pointland.data.picture import Picture, UnreadablePicture, decode_picture, read_picture

__all__ = ["Item", "Picture", "UnreadablePicture", "decode_picture", "read_folder", "read_labels", "read_picture"]
