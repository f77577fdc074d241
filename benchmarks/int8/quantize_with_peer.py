"""Quantize a float .tflite with ai-edge-quantizer; run by the peer's Python, which has no edgec.

python quantize_with_peer.py FLOAT.tflite SAMPLES.npy OUT.tflite
"""

from __future__ import annotations

import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import quantizer, recipe

source, data, target = sys.argv[1:]
signatures = Interpreter(source).get_signature_list()
key = next(iter(signatures))
name = signatures[key]["inputs"][0]
tool = quantizer.Quantizer(source)
tool.load_quantization_recipe(recipe.static_wi8_ai8())
statistics = tool.calibrate({key: [{name: sample} for sample in np.load(data)]})
tool.quantize(statistics).export_model(target, overwrite=True)
