"""What quantized layers must have run on, on any CPU."""

from __future__ import annotations

from passionsr_cli.conversion.kernels import KernelReport
from passionsr_cli.inference.arithmetic import products_saturate
from passionsr_cli.inference.openvino_executor import OVERFLOWS, UNSAID


def on_integers_as_far_as_exact(ran: KernelReport) -> bool:
    """Whether integer kernels computed every layer, but what overflows on a CPU that saturates.

    There OpenVINO's older kernels also lose the names of some layers.
    """
    reasons = {how for _, how in ran.floating}
    return ran.on_integers or (products_saturate() and reasons <= {OVERFLOWS, UNSAID})
