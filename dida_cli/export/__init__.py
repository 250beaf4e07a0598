"""A model as ONNX graphs: `write` makes them, `onnx` runs them without torch."""
