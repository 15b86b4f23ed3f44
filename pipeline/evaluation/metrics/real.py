"""Metrics of sample sets against real images, in the features of one network."""

from pipeline.evaluation.metrics.bootstrap import Bootstrap, Estimate, Rows
from pipeline.evaluation.metrics.frechet import Features, Moments, frechet_replicates
from pipeline.evaluation.metrics.halves import HalfSamples, Replicates
from pipeline.evaluation.metrics.kid import KernelReference
from pipeline.evaluation.metrics.manifold import RealManifold, neighbourhood, recall


class RealImages:
    """Held-out images; statistics of them alone are computed once."""

    def __init__(self, features: Features, labels: Rows) -> None:
        """Prepare features `[m, d]` of two or more images, and their classes `[m]`."""
        self.count = len(features)
        self._moments = Moments.of(features)
        self._kernel = KernelReference(features, labels)
        self._manifold = RealManifold.of(features)

    def by_halves(self, features: Features, halves: HalfSamples) -> dict[str, Replicates]:
        """Compute distance and recall of samples `[n, d]` and of their halves, by name."""
        return {
            "distance_to_real": frechet_replicates(self._moments, features, halves),
            "recall": recall(self._manifold, features, halves),
        }

    def compare(
        self, features: Features, bootstrap: Bootstrap, halves: HalfSamples
    ) -> tuple[dict[str, Estimate], dict[str, Replicates]]:
        """Compute all metrics of samples `[n, d]` against the real images, by name.

        Returns:
            The metrics, and the values by half-samples of distance and recall.
        """
        among = neighbourhood(self._manifold, features, bootstrap, halves)
        distance = frechet_replicates(self._moments, features, halves)
        estimates = {
            "distance_to_real": distance.estimate(),
            "kid_to_real": self._kernel.distance(features, halves).estimate(least=None),
            "precision": among.precision,
            "recall": among.recall.estimate(most=1.0),
            "density": among.density,
            "coverage": among.coverage,
        }
        return estimates, {"distance_to_real": distance, "recall": among.recall}
