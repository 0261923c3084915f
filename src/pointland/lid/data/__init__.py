"""Local intrinsic dimension of a data set, from the neighbours of its items."""

from pointland.lid.data.calibration import CalibratedMle, calibrated, disagreement
from pointland.lid.data.censored_hill import CensoredHill, CensoredLid, censored_hill, rounding_floor
from pointland.lid.data.ess import Ess, ess
from pointland.lid.data.gride import Gride, Ladder, gride, gride_set
from pointland.lid.data.interval import DataLid, SetLid
from pointland.lid.data.kernel import Kernel, KernelLid, kernel
from pointland.lid.data.local_pca import LocalPca, explained_variance, fukunaga_olsen, local_pca, soft_count
from pointland.lid.data.mle import Mle, mle, mle_average
from pointland.lid.data.moment import Moment, moment
from pointland.lid.data.neighbors import Neighbors, nearest
from pointland.lid.data.two_nn import TwoNn, two_nn

__all__ = [
    "CalibratedMle",
    "CensoredHill",
    "CensoredLid",
    "DataLid",
    "Ess",
    "Gride",
    "Kernel",
    "KernelLid",
    "Ladder",
    "LocalPca",
    "Mle",
    "Moment",
    "Neighbors",
    "SetLid",
    "TwoNn",
    "calibrated",
    "censored_hill",
    "disagreement",
    "ess",
    "explained_variance",
    "fukunaga_olsen",
    "gride",
    "gride_set",
    "kernel",
    "local_pca",
    "mle",
    "mle_average",
    "moment",
    "nearest",
    "rounding_floor",
    "soft_count",
    "two_nn",
]
