"""Checkpoints of another number of workers or ZeRO stage: refused with the way out, or discarded.

DeepSpeed writes a checkpoint in as many parts as there are workers, each by its ZeRO stage, and
reads it into the same layout only. Between rounds the layout is free: what a round hands on is
whole. Inside a round it is not, and to begin the round anew in silence would lose its work.
"""

from pathlib import Path

from infra.profile import Profile, layout_of
from pipeline.errors import ConfigError
from pipeline.ledger import Artifact, Ledger


def check_layout(checkpoints: Path, key: str, profile: Profile, title: str) -> None:
    """Refuse to train past a checkpoint that cannot be continued by this profile.

    Args:
        checkpoints: folder of the round's checkpoints.
        key: fingerprint of the round.
        profile: where it is to go on.
        title: of the round.

    Raises:
        ConfigError: the newest sound checkpoint is of another layout.
    """
    ledger = Ledger(checkpoints)
    own = [a for a in ledger.records() if a.details.get("round") == key]
    newest_first = sorted(own, key=lambda found: -int(found.details["update"]))
    for found in newest_first:
        if not _is_other(found, profile):
            return
        if ledger.damage(found) is None:
            raise ConfigError(
                f"{title}: its checkpoint at update {found.details['update']} is of "
                f"{found.details['layout']}, this profile trains with {_layout(profile)}. Go on "
                "with the compute.workers and engine.zero_stage that it names, or begin the round "
                "anew with --discard-checkpoints"
            )


def discard_other_layouts(run_dir: Path, profile: Profile) -> int:
    """Forget every checkpoint that this profile cannot continue; how many there were."""
    count = 0
    for folder in run_dir.glob("rounds/*/checkpoints"):
        ledger = Ledger(folder)
        for found in ledger.records():
            if _is_other(found, profile):
                ledger.forget(found)
                count += 1
    return count


def _is_other(checkpoint: Artifact, profile: Profile) -> bool:
    return checkpoint.details.get("layout") != _layout(profile)


def _layout(profile: Profile) -> str:
    return layout_of(profile.engine.zero_stage, profile.compute.workers)
