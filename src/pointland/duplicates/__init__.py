"""Copies within a set of pictures, found without a table of all pairs."""

from pointland.duplicates.forest import near_pairs
from pointland.duplicates.groups import Duplicates, duplicate_groups
from pointland.duplicates.hamming import hash_components, parse_hashes
from pointland.duplicates.joining import Pairs, join, numbered
from pointland.duplicates.portrait import CELLS, PORTRAIT, content_hash, flat, portraits, thumbnails
from pointland.duplicates.templates import shared_share, template_groups

__all__ = [
    "CELLS",
    "PORTRAIT",
    "Duplicates",
    "Pairs",
    "content_hash",
    "duplicate_groups",
    "flat",
    "hash_components",
    "join",
    "near_pairs",
    "numbered",
    "parse_hashes",
    "portraits",
    "shared_share",
    "template_groups",
    "thumbnails",
]
