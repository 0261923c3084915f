"""The normalization that networks trained on ImageNet expect."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def imagenet(images: UInt8[np.ndarray, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Scale pictures to [0, 1], subtract ImageNet's mean, divide by its deviation."""
    x = torch.from_numpy(np.ascontiguousarray(images)).float() / 255
    return (x - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(DEVIATION).view(1, 3, 1, 1)


def unit_length(vectors: Float[Tensor, "b d"]) -> Float[np.ndarray, "b d"]:
    """Scale descriptors to length 1; a zero stays zero."""
    return np.asarray((vectors / vectors.norm(dim=1, keepdim=True).clamp_min(1e-12)).cpu().numpy())
