"""Real images in the features of one network, which sets of samples are compared with."""

from pipeline.evaluation.metrics.bootstrap import Bootstrap, Found
from pipeline.evaluation.metrics.frechet import Features, Moments, frechet_found
from pipeline.evaluation.metrics.kid import KernelReference
from pipeline.evaluation.metrics.manifold import RealManifold, neighbourhood


class RealImages:
    """Held-out images; what depends on them alone is computed once."""

    def __init__(self, features: Features) -> None:
        """Prepare two or more rows of features `[m, d]`."""
        self._moments = Moments.of(features)
        self._kernel = KernelReference(features)
        self._manifold = RealManifold.of(features)

    def compare(self, features: Features, bootstrap: Bootstrap) -> dict[str, Found]:
        """All that says how near samples `[n, d]` are to them, with intervals, by its name."""
        among = neighbourhood(self._manifold, features, bootstrap)
        return {
            "distance_to_real": frechet_found(self._moments, features, bootstrap),
            "kid_to_real": self._kernel.distance(features, bootstrap),
            "precision": among.precision,
            "recall": among.recall,
            "density": among.density,
            "coverage": among.coverage,
        }
