"""Errors of what was asked (EDG0xx): options, files, folders, calibration data."""

from __future__ import annotations

from edgec.errors.code import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_MODEL,
    EXIT_TOOL_MISSING,
    EXIT_UNSUPPORTED,
    EXIT_USAGE,
    define,
)

define(
    "EDG001",
    EXIT_USAGE,
    "usage error",
    "The command line could not be understood: an unknown option, a missing argument or a value of the wrong form. "
    "`edgec COMMAND --help` lists what is accepted.",
)
define(
    "EDG002",
    EXIT_USAGE,
    "no such input of the model",
    "An option such as --input-shape, --range or --data names an input that the model does not have. "
    "`edgec inspect MODEL` lists the inputs. The name ends at the last colon, so names may hold colons.",
)
define(
    "EDG003",
    EXIT_USAGE,
    "unknown target",
    "The name after --target is no registered target. `edgec targets` lists them; plug-ins register through the "
    "entry-point group `edgec.targets`.",
)
define(
    "EDG004",
    EXIT_USAGE,
    "unknown pass or pass option",
    "A name in --passes or --print-ir-after is no pass, or an option in braces is no field of that pass. "
    "`edgec passes` lists the passes and their options.",
)
define(
    "EDG005",
    EXIT_USAGE,
    "data does not fit the model",
    "An array in --data has another shape or dtype than the model's input, an input has no array, or the file holds "
    "no arrays at all. Shapes must be equal, except that one more leading dimension, or a first dimension beyond the "
    "input's, is iterated over sample by sample; the last batch is filled up with the first rows of the file.",
)
define(
    "EDG006",
    EXIT_USAGE,
    "data file unreadable",
    "A file or folder of --data, --calibration, --input or --labels is missing, is not a .npy or .npz file of plain "
    "arrays, or an image cannot be read. Pickled arrays are never loaded.",
)
define(
    "EDG010",
    EXIT_USAGE,
    "output folder not writable",
    "The output folder cannot be created or written to. Nothing was changed.",
)
define(
    "EDG011",
    EXIT_USAGE,
    "no space left on device",
    "The disk filled up while the artifact was written. The half-written file was removed; what was there before is "
    "untouched.",
)
define(
    "EDG012",
    EXIT_USAGE,
    "output folder in use",
    "Another edgec process is writing into the same output folder. Wait for it, or choose another folder with -o.",
)
define(
    "EDG013",
    EXIT_TOOL_MISSING,
    "missing extra",
    "The feature needs an optional part of edgec that is not installed. The message names the extra; install it "
    "with pip, for example `pip install 'edgec[tensorflow]'`. Models of the TensorFlow family (SavedModel, Keras) need "
    "TensorFlow; .onnx and .tflite files do not.",
)
define(
    "EDG014",
    EXIT_USAGE,
    "unknown code",
    "`edgec explain` was asked about a code that edgec does not define. `edgec explain --all` lists every code.",
)
define(
    "EDG015",
    EXIT_USAGE,
    "output would overwrite the source",
    "The artifact would get the path of the model that it is made from. Choose another output folder with -o.",
)
define(
    "EDG016",
    EXIT_USAGE,
    "no such signature",
    "The SavedModel has no signature of the name after --signature, or has several and none is called "
    "`serving_default`. The message lists them, and so does `edgec inspect MODEL`.",
)
define(
    "EDG017",
    EXIT_USAGE,
    "no folder of a conversion",
    "The folder does not exist, or holds no manifest.json. `edgec convert -o FOLDER` and `edgec tune apply -o FOLDER` "
    "write one; give that folder, not the artifact in it. A conversion whose vendor's tool is missing leaves a plan "
    "and no manifest: the message names it.",
)
define(
    "EDG020",
    EXIT_INTERRUPTED,
    "interrupted",
    "The run was interrupted (Ctrl-C or SIGTERM). Temporary files were removed; earlier artifacts are untouched.",
)

define(
    "EDG030",
    EXIT_USAGE,
    "calibration data needed",
    "Integers need to know which numbers every value of the model takes. Give typical inputs with --calibration: a "
    ".npz or .npy file or a folder of them, preprocessed as the model expects; 16 to 100 samples are enough. "
    "`--calibration random` makes numbers up, to try whether the model can be quantized at all.",
)
define(
    "EDG031",
    EXIT_USAGE,
    "calibration data is not finite",
    "A calibration sample holds NaN or infinity, or the model computes them from it. No range follows from that. The "
    "message names the sample, counted from 0, and the input or value.",
)
define(
    "EDG032",
    EXIT_USAGE,
    "no calibration samples",
    "The calibration data was read, but it holds no sample.",
)
define(
    "EDG033",
    EXIT_MODEL,
    "calibration cannot run the model",
    "ONNX Runtime reported an error while it ran the canonical float model on the calibration data.",
)
define(
    "EDG034",
    EXIT_UNSUPPORTED,
    "nothing to quantize",
    "No node of the model computes with float32 numbers in an operator that the target has an integer kernel for: the "
    "model works on integers only, or holds none of those operators. Convert it with --precision float32; the Edge TPU "
    "and the Ethos-U compute integers only.",
)
define(
    "EDG035",
    EXIT_USAGE,
    "input or output cannot be integer",
    "With --io-dtype int8 every float input must go into, and every float output come out of, an integer kernel. The "
    "message names one that does not. Use --io-dtype float32.",
)

define(
    "EDG040",
    EXIT_USAGE,
    "session option that cannot be used",
    "An option of `edgec.load`, `edgec run` or `edgec bench` is unknown to the runtime of the artifact, has a value "
    "that it does not take, or contradicts another one, such as an accelerator with the interpreter, which has none. "
    "The message names the option and the values that it takes; docs/running.md lists them all.",
)

define(
    "EDG036",
    EXIT_USAGE,
    "input or output cannot be float16",
    "With --io-dtype float16 no float32 input and no float32 output of the model can become float16: it has none, or "
    "its numbers are too large or too small for float16. Use --io-dtype float32.",
)

define(
    "EDG037",
    EXIT_USAGE,
    "labels do not fit the model",
    "The data of --data has labels (an array of integers called labels, label or y), but not one per sample, or the "
    "model has no output with one class per label, or --metric needs labels and there are none. The loss of "
    "--precision mixed is measured by them. Without labels it is the relative L2 of the outputs.",
)
define(
    "EDG038",
    EXIT_FAILED,
    "loss stays above --max-drop",
    "Even with every node raised from integers, the artifact loses more than --max-drop: what is left is the rounding "
    "of the precision that nodes are raised to, or the limit is smaller than the last bits of float32. The message "
    "says how much. Give a larger --max-drop, or --raise-to float32.",
)
