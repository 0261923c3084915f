"""Generated images against training images: sample-level metrics that count copies once, with a calibrated verdict."""

from pointland.samples.authenticity import authenticity
from pointland.samples.calibrated import calibrated_distance
from pointland.samples.compare import Comparison, compare_samples
from pointland.samples.data_copying import DataCopying, cells, data_copying
from pointland.samples.judge import Judged, judge
from pointland.samples.likelihood_gap import LikelihoodGap, likelihood_gap
from pointland.samples.measures import Images, Measures, measures
from pointland.samples.neighborhood import Neighborhood, neighborhood
from pointland.samples.ratio import neighbor_ratio
from pointland.samples.windows import Local, local_evidence

__all__ = [
    "Comparison",
    "DataCopying",
    "Images",
    "Judged",
    "LikelihoodGap",
    "Local",
    "Measures",
    "Neighborhood",
    "authenticity",
    "calibrated_distance",
    "cells",
    "compare_samples",
    "data_copying",
    "judge",
    "likelihood_gap",
    "local_evidence",
    "measures",
    "neighbor_ratio",
    "neighborhood",
]
