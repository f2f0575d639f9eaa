"""A calibration in a process of its own: what it tells."""

from __future__ import annotations

from reporting import Heard

from passionsr_cli.reproduction.calibrations import calibrate_apart, calibration_of
from passionsr_cli.reproduction.definitions import RowDefinition
from passionsr_cli.reproduction.settings import ReproductionSettings
from passionsr_cli.system.memory import process_peak_bytes

ROW = RowDefinition(label="PassionSR", bits="w6a6", method="passionsr")


def test_it_tells_what_it_does_and_its_memory_is_its_own(settings: ReproductionSettings) -> None:
    heard = Heard()
    waste = bytearray(1_500_000_000)
    waste[:: 1 << 12] = bytes(len(waste[:: 1 << 12]))
    assert process_peak_bytes() > 1.5e9
    del waste
    entry = calibrate_apart(calibration_of(ROW, settings), heard)
    assert entry.name == "least-w6a6-passionsr-quick"
    assert ("encoder", 2) in heard.places
    assert [str(result).partition(":")[0] for result in heard.results] == [
        "encoder",
        "unet",
        "decoder",
    ]
    assert 1e8 < entry.manifest.peak_memory_bytes < 1.4e9
