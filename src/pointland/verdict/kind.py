"""The kind of a memorized picture, in the paper's terms: overfitting-driven, or data-driven, or it cannot be told.

Data-driven: the data itself is low-dimensional there, LID_* is low; a model that learned the truth would have a low
LID too. Overfitting-driven: LID_theta < LID_*, the model has fewer directions than the data. The decision table, first
row that applies:

====================================================================  ==================
evidence                                                              kind
====================================================================  ==================
exact or near copies among the audited pictures                       data-driven
data LID below that of nearly all reference pictures                  data-driven
a simpler picture (smaller PNG) than nearly all reference pictures    data-driven
data LID known, like the reference's, and none of the above           overfitting-driven
otherwise: no data LID, no reference, or too few pictures             cannot tell
====================================================================  ==================

"Nearly all" is 98 of 100, so that a picture whose data is ordinary is called data-driven at most four times in 100.
"""

from typing import Literal, NamedTuple

Kind = Literal["overfitting-driven", "data-driven", "cannot tell"]
"""Why a picture is memorized, in the paper's terms."""

LEVEL = 0.02


class Told(NamedTuple):
    """A kind with its evidence.

    Attributes:
        kind: The kind.
        evidence: What it rests on, one sentence each.
    """

    kind: Kind
    evidence: list[str]


def tell(
    *,
    n_exact: int,
    n_near: int,
    data_lid: float | None,
    data_lid_p: float | None,
    complexity_p: float | None,
) -> Told:
    """Tell the kind of a picture that was flagged as memorized.

    Args:
        n_exact: Pictures with the same pixels among the audited ones, itself included.
        n_near: The same for pictures that look alike.
        data_lid: LID of the data at the picture, in dimensions; ``None`` if unknown.
        data_lid_p: Share of the reference whose data LID is as low; ``None`` if unknown.
        complexity_p: Share of the reference that is as simple; ``None`` if unknown.

    Returns:
        The kind and every piece of evidence that speaks for it.

    Source:
        Ross et al. 2024, section 3, definitions of OD-Mem and DD-Mem; the table is ours.
    """
    reasons = []
    if n_exact > 1:
        reasons.append(f"{n_exact:,} exact copies among the audited pictures")
    if n_near > n_exact:
        reasons.append(f"{n_near:,} pictures that look alike among the audited ones")
    if data_lid is not None and data_lid_p is not None and data_lid_p <= LEVEL:
        reasons.append(f"data LID {data_lid:.3g}, as low as {_share(data_lid_p)} of the reference")
    if complexity_p is not None and complexity_p <= LEVEL:
        reasons.append(f"as simple (PNG size) as {_share(complexity_p)} of the reference")
    if reasons:
        return Told("data-driven", reasons)
    if data_lid is None or data_lid_p is None or complexity_p is None:
        missing = "no reference to compare it with" if data_lid is not None else "no data LID"
        return Told("cannot tell", [f"no copies were found, but there is {missing}"])
    return Told(
        "overfitting-driven",
        [
            f"no copies, data LID {data_lid:.3g} and PNG size like the reference's: "
            "the model has fewer directions here than the data"
        ],
    )


def _share(p: float) -> str:
    return f"{100 * p:.2g} %"
