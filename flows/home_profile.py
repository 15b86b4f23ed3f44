"""Which profile a run directory was last worked on with, and the ones before it.

Where a run goes on is free to change from one start to the next; it changes no fingerprint but by
its precision. It is kept so that one can tell how an artifact came about, and how to go on.
"""

from pathlib import Path

from flows.run_dir import keep_aside
from infra.profile import Profile
from pipeline.documents import build, read_yaml, to_yaml
from pipeline.durable import write_durably
from pipeline.errors import ConfigError

PROFILE = "profile.yaml"


def record_profile(profile: Profile, run_dir: Path) -> None:
    """Keep the profile of a start, and the one before as `profile.<n>.yaml` if it was another."""
    kept = run_dir / PROFILE
    text = to_yaml(profile)  # which holds no password, see `TrackingConfig`
    if kept.is_file():
        if kept.read_text(encoding="utf-8") == text:
            return
        keep_aside(kept)
    write_durably(kept, text)


def recorded_profile(run_dir: Path) -> Profile:
    """The profile of the newest start.

    Raises:
        ConfigError: none was recorded, or this version cannot read it.
    """
    path = run_dir / PROFILE
    if not path.is_file():
        raise ConfigError(f"{run_dir} has no {PROFILE}; give --profile")
    return build(Profile, read_yaml(path), str(path))
