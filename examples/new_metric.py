"""A metric of one's own: does the model sharpen or blur the picture? docs/extending.md walks through it."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from pointland.metrics import Column, Evaluations, Metric


@dataclass(frozen=True)
class Contrast:
    """Contrast of the denoised picture over that of the picture itself, without caption.

    Attributes:
        sigma: Noise scale in model-space units; take the audit's, and the evaluation is shared with its columns.
    """

    sigma: float

    @property
    def columns(self) -> tuple[Column, ...]:
        """One column."""
        return (
            Column(
                name="contrast",
                title="Contrast kept",
                unit="1",
                memorized_when="high",
                needs="nothing",
                stderr=None,
                description=f"Contrast of the denoised picture over its own, one draw at sigma {self.sigma:.4g}.",
                source="An example",
            ),
        )

    def forwards(self, n_conditions: int) -> float:
        """Return the network calls an image: one a condition, shared with other metrics at this sigma."""
        return float(n_conditions)

    def __call__(self, batch: Evaluations) -> dict[str, Float[Tensor, " b"]]:
        """Compare two standard deviations an item."""
        denoised = batch.denoised("unconditional", self.sigma, 0)
        return {"contrast": denoised.flatten(1).std(1) / batch.x.flatten(1).std(1)}


if __name__ == "__main__":
    import pointland
    from pointland.metrics import DenoisingLossColumns

    model = pointland.load("src/pointland/demo/miniature")
    sigma = model.levels.nearest(0.25).sigma
    metrics: list[Metric] = [DenoisingLossColumns(pointland.DenoisingLoss(sigma)), Contrast(sigma)]
    run = pointland.audit(model, "pictures/images", reference="pictures/held_out", metrics=metrics, out="run")
    print(run.rows["contrast"].to_pylist()[:3])
