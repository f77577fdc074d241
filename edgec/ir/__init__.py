"""The ONNX-centred intermediate representation: graph, types, inference, text form and, in `passes`, the rewrites."""
