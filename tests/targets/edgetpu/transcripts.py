"""What `edgetpu_compiler` printed for other people, and what it may print: the source of each stands beside it.

`{...}` is filled in by the stub.  "issue N" is of github.com/google-coral/edgetpu.
"""

from __future__ import annotations

from typing import Final

V14: Final = "Edge TPU Compiler version 14.1.317412892\n"
V15: Final = "Edge TPU Compiler version 15.0.340273435\n"
V16: Final = "Edge TPU Compiler version 16.0.384591198\n"

SUCCESS_16: Final = """Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.

Model compiled successfully in 1857 ms.

Input model: {stem}.tflite
Input size: 5.20MiB
Output model: {stem}_edgetpu.tflite
Output size: 6.51MiB
On-chip memory used for caching model parameters: 6.02MiB
On-chip memory remaining for caching model parameters: 1.02MiB
Off-chip memory used for streaming uncached model parameters: 0.00B
Number of Edge TPU subgraphs: 1
Total number of operations: 84
Operation log: {stem}_edgetpu.log
See the operation log file for individual operation details.
Compilation child process completed within timeout period.
Compilation succeeded!\x20
"""
"""Issue 557 (the first of two segments there)."""

PARTIAL_15: Final = """Edge TPU Compiler version 15.0.340273435

Model compiled successfully in 3388 ms.

Input model: {stem}.tflite
Input size: 13.35MiB
Output model: {stem}_edgetpu.tflite
Output size: 13.79MiB
On-chip memory used for caching model parameters: 6.15MiB
On-chip memory remaining for caching model parameters: 5.75KiB
Off-chip memory used for streaming uncached model parameters: 7.03MiB
Number of Edge TPU subgraphs: 1
Total number of operations: {total}
Operation log: {stem}_edgetpu.log

Model successfully compiled but not all operations are supported by the Edge TPU. A percentage of the model will instead run on the CPU, which is slower. If possible, consider updating your model to use only operations supported by the Edge TPU. For details, visit g.co/coral/model-reqs.
Number of operations that will run on Edge TPU: {mapped}
Number of operations that will run on CPU: {left}

Operator                       Count      Status

CONV_2D                        1          More than one subgraph is not supported
CONV_2D                        32         Mapped to Edge TPU
"""  # noqa: E501
"""Issue 28 of github.com/PINTO0309/openvino2tensorflow; the numbers of operations are filled in."""

NOT_QUANTIZED: Final = V15 + "Invalid model: {stem}.tflite\nModel not quantized\n"
"""Issue 313."""

NOT_PARSED: Final = (
    V16
    + """ERROR: Didn't find op for builtin opcode 'QUANTIZE' version '3'. An older version of this builtin might be supported. Are you using an old TFLite binary with a newer model?

ERROR: Registration failed.

Invalid model: {stem}.tflite
Model could not be parsed
"""  # noqa: E501
)
"""Issue 879."""

INTERNAL_ERROR: Final = V14 + "\nInternal compiler error. Aborting! \n"
"""Issue 211."""

LARGE_ACTIVATIONS: Final = (
    V16
    + """Started a compilation timeout timer of 180 seconds.
ERROR: Restored original execution plan after delegate application failure.
Compilation failed: Compilation failed due to large activation tensors in model.
Compilation child process completed within timeout period.
Compilation failed!\x20
"""
)
"""Issue 651, without its search for a delegate."""

CRASH: Final = (
    V16
    + """/usr/bin/edgetpu_compiler: line 3:  1531 Segmentation fault      (core dumped) ${{d}}/edgetpu_compiler_bin/ld-linux-x86-64.so.2 --library-path ${{d}}/edgetpu_compiler_bin ${{d}}/edgetpu_compiler_bin/edgetpu_compiler "$@"
"""  # noqa: E501
)
"""Issue 643."""

UNWRITABLE: Final = (
    SUCCESS_16.replace("Compilation succeeded! \n", "")
    + "Error opening file for writing: {stem}_edgetpu.tflite\nInternal compiler error. Aborting! \n"
)
"""The end of issue 400 behind the transcript of issue 557."""

TIMED_OUT: Final = V16 + "Started a compilation timeout timer of 180 seconds.\nCompilation timed out.\n"
"""Invented: nobody has published the line; the compiler's page says that it stops after the time limit."""

LOG: Final = """Edge TPU Compiler version 16.0.384591198
Input: {stem}.tflite
Output: {stem}_edgetpu.tflite

Operator                       Count      Status

CONV_2D                        2          Mapped to Edge TPU
DEQUANTIZE                     2          Operation is working on an unsupported data type
"""
"""Issue 420 (the head) and issue 490 (the rows)."""

SUCCESS_2: Final = """Edge TPU Compiler version 2.0.267685300

Model compiled successfully in 313 ms.

Input model: output_tflite_graph.tflite
Input size: 5.33MiB
Output model: output_tflite_graph_edgetpu.tflite
Output size: 5.75MiB
On-chip memory available for caching model parameters: 7.62MiB
On-chip memory used for caching model parameters: 5.66MiB
Off-chip memory used for streaming uncached model parameters: 0.00B
Number of Edge TPU subgraphs: 1
Total number of operations: 64
Operation log: output_tflite_graph_edgetpu.log
"""
"""Issue 53 of github.com/f0cal/google-coral."""
