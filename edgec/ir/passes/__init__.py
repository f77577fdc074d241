"""The passes; importing this package registers them all."""

from edgec.ir.passes import (  # noqa: F401
    eliminate_common_subexpressions,
    eliminate_dead_code,
    eliminate_identity,
    expand_functions,
    fold_constants,
    fuse_batchnorm,
    fuse_gemm,
    fuse_scale,
    recognise_activations,
    recognise_layernorm,
)
