"""The conformance suite: the ONNX backend tests, run through any target and judged by their stored outputs."""
