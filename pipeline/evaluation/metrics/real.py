"""Metrics of sample sets against real images, in the features of one network."""

from pipeline.evaluation.metrics.bootstrap import Bootstrap, Estimate
from pipeline.evaluation.metrics.frechet import Features, Moments, frechet_estimate
from pipeline.evaluation.metrics.kid import KernelReference
from pipeline.evaluation.metrics.manifold import RealManifold, neighbourhood


class RealImages:
    """Held-out images; statistics of them alone are computed once."""

    def __init__(self, features: Features) -> None:
        """Prepare two or more rows of features `[m, d]`."""
        self._moments = Moments.of(features)
        self._kernel = KernelReference(features)
        self._manifold = RealManifold.of(features)

    def compare(self, features: Features, bootstrap: Bootstrap) -> dict[str, Estimate]:
        """Compute all metrics of samples `[n, d]` against the real images, by name."""
        among = neighbourhood(self._manifold, features, bootstrap)
        return {
            "distance_to_real": frechet_estimate(self._moments, features, bootstrap),
            "kid_to_real": self._kernel.distance(features, bootstrap),
            "precision": among.precision,
            "recall": among.recall,
            "density": among.density,
            "coverage": among.coverage,
        }
