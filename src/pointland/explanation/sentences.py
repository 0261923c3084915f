"""The sentences of an explain page: what was decided, how to read each part, and what it does not say."""

import math
from typing import Literal

from pointland.explanation.evidence import NEAR, Against, Nearest
from pointland.explanation.explanation import Explanation, FromRun, Number
from pointland.explanation.walk import PictureWalk
from pointland.report.words import counted, level, number, percent, probability, with_error

SUSPICIOUS = 0.05
STILL, MOVED = 0.2, 0.5  # shares of a step that are kept; the command `walk` speaks by the same
SAW = "that the model never saw"


def headline(found: Explanation) -> str:
    """Say the verdict in one sentence, or that there is none."""
    match found.verdict:
        case Against() as said if said.p > SUSPICIOUS:
            return f"Not unusual: {counted(said.n_lower, 'picture')} of {said.n:,} {SAW} {_has(said.n_lower)} as few."
        case Against() as said:
            than = "any" if not said.n_lower else f"all but {said.n_lower:,}"
            return f"Fewer dimensions than {than} of {said.n:,} pictures {SAW}."
        case FromRun(flagged=True) as said:
            return f"Flagged as memorized: number {said.rank:,} of {said.n:,} by suspicion."
        case FromRun(state="ranked") as said:
            return f"No verdict: number {said.rank:,} of {said.n:,} by suspicion, and no reference to decide with."
        case FromRun() as said:
            return f"Not flagged: number {said.rank:,} of {said.n:,} by suspicion."
    return "No verdict: there is nothing to compare this picture with."


def suspicious(found: Explanation) -> bool:
    """Say whether the verdict is one that a reader should stop at."""
    match found.verdict:
        case Against(p=p):
            return p <= SUSPICIOUS
        case FromRun(flagged=flagged):
            return flagged
    return False


def lede(found: Explanation) -> str:
    """Say what the verdict rests on and what it is worth."""
    match found.verdict:
        case Against() as said:
            return (
                f"{number(said.value)} dimensions here without a caption, where half of the reference has "
                f"{number(said.low)} to {number(said.high)} (8 draws each); p = {probability(said.p)}. "
                "That is for one picture asked about once: picked out of many because it looked suspicious, it needs "
                "an audit of them all. A low dimension is not yet proof; confirm it by generating."
            )
        case FromRun() as said:
            told = f"{said.column} is {number(said.value)}{'' if said.unit == '1' else ' ' + said.unit}"
            if said.p is not None:
                told += f", p = {probability(said.p)}"
            if said.q is not None:
                told += f", flagged at a false discovery rate of {percent(said.q)} or more"
            kind = "" if said.kind is None else f" Kind: {said.kind} ({'; '.join(said.evidence)})."
            return f"{told}, by an audit against {counted(said.n_reference, 'picture')} {SAW}.{kind}"
    return (
        f"The model has {number(found.without.denoising_loss.value)} of {found.d:,} dimensions here. Whether that is "
        f"few cannot be said from one picture: simple pictures have few as well. Give --reference, pictures of the "
        f"same kind {SAW}."
    )


def notes(found: Explanation) -> list[tuple[str, str]]:
    """Say what to know before believing the numbers: ``warning`` or ``note``, and a text."""
    told = []
    verdict = found.verdict
    if isinstance(verdict, Against):
        if verdict.png_p <= SUSPICIOUS:
            told.append(
                (
                    "warning",
                    f"It is also simpler than nearly all of the reference ({verdict.png_bytes:,} bytes as PNG, p = "
                    f"{probability(verdict.png_p)}). Simple pictures have few dimensions without being memorized.",
                )
            )
        if verdict.n < 1 / SUSPICIOUS - 1:
            told.append(("warning", f"{counted(verdict.n, 'reference picture')} can never give a p-value below 0.05."))
    if found.is_cut:
        told.append(("note", "The caption is longer than the model reads; its end has no effect here."))
    if found.sigma_from == "paper":
        told.append(
            (
                "note",
                f"Sigma {level(found.sigma)} is the paper's. With training or reference pictures it is chosen as an "
                "audit chooses it, where pictures are told apart best.",
            )
        )
    if any(side.flipd.value < 0 for side in found.sides.values()):
        told.append(
            (
                "note",
                "FLIPD is below 0, as it often is at memorized pictures of a trained network: it ranks, and is no "
                "dimension there.",
            )
        )
    return told


def map_how(found: Explanation, top: float) -> str:
    """Say how to read the maps."""
    return (
        f"Every place's part of the dimensions at σ {level(found.sigma)}; the parts sum to the whole. Dark is frozen "
        "or simple, bright is free: an even background is dark in every picture, so compare with pictures of the same "
        f"kind. All maps here have one scale, up to {number(top)} dimensions a cell of the model’s space. In the last, "
        "orange is what the caption freezes."
        if found.frozen is not None
        else f"Every place's part of the dimensions at σ {level(found.sigma)}; the parts sum to the whole. Dark is "
        "frozen or simple, bright is free: an even background is dark in every picture, so compare with pictures of "
        f"the same kind. The scale ends at {number(top)} dimensions a cell of the model’s space."
    )


def walk_how(found: PictureWalk) -> str:
    """Say how to read a walk."""
    return (
        "From the picture, steps along the directions in which the model leaves most freedom, a row each, and then "
        f"{level(found.sigma)} of noise scale denoised away, again and again. A memorized picture takes every step "
        "back; so does a plain one, and the directions looked at are few."
    )


def kept_said(found: PictureWalk) -> str:
    """Say which share of a walk's steps is kept; steps that change no pixel have none."""
    return "an unknown share" if math.isnan(found.kept) else percent(max(found.kept, 0.0))


def walk_said(found: PictureWalk, what: str) -> str:
    """Say what a walk did."""
    told = (
        "The steps are taken back: the model has one picture to give here."
        if found.kept < STILL
        else "The steps are kept in part."
        if not found.kept >= MOVED
        else "The walk moves: the model has a family of pictures to give here."
    )
    return (
        f"{what[0].upper()}{what[1:]}, {kept_said(found)} of what the steps change is left after "
        f"denoising, {float(found.change.mean()):.2g} gray levels of 255 a pixel. {told}"
    )


def nearest_how(found: Nearest) -> str:
    """Say what the training pictures hold near the picture."""
    whole = found.searched + found.unreadable >= found.of
    others = f"{counted(found.searched, 'picture')} compared"
    if not whole:
        others += f", the likeliest of {found.of:,} others"
    if found.unreadable:
        others += f", {found.unreadable:,} could not be read"
    copies = (
        "None of them is a copy of it."
        if not found.n_near
        else f"{counted(found.n_near, 'copy', 'copies')} of it among them, {found.n_exact:,} exact, itself included "
        "if it is one of them."
    )
    if found.n_near and not whole:
        least = "At least " if found.n_near == found.searched else ""
        said = f"{counted(found.n_near, 'copy', 'copies')} of it among them, {found.n_exact:,} exact, beside itself."
        copies = least + said
    more = found.n_alike - found.n_near
    alike = f" {counted(more, 'more')[:-1] if more != 1 else '1 more'} share at least half of it, place for place."
    return (
        f"{others}. {copies}{alike if more > 0 else ''} The distance is that of their looks at 32 × 32 in gray: 0 is "
        f"the same, up to {NEAR:g} a near copy, 1.4 has nothing to do with it. Crops and mirrored copies are not found."
    )


def words_how(by: Literal["guidance", "freedom"]) -> str:
    """Say how to read the words of the caption."""
    what = (
        "the freedom that the caption leaves" if by == "freedom" else "how far the caption pulls the model's prediction"
    )
    return (
        f"Which words carry {what}: by the gradient at each word, and by leaving it out. A word on which both agree "
        "is what calls the picture up; where they differ, trust neither alone."
    )


def limits(found: Explanation) -> list[tuple[str, str]]:
    """Say what the page does not say: headings and texts."""
    return [
        (
            "Few dimensions are not proof.",
            "Simple pictures have few as well. What decides is a comparison with pictures never seen, and what proves "
            "is that the model gives the picture back.",
        ),
        (
            "It is a count at one scale.",
            f"Directions wider than σ {level(found.sigma)} are counted. At another scale the number is another; the "
            "curve shows how much.",
        ),
        (
            f"It is in the model’s space: {found.model.get('space', 'its points')}.",
            "Maps of a latent model are no finer than its cells, and what its decoder does is not in them.",
        ),
        (
            "Errors are those of the draws.",
            "They hold neither the network’s own error nor the choice of scale.",
        ),
    ]


def in_dimensions(found: Number) -> str:
    """Return a number with its error."""
    return with_error(found.value, None if math.isnan(found.stderr) else found.stderr)


def _has(n: int) -> str:
    return "has" if n == 1 else "have"
