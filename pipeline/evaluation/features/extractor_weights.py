"""The weights of extractors: found, named by their sha256, refused where they are not mere data.

Nothing here needs torch, so that a run is refused before anything is loaded.
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
    """What was found at a path.

    Attributes:
        kind: of the extractor.
        path: the file, or the directory.
        sha256: of the weights themselves.
        identity: of all that is read beside them too (configuration, tokenizer).
    """

    kind: ExtractorKind
    path: Path
    sha256: str
    identity: str

    @property
    def is_published(self) -> bool:
        """Whether these are the weights that FID is defined by."""
        return self.kind == "inception" and self.sha256 == INCEPTION_SHA256

    @property
    def name(self) -> str:
        """What a person calls the extractor."""
        if self.kind == "inception":
            return (
                "Inception-v3" if self.is_published else "Inception-v3 of other weights (not FID)"
            )
        return {"dinov2": "DINOv2 (not FID)", "clip": "CLIP (not FID)"}[self.kind]

    @property
    def distance(self) -> str:
        """The head of its column of Frechet distances."""
        return "FID" if self.is_published else f"to real, by {self.kind}"

    @property
    def reads_prompts(self) -> bool:
        """Whether it reads sentences too."""
        return self.kind == "clip"

    @property
    def folder(self) -> str:
        """A name for a folder of its features."""
        return f"{self.kind}-{self.identity[:12]}"


def find_weights(config: ExtractorConfig) -> Weights:
    """What lies at the path of an extractor.

    Raises:
        ConfigError: nothing does, or something else, or weights that would be unpickled.
    """
    path = Path(config.path).expanduser()
    found = _file(path) if config.kind == "inception" else _directory(config.kind, path)
    names = {file.name: _sha256(file) for file in found}
    identity = fingerprint({"kind": config.kind, "files": names})
    return Weights(config.kind, path, names[found[0].name], identity)


def _file(path: Path) -> list[Path]:
    if not path.is_file():
        raise ConfigError(f"{_said('inception')}: {path} is no file; {_fetch('inception', path)}")
    if path.suffix == ".safetensors":
        return [path]
    sha256 = _sha256(path)
    if sha256 != INCEPTION_SHA256:
        raise ConfigError(
            f"{_said('inception')}: {path} has sha256 {sha256[:12]}..., the published weights have "
            f"{INCEPTION_SHA256[:12]}...; other weights are read as .safetensors only, or "
            f"{_fetch('inception', path)}"
        )
    return [path]


def _directory(kind: ExtractorKind, path: Path) -> list[Path]:
    needed = [*_NEEDED, *(_TOKENIZER if kind == "clip" else ())]
    missing = [name for name in needed if not (path / name).is_file()]
    if missing:
        raise ConfigError(
            f"{_said(kind)}: {path} has no {' and no '.join(missing)}; {_fetch(kind, path)}"
        )
    says = _model_type(path / "config.json")
    if says != kind:
        raise ConfigError(
            f"{_said(kind)}: {path} holds a model of type {says!r}; give a {kind}, or change kind"
        )
    present = [path / name for name in _OPTIONAL if (path / name).is_file()]
    weights = path / "model.safetensors"
    return [weights, *(path / name for name in needed if name != weights.name), *present]


def _model_type(config: Path) -> str | None:
    try:
        tree = json.loads(config.read_text(encoding="utf-8"))
        found = tree.get("model_type")
    except (ValueError, AttributeError):
        raise ConfigError(f"{config} is no JSON of a model; fetch it again") from None
    return found if isinstance(found, str) else None


def _said(kind: str) -> str:
    return f"evaluation.extractors: {kind}"


def _fetch(kind: str, path: Path) -> str:
    """The one command that puts the weights where they are looked for."""
    place = shlex.quote(str(path))
    if kind == "inception":
        return f"fetch it with: curl -L --create-dirs -o {place} {INCEPTION_URL}"
    files = [*_NEEDED, *(_TOKENIZER if kind == "clip" else ()), *_OPTIONAL]
    return f"fetch it with: hf download {_HUB[kind]} {' '.join(files)} --local-dir {place}"


def _sha256(path: Path) -> str:
    facts = path.stat()
    return _hashed(path, facts.st_size, facts.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _hashed(path: Path, size: int, changed_ns: int) -> str:  # noqa: ARG001 (they are the key)
    return hash_file(path).sha256
