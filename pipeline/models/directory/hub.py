"""Download pipelines from the Hugging Face hub, pinned to a commit, into the hub's cache."""

import re
from pathlib import Path

from pipeline.errors import BundleError

_PINNED = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)@(?P<revision>[0-9a-f]{40})")
_DATA = ["*.json", "*.txt", "*.model", "*.safetensors"]


def locate_pipeline(given: str) -> Path:
    """Resolve `teacher.pipeline` to a directory: a path, or `org/name@COMMIT`, which is downloaded.

    Only data files are downloaded: safetensors, JSON and tokenizer files. A name without a 40-digit
    commit is returned unchanged and rejected later, because a branch can change.

    Raises:
        BundleError: the hub is unreachable and the pipeline is not in the cache.
    """
    pinned = _PINNED.fullmatch(given)
    if pinned is None or Path(given).is_dir():
        return Path(given)
    from huggingface_hub import snapshot_download  # slow import (0.5 s), needed only here
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        found = snapshot_download(
            pinned["id"], revision=pinned["revision"], allow_patterns=_DATA, library_name="stepfold"
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise BundleError(
            f"teacher.pipeline: {given} cannot be downloaded "
            f"({' '.join(str(error).split())[:200]}); check name and network, or download it "
            "elsewhere and give its directory"
        ) from None
    return Path(found)
