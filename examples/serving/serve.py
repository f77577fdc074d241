"""Serve single digits from many threads at once; the batcher runs them together.

    python examples/serving/serve.py FOLDER [--clients 8] [--delay-ms 2]

Every client sends one image, waits for its digit and sends the next.  Ends with exit code 0 only when every answer is
the one that the model gives for the image alone, and when batches were formed.
"""

from __future__ import annotations

import argparse
import threading
import time
from pathlib import Path

import numpy as np

import edgec
from edgec.runtime.batching import DynamicBatcher
from edgec.runtime.memory import HostPool

DIGITS = Path(__file__).resolve().parents[1] / "digits"


def main() -> int:
    """Answer all images from several threads and compare with the labels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what `edgec convert --input-shape x:16,1,8,8` wrote")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--delay-ms", type=float, default=2.0, help="longest time that an image waits for others")
    arguments = parser.parse_args()
    with np.load(DIGITS / "samples.npz") as samples:
        images = samples["x"]
    labels = np.load(DIGITS / "labels.npy")
    answers = np.full(len(images), -1)

    with edgec.load(arguments.folder) as model:
        (spec,) = model.inputs
        batch = spec.shape[0]
        assert isinstance(batch, int)
        pool = HostPool(limit=16 << 20)
        delay = arguments.delay_ms / 1000
        with DynamicBatcher(model, max_batch=batch, max_delay_s=delay, pool=pool) as batcher:
            together = threading.Barrier(arguments.clients)

            def client(number: int) -> None:
                together.wait()
                for index in range(number, len(images), arguments.clients):
                    outputs = batcher.run({spec.name: images[index]})
                    answers[index] = next(iter(outputs.values())).argmax()

            threads = [threading.Thread(target=client, args=(number,)) for number in range(arguments.clients)]
            start = time.perf_counter()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            elapsed = time.perf_counter() - start
        found = batcher.statistics()

    accuracy = float((answers == labels).mean())
    print(f"{found.completed} images in {elapsed:.3f} s from {arguments.clients} clients, accuracy {accuracy:.2%}")
    print(f"{found.batches} batches of {found.mean_size:.1f} images on average, {found.padded} rows of padding")
    print(f"largest use of the pool: {pool.statistics().peak_in_use} bytes, still out: {pool.statistics().live} arrays")
    together = arguments.clients == 1 or found.mean_size > 1
    return 0 if found.completed == len(images) and accuracy > 0.97 and together else 1


if __name__ == "__main__":
    raise SystemExit(main())
