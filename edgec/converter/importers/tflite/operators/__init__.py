"""What each family of LiteRT operators is in ONNX."""
