"""Locates and validates weights of feature extractors, identified by sha256.

Does not import torch, so that a run with unusable weights fails before anything is loaded.
"""

import functools
import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import ExtractorConfig, ExtractorKind
from pipeline.errors import ConfigError
from pipeline.ledger import fingerprint, hash_file

INCEPTION_URL = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
    "weights-inception-2015-12-05-6726825d.pth"
)
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"

_HUB = {"dinov2": "facebook/dinov2-large", "clip": "openai/clip-vit-large-patch14"}
_NEEDED = ("config.json", "model.safetensors")
_TOKENIZER = ("tokenizer.json",)
_OPTIONAL = ("preprocessor_config.json",)


@dataclass(frozen=True)
class Weights:
    """Validated weights of an extractor.

    Attributes:
        kind: kind of the extractor.
        path: weight file or model directory.
        sha256: digest of the weights.
        identity: digest of weights, configuration and tokenizer.
    """

    kind: ExtractorKind
    path: Path
    sha256: str
    identity: str

    @property
    def is_published(self) -> bool:
        """Whether these are the published weights that define FID."""
        return self.kind == "inception" and self.sha256 == INCEPTION_SHA256

    @property
    def name(self) -> str:
        """Display name of the extractor."""
        if self.kind == "inception":
            return (
                "Inception-v3" if self.is_published else "Inception-v3 of other weights (not FID)"
            )
        return {"dinov2": "DINOv2 (not FID)", "clip": "CLIP (not FID)"}[self.kind]

    @property
    def distance(self) -> str:
        """Column heading of the Frechet distance; "FID" for the published weights only."""
        return "FID" if self.is_published else f"to real, by {self.kind}"

    @property
    def reads_prompts(self) -> bool:
        """Whether the extractor has a text encoder."""
        return self.kind == "clip"

    @property
    def folder(self) -> str:
        """Folder name of its features."""
        return f"{self.kind}-{self.identity[:12]}"


def find_weights(config: ExtractorConfig) -> Weights:
    """Validate the weights at the configured path of an extractor.

    Raises:
        ConfigError: weights are missing, of another model, or pickled with an unknown sha256.
    """
    path = Path(config.path).expanduser()
    found = _file(path) if config.kind == "inception" else _directory(config.kind, path)
    names = {file.name: _sha256(file) for file in found}
    identity = fingerprint({"kind": config.kind, "files": names})
    return Weights(config.kind, path, names[found[0].name], identity)


def _file(path: Path) -> list[Path]:
    if not path.is_file():
        raise ConfigError(f"{_key('inception')}: {path} is not a file; {_fetch('inception', path)}")
    if path.suffix == ".safetensors":
        return [path]
    sha256 = _sha256(path)
    if sha256 != INCEPTION_SHA256:
        raise ConfigError(
            f"{_key('inception')}: {path} has sha256 {sha256[:12]}..., the published weights have "
            f"{INCEPTION_SHA256[:12]}...; convert other weights to .safetensors, or "
            f"{_fetch('inception', path)}"
        )
    return [path]


def _directory(kind: ExtractorKind, path: Path) -> list[Path]:
    needed = [*_NEEDED, *(_TOKENIZER if kind == "clip" else ())]
    missing = [name for name in needed if not (path / name).is_file()]
    if missing:
        raise ConfigError(
            f"{_key(kind)}: {path} lacks {' and '.join(missing)}; {_fetch(kind, path)}"
        )
    model_type = _model_type(path / "config.json")
    if model_type != kind:
        raise ConfigError(
            f"{_key(kind)}: {path} contains a model of type {model_type!r}; use the path of a "
            f"{kind} model, or change `kind`"
        )
    present = [path / name for name in _OPTIONAL if (path / name).is_file()]
    weights = path / "model.safetensors"
    return [weights, *(path / name for name in needed if name != weights.name), *present]


def _model_type(config: Path) -> str | None:
    try:
        tree = json.loads(config.read_text(encoding="utf-8"))
        found = tree.get("model_type")
    except (ValueError, AttributeError):
        raise ConfigError(f"{config} is not a JSON model configuration; fetch it again") from None
    return found if isinstance(found, str) else None


def _key(kind: str) -> str:
    return f"evaluation.extractors: {kind}"


def _fetch(kind: str, path: Path) -> str:
    """Return the command that downloads the weights to `path`."""
    place = shlex.quote(str(path))
    if kind == "inception":
        return f"fetch it with: curl -L --create-dirs -o {place} {INCEPTION_URL}"
    files = [*_NEEDED, *(_TOKENIZER if kind == "clip" else ()), *_OPTIONAL]
    return f"fetch it with: hf download {_HUB[kind]} {' '.join(files)} --local-dir {place}"


def _sha256(path: Path) -> str:
    facts = path.stat()
    return _hashed(path, facts.st_size, facts.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _hashed(path: Path, size: int, changed_ns: int) -> str:  # noqa: ARG001 (cache key)
    return hash_file(path).sha256
