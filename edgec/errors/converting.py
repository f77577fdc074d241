"""Errors of a conversion: the model, the target, the verification, the passes."""

from __future__ import annotations

from edgec.errors.code import (
    EXIT_FAILED,
    EXIT_INTERNAL,
    EXIT_MODEL,
    EXIT_UNSUPPORTED,
    define,
)

# EDG1xx: the model is invalid or hostile
define(
    "EDG101",
    EXIT_MODEL,
    "model file not found",
    "The path does not exist, or is a folder where a file was expected.",
)
define("EDG102", EXIT_MODEL, "empty model file", "The file has no bytes.")
define(
    "EDG103",
    EXIT_MODEL,
    "not an ONNX file",
    "The bytes do not follow the protobuf wire format, so this is no ONNX model. A Git LFS pointer, an HTML error "
    "page or a compressed archive are the usual causes.",
)
define(
    "EDG104",
    EXIT_MODEL,
    "truncated model file",
    "The protobuf structure ends in the middle of a field: the file was cut off, usually by an interrupted "
    "download or copy.",
)
define(
    "EDG105",
    EXIT_MODEL,
    "protobuf, but no model",
    "The bytes are valid protobuf but hold no ONNX graph (no IR version, no opset, or no graph).",
)
define(
    "EDG106",
    EXIT_MODEL,
    "cyclic or unordered graph",
    "A node uses a value that is produced by no earlier node and is neither an input nor an initializer. If "
    "reordering the nodes cannot help, the graph has a cycle.",
)
define(
    "EDG107",
    EXIT_MODEL,
    "external data missing",
    "An initializer points at a file beside the model that does not exist or is too short. Copy the data file "
    "together with the model.",
)
define(
    "EDG108",
    EXIT_MODEL,
    "external data outside the model's folder",
    "An initializer points at an absolute path, at a path with `..`, or at a symbolic link. edgec never reads "
    "outside the model's own folder.",
)
define(
    "EDG109",
    EXIT_MODEL,
    "malformed graph",
    "The graph breaks a rule of the ONNX specification: a value defined twice, a missing input, an attribute of the "
    "wrong type, a tensor whose data does not fill its shape, or operand types the operator does not take.",
)
define(
    "EDG110",
    EXIT_MODEL,
    "opset or IR version out of range",
    "edgec reads IR version 3 and later, and opset 7 to 26, the newest that ONNX Runtime runs. Operators of older "
    "opsets are read where they have an exact newer form; onnx.version_converter upgrades other models.",
)
define(
    "EDG111",
    EXIT_MODEL,
    "shapes or types do not agree",
    "Shape inference found operands that do not fit together, usually because of an --input-shape that the network "
    "was not made for.",
)
define(
    "EDG112",
    EXIT_MODEL,
    "model exceeds a limit",
    "The model is larger than a limit that protects against hostile files (nesting depth, node count, unrolled "
    "iterations, constant size). The message names the limit and the option that raises it.",
)
define(
    "EDG113",
    EXIT_MODEL,
    "the reference runtime cannot run the model",
    "The runtime that provides the reference outputs (ONNX Runtime for .onnx, LiteRT for .tflite, TensorFlow for "
    "SavedModel and Keras) refused to load or run the original model. Without a reference nothing can be verified, so "
    "nothing is converted.",
)
define(
    "EDG114",
    EXIT_MODEL,
    "not a LiteRT model",
    "The file has the name of a LiteRT model or of another artifact, such as .tflite, but not its format: it is cut "
    "off or something else. A Git LFS pointer, an HTML error page or a compressed archive are the usual causes.",
)
define(
    "EDG115",
    EXIT_MODEL,
    "the model would run code",
    "The model holds or names Python code (a Lambda layer, a custom object, a pickle) or operators that run code or "
    "reach files outside the model. edgec does not run it; the message says what it is. If you know who made the "
    "model and trust them as much as a program of theirs, repeat the command with --trust. Better: save the model "
    "again without these layers.",
)
define(
    "EDG116",
    EXIT_MODEL,
    "not a readable TensorFlow model",
    "A folder without a sound saved_model.pb, a .keras file that is no zip archive with a config.json, an .h5 file "
    "that is damaged or holds only weights, or a model that TensorFlow itself refuses to load.",
)
define(
    "EDG117",
    EXIT_MODEL,
    "unsafe path in the model",
    "An entry of a .keras archive has an absolute path or one with `..`, or a SavedModel folder or an HDF5 file "
    "points outside of itself. edgec never reads or writes outside the model.",
)

# EDG2xx: the importer or a target cannot hold the model
define(
    "EDG201",
    EXIT_UNSUPPORTED,
    "unknown operator or domain",
    "A node's operator is not defined by the ONNX standard or by a domain that edgec knows, or is an operator of "
    "LiteRT that edgec does not read (docs/support/tflite-import.md lists those it does). The message names the "
    "operator, the domain and the node.",
)
define(
    "EDG202",
    EXIT_UNSUPPORTED,
    "dynamic dimension without a value",
    "The target needs static shapes, and an input has a symbolic, unnamed or placeholder dimension. Give it with "
    "--input-shape NAME:1,3,224,224, or give the batch with --batch N.",
)
define(
    "EDG203",
    EXIT_UNSUPPORTED,
    "control flow that cannot be removed",
    "An If whose condition, or a Loop or Scan whose trip count, is known only at run time, or a Loop with too many "
    "steps to unroll. edgec inlines and unrolls what is constant: export the model with constant conditions and trip "
    "counts, or give the shapes that they follow from with --input-shape.",
)
define(
    "EDG204",
    EXIT_UNSUPPORTED,
    "value type not supported by the target",
    "An input, output or intermediate value is a sequence, optional, map, string or complex value, or has an "
    "element type that the target does not have.",
)
define(
    "EDG205",
    EXIT_UNSUPPORTED,
    "opset out of reach",
    "The model cannot be written at the opset after --opset: an operator of it has its present form only since a "
    "later one, which the message names, or edgec does not write one that new.",
)
define(
    "EDG231",
    EXIT_UNSUPPORTED,
    "operator not supported by the target",
    "The target has no operator, and edgec no composition of operators, that computes this node exactly. The message "
    "names the node and what would help.",
)
define(
    "EDG232",
    EXIT_UNSUPPORTED,
    "model too large for the target format",
    "The artifact would exceed what the target's file format can hold (2 GiB for a LiteRT flatbuffer).",
)

# EDG3xx: verification
define(
    "EDG301",
    EXIT_FAILED,
    "verification failed",
    "The artifact loads and runs, but its outputs differ from those of the original model by more than the "
    "threshold. The artifact was set aside as *.rejected. The report lists every output with its error; "
    "`edgec verify` repeats the comparison with your own data.",
)
define(
    "EDG302",
    EXIT_FAILED,
    "artifact does not load",
    "The runtime refused to load or allocate the artifact. This is a defect of edgec or of the runtime, never a "
    "success; the artifact was set aside as *.rejected.",
)
define(
    "EDG303",
    EXIT_FAILED,
    "artifact does not run",
    "The runtime crashed, timed out or reported an error while running the artifact. The artifact was set aside as "
    "*.rejected.",
)
define(
    "EDG304",
    EXIT_FAILED,
    "artifact interface changed",
    "The artifact's inputs or outputs differ from the model's in name, order, dtype or shape although no such change "
    "was asked for.",
)
define(
    "EDG305",
    EXIT_FAILED,
    "no output could be verified",
    "Every output was constant over the inputs that were tried, so the comparison proves nothing. Give real inputs "
    "with --data, or ranges with --range.",
)
define(
    "EDG306",
    EXIT_FAILED,
    "artifact is not what was written",
    "The manifest.json of the folder cannot be read, or the artifact or a file beside it is missing or has another "
    "hash than the conversion gave it: it was changed, cut short or replaced since. Convert the model again.",
)

# EDG6xx: passes and the canonical form
define(
    "EDG601",
    EXIT_INTERNAL,
    "IR check failed",
    "A pass left the graph in a state that breaks the canonical form. This is a defect of edgec; please report it "
    "with the output of --debug.",
)
