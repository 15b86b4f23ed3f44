"""A pinned pipeline is read from the hub's cache; unpinned names are refused."""

import subprocess
import sys
from pathlib import Path

from pipeline.models.directory.pipeline_directory import read_pipeline
from pipeline.models.directory.pipeline_files import locate_pipeline
from tests.support.tiny_pipelines import Folder

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ASK = """
import sys
from pipeline.errors import BundleError
from pipeline.models.directory.pipeline_files import locate_pipeline
try:
    print(locate_pipeline(sys.argv[1]))
except BundleError as error:
    print("refused:", error)
"""


def located_offline(given: str, cache: Path) -> str:
    """Resolve a name in a process without a network."""
    environment = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache), "PATH": "/usr/bin"}
    command = [sys.executable, "-c", ASK, given]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return ended.stdout.strip()


def test_a_pinned_pipeline_is_found_in_the_cache(copied: Folder, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    snapshot = cache / "models--org--name" / "snapshots" / COMMIT
    snapshot.parent.mkdir(parents=True)
    copied("sd").rename(snapshot)
    found = located_offline(f"org/name@{COMMIT}", cache)
    assert found == str(snapshot)
    assert read_pipeline(Path(found)).pipeline == "StableDiffusionPipeline"


def test_without_network_and_cache_it_is_refused_with_what_to_do(tmp_path: Path) -> None:
    said = located_offline(f"org/name@{COMMIT}", tmp_path)
    assert said.startswith(f"refused: teacher.pipeline: org/name@{COMMIT} ")
    assert "directory" in said


def test_a_branch_or_a_bare_name_is_not_fetched() -> None:
    for given in ("org/name", "org/name@main", "org/name@0123abc", "/somewhere/else"):
        assert locate_pipeline(given) == Path(given)
