"""Bundles of the tiny stock pipelines' networks, and w-conditioned students of them."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from pipeline.bundle import Lineage, Manifest
from pipeline.config import WDistribution
from pipeline.models.assemble import family_of, save_bundle
from pipeline.models.directory.pipeline_directory import read_pipeline
from pipeline.models.stock.stock_pipeline import STOCK, StockPipeline
from tests.support.tiny_pipelines import tiny_pipeline

LAW = WDistribution(min=0.0, max=8.0)
BAKED = 3.0


@dataclass(frozen=True)
class Tiny:
    """A tiny stock pipeline, taken apart.

    Attributes:
        root: folder of the pipeline and of the bundles.
        pipeline: the complete directory.
        components: the same without its network.
        manifest: of its teacher.
        module: its network.
    """

    root: Path
    pipeline: Path
    components: Path
    manifest: Manifest
    module: nn.Module

    @property
    def stock(self) -> StockPipeline:
        return STOCK.get(str(self.manifest.pipeline))(self.components)

    def teacher(self) -> Path:
        """Write the bundle of the teacher, with its null condition if it is text-conditioned."""
        folder = self.root / "teacher"
        if not folder.exists():
            null = None if self.manifest.num_classes else self.stock.null()
            save_bundle(folder, self.manifest, self.module, null)
        return folder

    def student(self, steps: int | None) -> Path:
        """Write the bundle of an untrained student with all parameters perturbed, w's too."""
        folder = self.root / f"student-{steps}"
        if folder.exists():
            return folder
        bakes = self.manifest.network.why_not_w is not None
        law = WDistribution(min=BAKED, max=BAKED) if bakes else LAW
        manifest = self.manifest.model_copy(
            update={
                "role": "student",
                "steps": steps and (steps,),
                "w": law,
                "baked_w": BAKED if bakes else None,
                "lineage": Lineage(run="tiny", round=1, parent="f" * 64),
            }
        )
        module = family_of(self.manifest).student_of(self.module, (law.min, law.max))
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(1)
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.05)
        save_bundle(folder, manifest, module)
        return folder


def tiny(kind: str, root: Path) -> Tiny:
    """The tiny pipeline of that kind in `root`."""
    pipeline = tiny_pipeline(kind, root / "pipeline")
    components = root / "components"
    info = read_pipeline(pipeline)
    shutil.copytree(pipeline, components, ignore=shutil.ignore_patterns(info.network_folder))
    manifest = Manifest(
        role="teacher",
        network=info.network,
        num_classes=info.num_classes,
        latent_shape=info.latent_shape,
        schedule=info.schedule,
        prediction_type=info.prediction,
        folder=info.network_folder,
        pipeline=info.pipeline,
        lineage=Lineage(run="tiny", round=None, parent=None),
    )
    module = family_of(manifest).load(pipeline / info.network_folder, is_w_conditioned=False)
    return Tiny(root, pipeline, components, manifest, module)


Make = Callable[[str], Tiny]
"""Returns the pipeline of a kind, made at the first call."""
