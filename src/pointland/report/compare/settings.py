"""In which settings two runs differ, and whether their numbers mean the same."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pointland.report.compare.schema import Group, Setting
from pointland.report.words import clean, level, private

TOLERANCE = 0.01  # of sigma: two schedules never have quite the same levels
GROUPS: dict[str, Group] = {
    "model": "model",
    "sigma": "measurement",
    "metrics": "measurement",
    "columns": "measurement",
    "seed": "measurement",
    "schema_version": "measurement",
    "fdr": "verdict",
    "decide_by": "verdict",
    "data": "data",
    "environment": "software",
    "batch_size": "software",
}
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:e[+-]?\d+)?")


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Setting]:
    """Return every setting of the records that differs, those of the model first."""
    ours, theirs = dict(_flat(a)), dict(_flat(b))
    found = [
        Setting(group=GROUPS[name.split(".")[0]], name=name, a=ours.get(name), b=theirs.get(name))
        for name in dict.fromkeys([*ours, *theirs])
        if ours.get(name) != theirs.get(name)
    ]
    order = list(dict.fromkeys(GROUPS.values()))
    return sorted(found, key=lambda one: order.index(one["group"]))


def incomparable(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Say why the two runs' dimensions do not mean the same; empty if they do."""
    why = []
    space_a, space_b = (str(record["model"].get("space", "an unnamed space")) for record in (a, b))
    if space_a != space_b:
        why.append(f"A counts dimensions of {clean(space_a, 80)}, B of {clean(space_b, 80)}")
    sigma_a, sigma_b = (record["sigma"].get("value") for record in (a, b))
    if not _same_number(sigma_a, sigma_b):
        why.append(f"A counts directions wider than sigma {level(sigma_a)}, B those wider than {level(sigma_b)}")
    return why


def column_incomparable(a: Mapping[str, Any], b: Mapping[str, Any], why: list[str], space_same: bool) -> str:
    """Say why one column's numbers do not mean the same in both runs, from its contract; empty if they do.

    A number of the description, such as a sigma, may differ by 1 %.
    """
    for name in ("unit", "memorized_when"):
        if a[name] != b[name]:
            return f"its {name.replace('_', ' ')} was {clean(str(a[name]), 40)}, is {clean(str(b[name]), 40)}"
    words = [_NUMBER.sub("#", column["description"]) for column in (a, b)]
    numbers = [_NUMBER.findall(column["description"]) for column in (a, b)]
    if words[0] != words[1] or not all(map(_same_number, map(float, numbers[0]), map(float, numbers[1]))):
        return f"it was “{clean(a['description'], 160)}”, is “{clean(b['description'], 160)}”"
    if why and not (a["unit"] == "bytes" and space_same):  # bytes of a picture know no sigma
        return "; ".join(why)
    return ""


def _same_number(a: float | int | None, b: float | int | None) -> bool:
    if a is None or b is None:
        return a is b
    return abs(a - b) <= TOLERANCE * max(abs(a), abs(b))


def _flat(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield every setting as a dotted name and its value in words."""
    for part in GROUPS:
        value = record.get(part)
        if part == "sigma" and isinstance(value, Mapping):
            value = {name: value.get(name) for name in ("value", "chosen")}
        if part == "metrics" and isinstance(value, list):
            value = {one["name"]: {name: v for name, v in one.items() if name != "name"} or "as is" for one in value}
        if part == "columns" and isinstance(value, list):
            value = {column["name"]: column["description"] for column in value}
        yield from _leaves(part, value)


def _leaves(name: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for inner, of in value.items():
            yield from _leaves(f"{name}.{clean(str(inner), 60)}", of)
    elif value is not None:
        shown = f"{value:.6g}" if isinstance(value, float) else str(value)
        yield name, clean(private(shown), 200)
