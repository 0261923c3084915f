"""Estimators of local intrinsic dimension.

From a denoiser: `Flipd`, `FlipdLowRank`, `DenoisingLoss`, `FilteredSpectrum`, `NormalBundle`, `NormalBundleSketch`,
`JacobianRank`, `FlowJacobian`. From a log density: `Lidl`, `DiffusionLidl`. From a pushforward: `Pushforward`, `Flow`,
`Posterior`, `DecoderRank`. From data alone: :mod:`pointland.lid.data`.
"""

from pointland.lid.checked import Checked, checked
from pointland.lid.chosen import Chosen, chosen_by_knee, chosen_by_plateau
from pointland.lid.denoising_loss import DenoisingLoss, denoising_loss
from pointland.lid.estimate import LidEstimate
from pointland.lid.flipd import Flipd, flipd, flipd_exact
from pointland.lid.flow import Flow, FlowLid, flow, flow_from_decoder
from pointland.lid.flow_jacobian import FlowJacobian, FlowSpectrum, flow_jacobian, flow_spectrum
from pointland.lid.inversion import Inversion, Inverted, invert
from pointland.lid.jacobian_spectrum import JacobianRank, JacobianSpectrum, jacobian_rank, jacobian_spectrum
from pointland.lid.likelihood import DiffusionLidl, Lidl, lidl
from pointland.lid.normal_bundle import NormalBundle, NormalBundleSketch, normal_bundle, normal_bundle_sketch
from pointland.lid.on_manifold import OnManifold, on_manifold
from pointland.lid.plateau import LidCurve, OnPlateau, Plateau, common_plateau, knee, plateau
from pointland.lid.posterior import DecoderRank, Posterior, PosteriorLid, decoder_rank, latent_spread, posterior
from pointland.lid.probability_flow import LogDensity, flow_log_density
from pointland.lid.pushforward import Pushforward, PushforwardLid, pushforward
from pointland.lid.scale import Sweep, sweep
from pointland.lid.spectrum import FilteredSpectrum, filtered_spectrum
from pointland.lid.trace import FlipdLowRank, flipd_low_rank

__all__ = [
    "Checked",
    "Chosen",
    "DecoderRank",
    "DenoisingLoss",
    "DiffusionLidl",
    "FilteredSpectrum",
    "Flipd",
    "FlipdLowRank",
    "Flow",
    "FlowJacobian",
    "FlowLid",
    "FlowSpectrum",
    "Inversion",
    "Inverted",
    "JacobianRank",
    "JacobianSpectrum",
    "LidCurve",
    "LidEstimate",
    "Lidl",
    "LogDensity",
    "NormalBundle",
    "NormalBundleSketch",
    "OnManifold",
    "OnPlateau",
    "Plateau",
    "Posterior",
    "PosteriorLid",
    "Pushforward",
    "PushforwardLid",
    "Sweep",
    "checked",
    "chosen_by_knee",
    "chosen_by_plateau",
    "common_plateau",
    "decoder_rank",
    "denoising_loss",
    "filtered_spectrum",
    "flipd",
    "flipd_exact",
    "flipd_low_rank",
    "flow",
    "flow_from_decoder",
    "flow_jacobian",
    "flow_log_density",
    "flow_spectrum",
    "invert",
    "jacobian_rank",
    "jacobian_spectrum",
    "knee",
    "latent_spread",
    "lidl",
    "normal_bundle",
    "normal_bundle_sketch",
    "on_manifold",
    "plateau",
    "posterior",
    "pushforward",
    "sweep",
]
