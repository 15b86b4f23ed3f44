"""The profiles of a run, stored in its directory."""

from pathlib import Path

import pytest

from pipeline.config.profile import ComputeConfig, EngineConfig, Profile, TrackingConfig
from pipeline.errors import ConfigError
from pipeline.run_dir.recipe_file import prepare_run_dir, record_profile, recorded_profile
from tests.support.small_run import small_recipe


def test_every_profile_of_a_run_is_kept(tmp_path: Path) -> None:
    prepare_run_dir(small_recipe(), tmp_path, accept_changes=False)
    first = Profile(tracking=TrackingConfig(uri="env:TRACKING"))
    second = Profile(
        compute=ComputeConfig(workers=1), engine=EngineConfig(log_every=3, checkpoint_every=7)
    )
    for profile in (first, first, second, second, first):
        record_profile(profile, tmp_path)
    assert recorded_profile(tmp_path).tracking.uri == "env:TRACKING"
    assert sorted(file.name for file in tmp_path.glob("profile*.yaml")) == [
        "profile.1.yaml",
        "profile.2.yaml",
        "profile.yaml",
    ]
    assert "log_every: 3" in (tmp_path / "profile.2.yaml").read_text()


def test_without_a_recorded_profile_the_error_names_the_option(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--profile"):
        recorded_profile(tmp_path)
