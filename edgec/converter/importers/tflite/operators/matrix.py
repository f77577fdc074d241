"""Matrix products.

Source: LiteRT kernels fully_connected.cc, batch_matmul.cc.
"""

from __future__ import annotations

from ai_edge_litert import schema_py_generated as schema

from edgec.converter.importers.tflite.reading import Call, reads


@reads("FULLY_CONNECTED")
def fully_connected(call: Call) -> None:
    """Gemm for matrices, MatMul and Add for more axes; weights [units, depth]."""
    e, options = call.e, call.options(schema.FullyConnectedOptions)
    if options.WeightsFormat() != schema.FullyConnectedOptionsWeightsFormat.DEFAULT:
        call.refuse("its weights are shuffled")
    _, depth = call.tensor(1).shape
    x = call.plain(0)
    keep = options.KeepNumDims() and len(call.tensor(0).shape) != 2
    if not keep and (len(call.tensor(0).shape) != 2 or call.tensor(0).shape[1] != depth):
        x = e.reshape(x, [-1, depth])
    bias = call.bias(2, 1)
    if keep:
        y = e.one("MatMul", x, call.weights(1, (1, 0)))
        y = y if bias is None else e.one("Add", y, bias)
    else:
        y = e.one("Gemm", x, call.weights(1, (0, 1)), bias, transB=1)
    y = call.activated(y, options.FusedActivationFunction())
    wanted = call.result().shape
    if not keep and len(wanted) != 2:
        y = e.reshape(y, [-1 if extent < 0 else extent for extent in call.result().signature])
    call.give_plain(y)


@reads("BATCH_MATMUL")
def batch_matmul(call: Call) -> None:
    """MatMul, either operand transposed before."""
    options = call.options(schema.BatchMatMulOptions)
    operands = []
    for position, adjoint in enumerate((options.AdjX(), options.AdjY())):
        rank = len(call.tensor(position).shape)
        order = [*range(rank - 2), rank - 1, rank - 2]
        constant = call.tensor(position).load is not None
        if constant:
            operands.append(call.weights(position, order if adjoint else range(rank)))
        else:
            value = call.plain(position)
            operands.append(call.e.transpose(value, order) if adjoint else value)
    call.give_plain(call.e.one("MatMul", *operands))
