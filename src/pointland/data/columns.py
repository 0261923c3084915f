"""Which column of a table holds the pictures, and which captions and keys, by type and by customary names."""

from collections.abc import Collection

import pyarrow as pa
from pyarrow import types

from pointland.data.files import DamagedFile
from pointland.data.folder import CAPTION_COLUMNS

IMAGE_COLUMNS = ("image", "img", "picture", "image_bytes", "img_bytes", "bytes", "jpg", "jpeg", "png", "webp")
PATH_COLUMNS = ("image_path", "file_name", "filename", "file", "path")


def image_column(schema: pa.Schema, given: str | None) -> str:
    """Return the column that holds the pictures: as bytes, as Hugging Face's ``{bytes, path}``, or as paths.

    Args:
        schema: The columns there are.
        given: The one that was asked for.

    Raises:
        DamagedFile: If it is not there, cannot hold pictures, or cannot be told; the message lists the columns.
    """
    whole = [field.name for field in schema if is_bytes(field.type) or is_struct(field.type)]
    paths = [field.name for field in schema if is_text(field.type)]
    if given is not None:
        return _given(schema, given, [*whole, *paths], "bytes, or structs of bytes and path, or paths", "image")
    guesses = (
        [name for name in IMAGE_COLUMNS if name in whole],
        [field.name for field in schema if is_struct(field.type)],
        [name for name in (*IMAGE_COLUMNS, *PATH_COLUMNS) if name in paths],
    )
    found: list[str] = next(filter(None, guesses), [])
    if len(found) != 1:
        which = "more than one column may hold the pictures" if found else "no column is named or typed as pictures are"
        raise DamagedFile(f"{which}; {_there(schema)}; name it with --image (image= in Python)")
    return _one(schema, found[0], "image")


def caption_column(schema: pa.Schema, given: str | None) -> str | None:
    """Return the column that holds the captions; ``None`` if none is named so. Raises as :func:`image_column`."""
    texts = [field.name for field in schema if is_text(field.type)]
    if given is not None:
        return _given(schema, given, texts, "text", "caption")
    found = [name for name in CAPTION_COLUMNS if name in schema.names]
    if len(found) > 1 or not all(name in texts for name in found):
        which = "more than one column may hold the captions" if len(found) > 1 else f"{found[0]!r} holds no text"
        raise DamagedFile(f"{which}; {_there(schema)}; name it with --caption (caption= in Python)")
    return _one(schema, found[0], "caption") if found else None


def key_column(schema: pa.Schema, given: str | None) -> str | None:
    """Return the column that holds the keys; ``None`` if none was asked for. Raises as :func:`image_column`."""
    fit = [field.name for field in schema if is_text(field.type) or types.is_integer(field.type)]
    return None if given is None else _given(schema, given, fit, "text or whole numbers", "key")


def is_bytes(kind: pa.DataType) -> bool:
    """Tell whether values are bytes."""
    kind = _stored(kind)
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def is_text(kind: pa.DataType) -> bool:
    """Tell whether values are text."""
    kind = _stored(kind)
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def is_struct(kind: pa.DataType) -> bool:
    """Tell whether values are Hugging Face's ``{bytes, path}``."""
    kind = _stored(kind)
    return bool(types.is_struct(kind)) and any(field.name == "bytes" and is_bytes(field.type) for field in kind)


def stored(column: pa.Array) -> pa.Array:
    """Return the plain values of a dictionary or of a type that is an extension."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    return column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column


def _stored(kind: pa.DataType) -> pa.DataType:
    kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    return kind.value_type if types.is_dictionary(kind) else kind


def _given(schema: pa.Schema, name: str, fit: Collection[str], wanted: str, option: str) -> str:
    if _one(schema, name, option) not in fit:
        raise DamagedFile(f"column {name!r} holds {schema.field(name).type}; expected {wanted}")
    return name


def _one(schema: pa.Schema, name: str, option: str) -> str:
    if schema.names.count(name) != 1:
        how_many = "are several columns" if name in schema.names else "is no column"
        raise DamagedFile(f"there {how_many} {name!r}; {_there(schema)}; correct --{option}")
    return name


def _there(schema: pa.Schema) -> str:
    shown = ", ".join(f"{field.name!r} ({field.type})" for field in schema)
    return f"the columns are {shown:.600}" if shown else "there are no columns"
