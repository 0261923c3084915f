"""The record of everything that is known of one picture, as plain data: what a page is drawn from."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from jaxtyping import UInt8
from torch import Tensor

from pointland.explanation.curve import PictureCurve
from pointland.explanation.evidence import Against, Generated, Nearest
from pointland.explanation.lid_map import LidMap
from pointland.explanation.walk import PictureWalk
from pointland.prompts import Attribution

SigmaFrom = Literal["given", "paper", "resolution", "run"]


class Number(NamedTuple):
    """A number in dimensions with its Monte-Carlo standard error, NaN from a single draw."""

    value: float
    stderr: float


@dataclass(frozen=True, eq=False)
class Side:
    """What was measured under one condition: without a caption, or with it.

    Attributes:
        denoising_loss: LID by the denoising loss.
        flipd: LID by FLIPD.
        map: The denoising loss by place, shape ``(1, h, w)`` in the model's space; sums to
            ``denoising_loss``. ``None`` where the space is no grid.
        walk: The leading directions with their eigenvalues and the walk along them; ``None`` if none were asked for.
        curve: LID against sigma.
    """

    denoising_loss: Number
    flipd: Number
    map: LidMap | None
    walk: PictureWalk | None
    curve: PictureCurve


@dataclass(frozen=True)
class FromRun:
    """What the audit that a picture comes from says of it.

    Attributes:
        state: Of the audit: ``flagged``, ``none``, ``ranked`` or another of the report's.
        flagged: Whether this picture is flagged.
        rank: Its rank, 1 the most suspicious.
        n: Audited pictures.
        n_reference: Pictures of the reference.
        fdr: False discovery rate asked for.
        p: Conformal p-value; ``None`` without a reference.
        q: Smallest false discovery rate at which it would be flagged.
        column: Title of the deciding column.
        value: Its value there.
        unit: Of that value.
        kind: The kind in the paper's terms; ``None`` if it is not flagged.
        evidence: What the kind rests on.
    """

    state: str
    flagged: bool
    rank: int
    n: int
    n_reference: int
    fdr: float
    p: float | None
    q: float | None
    column: str
    value: float | None
    unit: str
    kind: str | None
    evidence: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Explanation:
    """What is behind one picture.

    Attributes:
        name: The picture's name, for people; untrusted text.
        sha256: Of its file, or of its pixels if it came as pixels. The draws are keyed by it.
        image: Fitted to the model's size, shape ``(3, h, w)``.
        caption: The caption, if one was given; untrusted text.
        is_cut: Whether the caption is longer than the model reads.
        model: The model's identity.
        d: Dimensions of the model's space.
        sigma: The scale that all but the curve is at.
        sigma_from: Who chose it: the caller, the paper, the resolution of a sample, or an audit.
        n_draws: Draws of the denoising loss and its map.
        seed: Of every draw.
        without: Measured without a caption.
        under: Measured under the caption, if there is one.
        frozen: The map without minus the map under, with the error of differences: what the caption takes away.
        no_map: Why there is no map.
        verdict: A reference's word, or an audit's; ``None`` if there is neither.
        nearest: What the training pictures hold near it; ``None`` if none were given.
        generated: What an extraction gave.
        words: What each word of the caption does.
        words_by: To what: the pull of the caption (``guidance``), or where guidance is inside the network the
            ``freedom`` that it leaves.
        no_words: Why that is not known.
        evaluations: Network evaluations of one picture, Jacobian products included; those of words apart.
    """

    name: str
    sha256: str
    image: UInt8[Tensor, "3 h w"]
    caption: str | None
    is_cut: bool
    model: dict[str, str]
    d: int
    sigma: float
    sigma_from: SigmaFrom
    n_draws: int
    seed: int
    without: Side
    under: Side | None
    frozen: LidMap | None
    no_map: str | None
    verdict: Against | FromRun | None
    nearest: Nearest | None
    generated: tuple[Generated, ...]
    words: Attribution | None
    words_by: Literal["guidance", "freedom"]
    no_words: str | None
    evaluations: int

    @property
    def sides(self) -> dict[str, Side]:
        """What was measured, by condition (``unconditional``, and ``conditional`` if there is a caption)."""
        return {"unconditional": self.without} | ({} if self.under is None else {"conditional": self.under})
