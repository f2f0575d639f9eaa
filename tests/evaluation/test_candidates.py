from __future__ import annotations

from pathlib import Path

import pytest

from passionsr_cli.evaluation import candidates
from passionsr_cli.evaluation.candidates import plan_candidates
from passionsr_cli.evaluation.settings import EvaluationSettings


def test_images_of_other_code_are_others(
    least_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = EvaluationSettings(model=(str(least_folder),), baseline=("bicubic",))

    def fingerprints() -> list[str]:
        return [row.fingerprint for row in plan_candidates(settings)]

    before = fingerprints()
    assert len(set(before)) == 2
    assert fingerprints() == before
    places = "passionsr_cli.evaluation.candidates.image_code"
    monkeypatch.setattr(places, lambda *places: "of other sources")
    assert set(fingerprints()).isdisjoint(before)


def test_each_setting_of_a_dial_has_a_name_of_its_own(dial_folder: Path) -> None:
    settings = EvaluationSettings(
        model=(str(dial_folder),), baseline=(), realism=(0, 0.5, 0.5, 0.50000001, 1)
    )
    names = [row.name.partition("@")[2] for row in plan_candidates(settings)]
    assert names == ["0", "0.5", "0.50000001", "1"]


@pytest.mark.parametrize("package", ["torch", "diffusers", "openvino", "pillow", "nncf"])
def test_images_by_other_versions_of_packages_are_others(
    least_folder: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    settings = EvaluationSettings(model=(str(least_folder),), baseline=("nncf", "bicubic"))

    def fingerprints() -> dict[str, str]:
        return {row.name: row.fingerprint for row in plan_candidates(settings)}

    before = fingerprints()
    known = candidates.version_of
    monkeypatch.setattr(
        candidates, "version_of", lambda name: "of tomorrow" if name == package else known(name)
    )
    after = fingerprints()
    changed = {name for name in before if before[name] != after[name]}
    assert changed == ({"nncf"} if package == "nncf" else set(before))
