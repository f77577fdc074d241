"""The passes; importing this package registers them all."""

from edgec.ir.passes import (  # noqa: F401
    decompose,
    eliminate_common_subexpressions,
    eliminate_dead_code,
    eliminate_identity,
    expand_activations,
    expand_functions,
    expand_qlinear,
    float16,
    fold_constants,
    fuse_batchnorm,
    fuse_gemm,
    fuse_input_scale,
    fuse_layernorm,
    fuse_scale,
    fuse_upsample,
    merge_reshapes,
    quantize_between,
    recognise_activations,
    recognise_layernorm,
    rewrite_ml,
    select_branches,
    simplify_transposes,
    slice_unequal_splits,
    split_means,
    split_resizes,
    wrap_moves,
)

DEFAULT = (
    "fold-constants,eliminate-identity,eliminate-common-subexpressions,fuse-batchnorm,fuse-gemm,fuse-scale,"
    "recognise-activations,recognise-layernorm,fuse-input-scale,merge-reshapes,simplify-transposes,"
    "eliminate-identity,eliminate-dead-code"
)
"""What every target runs unless it says otherwise: the way to the canonical form."""
