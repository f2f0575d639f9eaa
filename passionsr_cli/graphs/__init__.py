"""Graphs of OpenVINO and ONNX: kept on disk, verified, compiled, mapped."""
