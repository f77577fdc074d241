"""Why LiteRT cannot hold a node although edgec knows its operator: the rules that the lowerings refuse by.

A node whose operator has neither a LiteRT operator nor a composition of them is refused by EDG231, and a value of an
element type that the format lacks by EDG204, whatever the target.
"""

from __future__ import annotations

from typing import Final

from edgec.targets.rules import define

TARGET: Final = "tflite"

define(
    "EDG401",
    target=TARGET,
    title="parameter known only at run time",
    documentation="""
    An operand that the LiteRT operator has as an option or as a constant tensor (axes, sizes, weights, a bound) is
    computed at run time in the model. Make it an initializer: export with fixed sizes, or fold what it is computed
    from.

    Source: the options tables of LiteRT's schema.fbs; kernels that check IsConstantTensor in Prepare.
    """,
)
define(
    "EDG402",
    target=TARGET,
    title="shape or rank known only at run time",
    documentation="""
    The lowering has to know the extents of an operand or a result, but they depend on the data: behind NonZero,
    Unique, NonMaxSuppression, Compress, or behind an input whose shape was left dynamic. Give the shapes with
    --input-shape, or cut the model in front of the node.

    Source: LiteRT tensors have a static shape or none at all; one unknown extent (-1) is all that RESHAPE resolves.
    """,
)
define(
    "EDG403",
    target=TARGET,
    title="element type that the CPU kernels do not compute",
    documentation="""
    LiteRT can store the element type, but its CPU kernel for the operator takes others only, mostly float32, int32,
    int64, and int8 or uint8 with quantization parameters. Cast to float32 or int32 around the node, or export the
    model in float32.

    Source: the switch over element types in each kernel of LiteRT (tflite/kernels/*.cc).
    """,
)
define(
    "EDG404",
    target=TARGET,
    title="rank or extent that the kernel does not take",
    documentation="""
    LiteRT convolves and pools over one, two or three spatial axes, and sorts along an axis: an operand has more of
    them, or none. Or a value has no elements at all, which its kernels do not accept. Reshape so that axes which are
    treated alike become one; cut what is empty out of the model.

    Source: NumDimensions checks in LiteRT's kernels (conv.cc, conv3d.cc, transpose_conv.cc, pooling.cc, topk_v2.cc).
    """,
)
define(
    "EDG405",
    target=TARGET,
    title="window, sequence or expansion too large",
    documentation="""
    The node can be composed from LiteRT operators only by writing it out (a time step, a window position or a class
    at a time), and that would make more operators than edgec writes, or indices beyond what float32 counts exactly.
    The message names the number and the bound. Run the model on smaller windows, or a part of it outside of LiteRT.

    Source: edgec's own bounds, STEP_LIMIT and its like in edgec/targets/tflite/operators/.
    """,
)
define(
    "EDG406",
    target=TARGET,
    title="mode or attribute value without a LiteRT form",
    documentation="""
    The operator is lowered, but not with this value of an attribute: neither a LiteRT operator nor a composition of
    them computes exactly that. Export with another mode; the message names the value.

    Source: ONNX operator specification, and LiteRT's schema.fbs.
    """,
)
define(
    "EDG407",
    target=TARGET,
    title="sequence, optional, map or string",
    documentation="""
    LiteRT's operators work on tensors of numbers and booleans. A sequence, an optional, a map or a string has no
    tensor to stand for it. Take the pre- or post-processing that needs it out of the model; sequences of known
    length become several tensors when the model is exported with torch.export.

    Source: TensorType in LiteRT's schema.fbs (its STRING and RESOURCE have no place in arithmetic kernels).
    """,
)
