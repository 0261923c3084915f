"""The positive control: did an audit of the miniature find what was planted, and nothing else?"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pointland.auditing.directory import Run
from pointland.data.labels import read_labels
from pointland.verdict import auroc, decide, tpr_at_fpr


class Check(NamedTuple):
    """One thing that must hold.

    Attributes:
        passed: Whether it does.
        words: What was asked and what was found.
    """

    passed: bool
    words: str


def checks(run: Run, labels: Path) -> list[Check]:
    """Compare an audit of the miniature with the planted truth.

    Verbatim means 20 or 50 copies. Every separation is against the held-out pictures, without captions.

    Args:
        run: The audit of the demo's pictures.
        labels: CSV ``key,label`` of what was planted.
    """
    keys, roles = run.rows["key"].to_pylist(), run.rows["role"].to_pylist()
    group_of = read_labels(labels, keys)
    groups = np.array(
        [group_of[key] if role == "audited" else "held_out" for key, role in zip(keys, roles, strict=True)]
    )
    column = str(run.record["decide_by"])
    lid, size = _floats(run, column), _floats(run, "png_bytes")
    audited = groups != "held_out"
    decisions = decide(
        lid[audited],
        lid[~audited],
        memorized_when="low",
        fdr=float(run.record["fdr"]),
        complexity=size[audited],
        reference_complexity=size[~audited],
    )
    verbatim, held_out = np.isin(groups, ["x20", "x50"]), groups == "held_out"
    area = auroc(-lid[verbatim], -lid[held_out])
    rate = tpr_at_fpr(-lid[verbatim], -lid[held_out])
    floor = auroc(-size[verbatim], -size[held_out])
    ladder = [float(np.median(lid[groups == f"x{copies}"])) for copies in (2, 5, 10, 20, 50)]
    flagged = {
        group: int((decisions.flagged & (groups[audited] == group)).sum()) for group in dict.fromkeys(group_of.values())
    }
    n_flagged, n_verbatim = int(decisions.flagged.sum()), int(verbatim.sum())
    expected = float(run.record["fdr"]) * n_flagged
    allowed = expected + 2 * math.sqrt(expected)
    found = flagged["x20"] + flagged["x50"]
    return [
        Check(area >= 0.99, f"verbatim copies against held-out pictures, AUROC {area:.3f} (at least 0.99)"),
        Check(rate >= 0.9, f"their true positive rate at 1 % false positives {rate:.2f} (at least 0.90)"),
        Check(floor < 0.6, f"PNG size alone, AUROC {floor:.3f} (below 0.60)"),
        Check(
            ladder[-1] < ladder[-2] < min(ladder[:2]),
            "LID falls with the number of copies: "
            + ", ".join(f"x{c} {m:.1f}" for c, m in zip((2, 5, 10, 20, 50), ladder, strict=True)),
        ),
        Check(found >= 0.9 * n_verbatim, f"verbatim copies flagged {found} of {n_verbatim} (at least 90 %)"),
        Check(
            flagged["once"] <= allowed,
            f"pictures seen once flagged {flagged['once']} of {n_flagged} flagged; a rate of "
            f"{run.record['fdr']:g} expects {expected:.0f} (at most {allowed:.0f})",
        ),
    ]


def _floats(run: Run, column: str) -> NDArray[np.float64]:
    return np.array(run.rows[column].to_pylist(), dtype=np.float64)
