"""Results beside their inputs and each other: pages with sliders, contact sheets."""
