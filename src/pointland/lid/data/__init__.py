"""Local intrinsic dimension of a data set, from the neighbours of its items."""

from pointland.lid.data.calibration import CalibratedMle, calibrated, disagreement
from pointland.lid.data.censored_hill import CensoredHill, CensoredLid, censored_hill, rounding_floor
from pointland.lid.data.ess import Ess, ess
from pointland.lid.data.gride import Gride, Ladder, gride, gride_set
from pointland.lid.data.interval import DataLid, SetLid
from pointland.lid.data.kernel import Kernel, KernelLid, kernel
from pointland.lid.data.local_pca import LocalPca, explained_variance, fukunaga_olsen, local_pca, soft_count
from pointland.lid.data.merging import Recall, merge, recall_of
from pointland.lid.data.mle import Mle, mle, mle_average
from pointland.lid.data.moment import Moment, moment
from pointland.lid.data.neighbor_index import NeighborIndex, build_index, exact_index, search_index
from pointland.lid.data.neighbor_shards import Found, nearest_among
from pointland.lid.data.neighbors import Neighbors, nearest
from pointland.lid.data.two_nn import TwoNn, two_nn

__all__ = [
    "CalibratedMle",
    "CensoredHill",
    "CensoredLid",
    "DataLid",
    "Ess",
    "Found",
    "Gride",
    "Kernel",
    "KernelLid",
    "Ladder",
    "LocalPca",
    "Mle",
    "Moment",
    "NeighborIndex",
    "Neighbors",
    "Recall",
    "SetLid",
    "TwoNn",
    "build_index",
    "calibrated",
    "censored_hill",
    "disagreement",
    "ess",
    "exact_index",
    "explained_variance",
    "fukunaga_olsen",
    "gride",
    "gride_set",
    "kernel",
    "local_pca",
    "merge",
    "mle",
    "mle_average",
    "moment",
    "nearest",
    "nearest_among",
    "recall_of",
    "rounding_floor",
    "search_index",
    "soft_count",
    "two_nn",
]
