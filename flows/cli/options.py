"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="Recipe file (YAML).")]

ComputeProfile = Annotated[
    Path | None,
    typer.Option(
        "--profile",
        "-p",
        metavar="FILE",
        help="Profile file (YAML) with workers, engine, tracking and storage. "
        "Default: Stepfold's laptop profile.",
    ),
]

RunsProfile = Annotated[
    Path | None,
    typer.Option(
        "--profile",
        "-p",
        metavar="FILE",
        help="Profile file (YAML) whose storage.root holds the run directories. "
        "Default: Stepfold's laptop profile, which uses runs/.",
    ),
]

Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        metavar="KEY=VALUE",
        help="Override one key of the recipe or the profile, such as guidance.updates=100. "
        "Repeatable.",
    ),
]

NewRunDir = Annotated[
    Path | None,
    typer.Option(
        "--run-dir",
        "-d",
        metavar="DIR",
        help="Run directory to create or resume. Default: run.name below the profile's "
        "storage.root.",
    ),
]

RunDirOption = Annotated[
    Path | None,
    typer.Option("--run-dir", "-d", metavar="DIR", help="Run directory. Default: the newest run."),
]

RunDirArgument = Annotated[
    Path | None,
    typer.Argument(metavar="RUN_DIR", help="Run directory. Default: the newest run."),
]

BundleDir = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="Directory of a student or a teacher.")
]

InputImage = Annotated[
    Path, typer.Argument(metavar="IMAGE", help="Input image (png, jpg or webp).")
]

GuidanceWeight = Annotated[
    float,
    typer.Option(help="Guidance weight w; 0 is unguided. diffusers' guidance_scale is 1 + w."),
]

OutputImage = Annotated[
    Path, typer.Option(metavar="FILE", help="Output file: .png for an image, .npz for arrays.")
]

ClassLabel = Annotated[
    str | None, typer.Option(metavar="CLASS", help="Name or number of the class to generate.")
]

Prompt = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Prompt, for text-conditioned networks.")
]

Steps = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Number of sampling steps. Default: the number that the student was distilled for.",
    ),
]

NumImages = Annotated[
    int, typer.Option(help="Number of images; .png shows several in a row after the input.")
]

Seed = Annotated[
    int,
    typer.Option(min=0, help="Noise seed. The same seed gives the same noise for every bundle."),
]

Components = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Directory of the autoencoder and text encoders. Default: those of the bundle's run.",
    ),
]

Price = Annotated[
    float | None,
    typer.Option(
        "--price", min=0, help="Price per hour of all machines together; adds costs to the report."
    ),
]
