"""The passes; importing this package registers them all."""

from edgec.ir.passes import (  # noqa: F401
    expand_functions,
    fold_constants,
)
