"""Rows: what an audit keeps of one picture."""

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from pointland.auditing.tasks import Task
from pointland.data.picture import Picture
from pointland.metrics.metric import Column
from pointland.metrics.near_copies import perceptual_hash
from pointland.model import Model

Values = list[float | list[float]]
SCREENED_OUT = "screened out"  # the reason of values that a screen made needless
CUT = "caption cut to the text encoder's length"
NO_VALUE = "the model gave no finite value"


def row_schema(columns: Sequence[Column]) -> pa.Schema:
    """Return the schema of a row: what it is, then the columns with their standard errors."""
    fields = [
        ("key", pa.string()),
        ("role", pa.string()),
        ("file", pa.string()),
        ("caption", pa.string()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("sha256", pa.string()),
        ("perceptual_hash", pa.string()),
        ("note", pa.string()),
        ("reasons", pa.string()),
    ]
    for column in columns:
        fields.append((column.name, pa.float64() if column.parts == 1 else pa.list_(pa.float32(), column.parts)))
        if column.stderr is not None:
            fields.append((column.stderr, pa.float64()))
    return pa.schema(fields)


def row_of(
    task: Task,
    picture: Picture,
    columns: Sequence[Column],
    values: Mapping[str, Values],
    i: int,
    model: Model,
    *,
    screened_out: bool = False,
    note: str | None = None,
) -> dict[str, object]:
    """Return one row: a value a column, or null and the reason for it."""
    caption = task.item.caption
    row: dict[str, object] = {
        "key": portable(task.item.key),
        "role": task.role,
        "file": portable(task.item.place),
        "caption": None if caption is None else portable(caption),
        "width": picture.width,
        "height": picture.height,
        "sha256": picture.sha256,
        "perceptual_hash": perceptual_hash(picture.pixels),
        "note": "; ".join(filter(None, [CUT if caption is not None and model.is_cut(caption) else None, note])) or None,
    }
    reasons: dict[str, str] = {}
    for column in columns:
        value = values[column.name][i] if column.name in values else float("nan")
        if column.needs == "caption" and caption is None:
            reasons[column.name] = "no caption"
        elif column.name not in values and screened_out:
            reasons[column.name] = SCREENED_OUT
        elif not np.isfinite(value).all():
            reasons[column.name] = NO_VALUE
        else:
            row[column.name] = value
            if column.stderr is not None and np.isfinite(error := values[column.stderr][i]).all():
                row[column.stderr] = error
    row["reasons"] = json.dumps(reasons) if reasons else None
    return row


def portable(text: str) -> str:
    r"""Return text that Parquet and JSON can hold: bytes of a name that are not UTF-8 become ``\xNN``."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return text.encode("utf-8", "backslashreplace").decode("utf-8")
