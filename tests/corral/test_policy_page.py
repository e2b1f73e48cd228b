"""The page about policies and the commented default name everything that there is."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from corral.cli.policies import PRESETS, read_policy
from corral.policy import Policy, TierPolicy
from domain.lint.rules import RULES, Rule

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "policy.md").read_text()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_rule_has_its_paragraph(rule: Rule) -> None:
    consequence = ", refused" if rule.refuses else ""

    assert f"**{rule.name}** ({rule.fault.replace('-', ' ')}{consequence})." in PAGE


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_on_the_page(preset: str) -> None:
    assert f"| `{preset}` |" in PAGE


def knobs(model: type[BaseModel] = Policy, prefix: str = "") -> Iterator[str]:
    """The paths of all knobs but those inside lists and mappings."""
    for name, field in model.model_fields.items():
        match field.annotation:
            case type() as part if issubclass(part, BaseModel):
                yield from knobs(part, f"{prefix}{name}.")
            case _:
                yield prefix + name


@pytest.mark.parametrize("knob", [knob for knob in knobs() if not knob.startswith("constraints.")])
def test_every_knob_is_written_in_the_default_document_and_on_the_page(knob: str) -> None:
    *_, name = knob.split(".")

    assert knob in read_policy("default").fields
    assert name in PAGE


@pytest.mark.parametrize("knob", TierPolicy.model_fields)
def test_every_knob_of_a_tier_is_on_the_page(knob: str) -> None:
    assert f"`tiers.NAME.{knob}`" in PAGE
