from __future__ import annotations

from pathlib import Path

import pytest

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
