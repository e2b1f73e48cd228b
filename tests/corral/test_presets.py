"""The presets: each can be read, contradicts nothing, and `default` is what is in force where nothing was chosen."""

import pytest

from corral.cli.policies import PRESETS, read_policy
from corral.policy import Policy
from domain.lint.rules import lint


def test_the_default_document_is_the_policy_that_is_in_force_unasked() -> None:
    assert read_policy("default").content.digest == Policy().digest


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_named_as_its_file_and_is_clean(preset: str) -> None:
    policy = read_policy(preset).content

    assert policy.name == preset
    assert not lint(policy)


def test_presets_differ() -> None:
    assert len({read_policy(preset).content.digest for preset in PRESETS}) == len(PRESETS)
