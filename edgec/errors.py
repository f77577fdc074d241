"""Every error that edgec can end with: a stable code, an exit code, and what to do next.

The table :data:`CODES` is the single source: exceptions carry a code from it, ``edgec explain CODE`` prints its text,
and ``docs/errors.md`` is generated from it.  Target capability rules have codes too (``EDG4xx``); they register
themselves in ``edgec.targets.rules``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_MODEL: Final = 3
EXIT_UNSUPPORTED: Final = 4
EXIT_TOOL_MISSING: Final = 5
EXIT_TOOL_FAILED: Final = 6
EXIT_UNSTABLE: Final = 7
EXIT_INTERNAL: Final = 70
EXIT_INTERRUPTED: Final = 130


@dataclass(frozen=True)
class Code:
    """One kind of error: its stable code, the exit code it ends with, a title and the text of ``edgec explain``."""

    code: str
    exit: int
    title: str
    explanation: str


CODES: dict[str, Code] = {}


def _define(code: str, exit: int, title: str, explanation: str) -> None:
    CODES[code] = Code(code, exit, title, explanation)


# EDG0xx: usage, files and folders
_define(
    "EDG001",
    EXIT_USAGE,
    "usage error",
    "The command line could not be understood: an unknown option, a missing argument or a value of the wrong form. "
    "`edgec COMMAND --help` lists what is accepted.",
)
_define(
    "EDG002",
    EXIT_USAGE,
    "no such input of the model",
    "An option such as --input-shape, --range or --data names an input that the model does not have. "
    "`edgec inspect MODEL` lists the inputs. The name ends at the last colon, so names may hold colons.",
)
_define(
    "EDG003",
    EXIT_USAGE,
    "unknown target",
    "The name after --target is no registered target. `edgec targets` lists them; plug-ins register through the "
    "entry-point group `edgec.targets`.",
)
_define(
    "EDG004",
    EXIT_USAGE,
    "unknown pass or pass option",
    "A name in --passes or --print-ir-after is no pass, or an option in braces is no field of that pass. "
    "`edgec passes` lists the passes and their options.",
)
_define(
    "EDG005",
    EXIT_USAGE,
    "data does not fit the model",
    "An array in --data has another shape or dtype than the model's input, an input has no array, or the file holds "
    "no arrays at all. Shapes must be equal, except that one more leading dimension, or a first dimension beyond the "
    "input's, is iterated over sample by sample; the last batch is filled up with the first rows of the file.",
)
_define(
    "EDG006",
    EXIT_USAGE,
    "data file unreadable",
    "A file or folder of --data, --calibration, --input or --labels is missing, is not a .npy or .npz file of plain "
    "arrays, or an image cannot be read. Pickled arrays are never loaded.",
)
_define(
    "EDG010",
    EXIT_USAGE,
    "output folder not writable",
    "The output folder cannot be created or written to. Nothing was changed.",
)
_define(
    "EDG011",
    EXIT_USAGE,
    "no space left on device",
    "The disk filled up while the artifact was written. The half-written file was removed; what was there before is "
    "untouched.",
)
_define(
    "EDG012",
    EXIT_USAGE,
    "output folder in use",
    "Another edgec process is writing into the same output folder. Wait for it, or choose another folder with -o.",
)
_define(
    "EDG013",
    EXIT_TOOL_MISSING,
    "missing extra",
    "The feature needs an optional part of edgec that is not installed. The message names the extra; install it "
    "with pip, for example `pip install 'edgec[tensorflow]'`. Models of the TensorFlow family (SavedModel, Keras) need "
    "TensorFlow; .onnx and .tflite files do not.",
)
_define(
    "EDG014",
    EXIT_USAGE,
    "unknown code",
    "`edgec explain` was asked about a code that edgec does not define. `edgec explain --all` lists every code.",
)
_define(
    "EDG015",
    EXIT_USAGE,
    "output would overwrite the source",
    "The artifact would get the path of the model that it is made from. Choose another output folder with -o.",
)
_define(
    "EDG016",
    EXIT_USAGE,
    "no such signature",
    "The SavedModel has no signature of the name after --signature, or has several and none is called "
    "`serving_default`. The message lists them, and so does `edgec inspect MODEL`.",
)
_define(
    "EDG020",
    EXIT_INTERRUPTED,
    "interrupted",
    "The run was interrupted (Ctrl-C or SIGTERM). Temporary files were removed; earlier artifacts are untouched.",
)

_define(
    "EDG030",
    EXIT_USAGE,
    "calibration data needed",
    "Integers need to know which numbers every value of the model takes. Give typical inputs with --calibration: a "
    ".npz or .npy file or a folder of them, preprocessed as the model expects; 16 to 100 samples are enough. "
    "`--calibration random` makes numbers up, to try whether the model can be quantized at all.",
)
_define(
    "EDG031",
    EXIT_USAGE,
    "calibration data is not finite",
    "A calibration sample holds NaN or infinity, or the model computes them from it. No range follows from that. The "
    "message names the sample, counted from 0, and the input or value.",
)
_define(
    "EDG032",
    EXIT_USAGE,
    "no calibration samples",
    "The calibration data was read, but it holds no sample.",
)
_define(
    "EDG033",
    EXIT_MODEL,
    "calibration cannot run the model",
    "ONNX Runtime reported an error while it ran the canonical float model on the calibration data.",
)
_define(
    "EDG034",
    EXIT_UNSUPPORTED,
    "nothing to quantize",
    "No node of the model computes with float32 numbers in an operator that the target has an integer kernel for: the "
    "model works on integers only, or holds none of those operators. Convert it with --precision float32.",
)
_define(
    "EDG035",
    EXIT_USAGE,
    "input or output cannot be integer",
    "With --io-dtype int8 every float input must go into, and every float output come out of, an integer kernel. The "
    "message names one that does not. Use --io-dtype float32.",
)

_define(
    "EDG040",
    EXIT_USAGE,
    "session option that cannot be used",
    "An option of `edgec.load`, `edgec run` or `edgec bench` is unknown to the runtime of the artifact, has a value "
    "that it does not take, or contradicts another one, such as an accelerator with the interpreter, which has none. "
    "The message names the option and the values that it takes; docs/running.md lists them all.",
)

_define(
    "EDG036",
    EXIT_USAGE,
    "input or output cannot be float16",
    "With --io-dtype float16 no float32 input and no float32 output of the model can become float16: it has none, or "
    "its numbers are too large or too small for float16. Use --io-dtype float32.",
)

_define(
    "EDG037",
    EXIT_USAGE,
    "labels do not fit the model",
    "The data of --data has labels (an array of integers called labels, label or y), but not one per sample, or the "
    "model has no output with one class per label, or --metric needs labels and there are none. The loss of "
    "--precision mixed is measured by them. Without labels it is the relative L2 of the outputs.",
)
_define(
    "EDG038",
    EXIT_FAILED,
    "loss stays above --max-drop",
    "Even with every node raised from integers, the artifact loses more than --max-drop: what is left is the rounding "
    "of the precision that nodes are raised to, or the limit is smaller than the last bits of float32. The message "
    "says how much. Give a larger --max-drop, or --raise-to float32.",
)

# EDG1xx: the model is invalid or hostile
_define(
    "EDG101",
    EXIT_MODEL,
    "model file not found",
    "The path does not exist, or is a folder where a file was expected.",
)
_define("EDG102", EXIT_MODEL, "empty model file", "The file has no bytes.")
_define(
    "EDG103",
    EXIT_MODEL,
    "not an ONNX file",
    "The bytes do not follow the protobuf wire format, so this is no ONNX model. A Git LFS pointer, an HTML error "
    "page or a compressed archive are the usual causes.",
)
_define(
    "EDG104",
    EXIT_MODEL,
    "truncated model file",
    "The protobuf structure ends in the middle of a field: the file was cut off, usually by an interrupted "
    "download or copy.",
)
_define(
    "EDG105",
    EXIT_MODEL,
    "protobuf, but no model",
    "The bytes are valid protobuf but hold no ONNX graph (no IR version, no opset, or no graph).",
)
_define(
    "EDG106",
    EXIT_MODEL,
    "cyclic or unordered graph",
    "A node uses a value that is produced by no earlier node and is neither an input nor an initializer. If "
    "reordering the nodes cannot help, the graph has a cycle.",
)
_define(
    "EDG107",
    EXIT_MODEL,
    "external data missing",
    "An initializer points at a file beside the model that does not exist or is too short. Copy the data file "
    "together with the model.",
)
_define(
    "EDG108",
    EXIT_MODEL,
    "external data outside the model's folder",
    "An initializer points at an absolute path, at a path with `..`, or at a symbolic link. edgec never reads "
    "outside the model's own folder.",
)
_define(
    "EDG109",
    EXIT_MODEL,
    "malformed graph",
    "The graph breaks a rule of the ONNX specification: a value defined twice, a missing input, an attribute of the "
    "wrong type, a tensor whose data does not fill its shape, or operand types the operator does not take.",
)
_define(
    "EDG110",
    EXIT_MODEL,
    "opset or IR version out of range",
    "edgec reads IR version 3 and later, and opset 7 to 26, the newest that ONNX Runtime runs. Operators of older "
    "opsets are read where they have an exact newer form; onnx.version_converter upgrades other models.",
)
_define(
    "EDG111",
    EXIT_MODEL,
    "shapes or types do not agree",
    "Shape inference found operands that do not fit together, usually because of an --input-shape that the network "
    "was not made for.",
)
_define(
    "EDG112",
    EXIT_MODEL,
    "model exceeds a limit",
    "The model is larger than a limit that protects against hostile files (nesting depth, node count, unrolled "
    "iterations, constant size). The message names the limit and the option that raises it.",
)
_define(
    "EDG113",
    EXIT_MODEL,
    "the reference runtime cannot run the model",
    "The runtime that provides the reference outputs (ONNX Runtime for .onnx, LiteRT for .tflite, TensorFlow for "
    "SavedModel and Keras) refused to load or run the original model. Without a reference nothing can be verified, so "
    "nothing is converted.",
)
_define(
    "EDG114",
    EXIT_MODEL,
    "not a LiteRT model",
    "The file has the name of a LiteRT model or of another artifact, such as .tflite, but not its format: it is cut "
    "off or something else. A Git LFS pointer, an HTML error page or a compressed archive are the usual causes.",
)
_define(
    "EDG115",
    EXIT_MODEL,
    "the model would run code",
    "The model holds or names Python code (a Lambda layer, a custom object, a pickle) or operators that run code or "
    "reach files outside the model. edgec does not run it; the message says what it is. If you know who made the "
    "model and trust them as much as a program of theirs, repeat the command with --trust. Better: save the model "
    "again without these layers.",
)
_define(
    "EDG116",
    EXIT_MODEL,
    "not a readable TensorFlow model",
    "A folder without a sound saved_model.pb, a .keras file that is no zip archive with a config.json, an .h5 file "
    "that is damaged or holds only weights, or a model that TensorFlow itself refuses to load.",
)
_define(
    "EDG117",
    EXIT_MODEL,
    "unsafe path in the model",
    "An entry of a .keras archive has an absolute path or one with `..`, or a SavedModel folder or an HDF5 file "
    "points outside of itself. edgec never reads or writes outside the model.",
)

# EDG2xx: the importer or a target cannot hold the model
_define(
    "EDG201",
    EXIT_UNSUPPORTED,
    "unknown operator or domain",
    "A node's operator is not defined by the ONNX standard or by a domain that edgec knows, or is an operator of "
    "LiteRT that edgec does not read (docs/support/tflite-import.md lists those it does). The message names the "
    "operator, the domain and the node.",
)
_define(
    "EDG202",
    EXIT_UNSUPPORTED,
    "dynamic dimension without a value",
    "The target needs static shapes, and an input has a symbolic, unnamed or placeholder dimension. Give it with "
    "--input-shape NAME:1,3,224,224, or give the batch with --batch N.",
)
_define(
    "EDG203",
    EXIT_UNSUPPORTED,
    "control flow that cannot be removed",
    "An If whose condition, or a Loop or Scan whose trip count, is known only at run time. edgec inlines and "
    "unrolls what is constant.",
)
_define(
    "EDG204",
    EXIT_UNSUPPORTED,
    "value type not supported by the target",
    "An input, output or intermediate value is a sequence, optional, map, string or complex value, or has an "
    "element type that the target does not have.",
)
_define(
    "EDG205",
    EXIT_UNSUPPORTED,
    "opset out of reach",
    "The model cannot be written at the opset after --opset: an operator of it has its present form only since a "
    "later one, which the message names, or edgec does not write one that new.",
)
_define(
    "EDG231",
    EXIT_UNSUPPORTED,
    "operator not supported by the target",
    "The target has no operator, and edgec no composition of operators, that computes this node exactly. The message "
    "names the node and what would help.",
)
_define(
    "EDG232",
    EXIT_UNSUPPORTED,
    "model too large for the target format",
    "The artifact would exceed what the target's file format can hold (2 GiB for a LiteRT flatbuffer).",
)

# EDG3xx: verification
_define(
    "EDG301",
    EXIT_FAILED,
    "verification failed",
    "The artifact loads and runs, but its outputs differ from those of the original model by more than the "
    "threshold. The artifact was set aside as *.rejected. The report lists every output with its error; "
    "`edgec verify` repeats the comparison with your own data.",
)
_define(
    "EDG302",
    EXIT_FAILED,
    "artifact does not load",
    "The runtime refused to load or allocate the artifact. This is a defect of edgec or of the runtime, never a "
    "success; the artifact was set aside as *.rejected.",
)
_define(
    "EDG303",
    EXIT_FAILED,
    "artifact does not run",
    "The runtime crashed, timed out or reported an error while running the artifact. The artifact was set aside as "
    "*.rejected.",
)
_define(
    "EDG304",
    EXIT_FAILED,
    "artifact interface changed",
    "The artifact's inputs or outputs differ from the model's in name, order, dtype or shape although no such change "
    "was asked for.",
)
_define(
    "EDG305",
    EXIT_FAILED,
    "no output could be verified",
    "Every output was constant over the inputs that were tried, so the comparison proves nothing. Give real inputs "
    "with --data, or ranges with --range.",
)
_define(
    "EDG306",
    EXIT_FAILED,
    "no manifest",
    "The folder given to `edgec verify` holds no manifest.json, or its artifact is missing or has another hash.",
)

# EDG5xx: tools that edgec runs in a process of their own
_define(
    "EDG501",
    EXIT_TOOL_FAILED,
    "tool failed",
    "A tool that edgec drives ended with an error. The message quotes the last lines of its output, and "
    "`details.log` of the JSON document all that was kept of it.",
)
_define(
    "EDG502",
    EXIT_TOOL_FAILED,
    "tool took too long",
    "A tool did not end within its time limit; it and everything that it had started were stopped. Raise the limit "
    "with --timeout where the command has it.",
)
_define(
    "EDG503",
    EXIT_TOOL_FAILED,
    "tool was killed or ran out of memory",
    "A tool was ended by a signal or could not get the memory that it asked for. Close other programs, use a machine "
    "with more memory, or raise the limit with --memory-limit where the command has it.",
)
_define(
    "EDG504",
    EXIT_TOOL_FAILED,
    "tool left no usable result",
    "A tool reported success, but the file that it should have written is missing, empty or not what it should be.",
)

_define(
    "EDG510",
    EXIT_TOOL_MISSING,
    "vendor tool not found",
    "The target's artifact is made by a tool of the chip's vendor, which is not on this machine. The verified file "
    "that goes into the tool and the plan of its run were written; the message gives the exact command. Install the "
    "tool, put it on PATH or name it in the environment variable that the message says, and repeat.",
)
_define(
    "EDG511",
    EXIT_TOOL_FAILED,
    "vendor tool refused the model",
    "The tool read the model and said why it will not compile it. The message quotes it.",
)
_define(
    "EDG512",
    EXIT_TOOL_FAILED,
    "version of the vendor tool not supported",
    "The tool is older than what edgec drives, or does not tell its version. The message names both.",
)
_define(
    "EDG520",
    EXIT_TOOL_MISSING,
    "device library not found",
    "The library that talks to the device (a LiteRT delegate) is missing or cannot be loaded. The message names the "
    "library and the package that brings it.",
)
_define(
    "EDG521",
    EXIT_TOOL_MISSING,
    "no device",
    "The library that talks to the device is there, but no device answers: none is plugged in, another program holds "
    "it, or this user may not open it. `edgec doctor` lists what was found.",
)

_define(
    "EDG522",
    EXIT_TOOL_MISSING,
    "execution provider or accelerator not available",
    "The installed ONNX Runtime was built without the execution provider that was asked for, or LiteRT without the "
    "accelerator, or its libraries or its device are missing on this machine. Nothing falls back to the CPU unasked. "
    "Install the package that brings it, or leave the option out.",
)
_define(
    "EDG523",
    EXIT_UNSUPPORTED,
    "part of the model stays on the CPU",
    "With --require-delegate every operator must run on the delegate, the accelerator or the execution provider that "
    "was asked for. The message names operators that it did not take; `details.left` of the JSON document lists all.",
)

# EDG6xx: passes and the canonical form
_define(
    "EDG601",
    EXIT_INTERNAL,
    "IR check failed",
    "A pass left the graph in a state that breaks the canonical form. This is a defect of edgec; please report it "
    "with the output of --debug.",
)

# EDG70x: devices and measurements
_define(
    "EDG701",
    EXIT_USAGE,
    "device in use",
    "Another edgec process holds the lease of the device, so a measurement now would be wrong. The message says which "
    "process. Without --no-wait edgec waits for it, says so, and does not count the wait.",
)
_define(
    "EDG702",
    EXIT_UNSTABLE,
    "measurement unstable",
    "The machine changed while it measured, or the samples scatter too much for a number: the reasons are in the "
    "message. Stop other work on the machine, fix the clock governor, or give more time with --budget, and repeat.",
)

_define(
    "EDG703",
    EXIT_UNSUPPORTED,
    "batch is fixed in the artifact",
    "The artifact was converted for another batch size, and its runtime cannot change it. Convert the model again with "
    "--batch, or let `edgec tune`, which converts once per batch size, vary it.",
)

# EDG7xx: memory, batching and pipelines while models run
_define(
    "EDG710",
    EXIT_FAILED,
    "memory pool exhausted",
    "An array was asked of a memory pool whose limit does not leave room for it, or the system had no more memory to "
    "give. From Python the error is a MemoryError too. The message says how much is in use and how large the largest "
    "free piece is; `pool.leaks()` lists who has the rest. Give arrays back, or raise the limit.",
)
_define(
    "EDG711",
    EXIT_USAGE,
    "memory pool misused",
    "An array was given back that the pool did not hand out, that is a view of one, or that was given back before; or "
    "an array was asked of a closed pool.",
)
_define(
    "EDG712",
    EXIT_USAGE,
    "memory option out of range",
    "A limit, an alignment, a chunk size, an extend strategy, a shape or a dtype is none that a memory pool takes. The "
    "message names it.",
)

_define(
    "EDG720",
    EXIT_USAGE,
    "sample or batch option does not fit",
    "A sample has another name, dtype or shape than the model's inputs, counted without the batch dimension, or an "
    "option of the batcher contradicts the model or another option. Nothing is cast, broadcast or cut.",
)
_define(
    "EDG721",
    EXIT_FAILED,
    "queue full",
    "More samples arrive than the session can run: the queue of a batcher or a pipeline has reached its limit, and "
    "waiting was not asked for or took too long. Send fewer, allow a larger queue, or make the session faster.",
)
_define(
    "EDG722",
    EXIT_USAGE,
    "batcher or pipeline closed",
    "A sample came after close(), or in a child process made by fork, where the threads do not exist. A sample that "
    "still ran when the time of close() was over ends with this code too.",
)
_define(
    "EDG724",
    EXIT_UNSUPPORTED,
    "model cannot be batched",
    "An input or an output of the model has no batch dimension as its first one, or the inputs disagree about it. "
    "Inputs that are the same for every sample can be given once, as `shared`; otherwise run the model sample by "
    "sample.",
)

# EDG8xx: tuning
_define(
    "EDG810",
    EXIT_USAGE,
    "no such study",
    "The folder holds no study. `edgec tune MODEL --target NAME -o FOLDER` makes one; the same command on the "
    "same folder goes on with it.",
)
_define(
    "EDG811",
    EXIT_USAGE,
    "another study in the folder",
    "The folder holds a study of another model, target, goal, seed, knob, machine or version of a runtime: "
    "their measurements do not compare. Only --trials, --budget and --storage may differ when a study goes "
    "on.",
)
_define(
    "EDG812",
    EXIT_USAGE,
    "unknown knob or value",
    "A --knob names something that the target cannot vary, or a value that it does not have. The message lists them.",
)
_define(
    "EDG813",
    EXIT_FAILED,
    "no configuration keeps the limits",
    "The study is finished, and none of the configurations that were measured keeps --max-latency, --max-memory "
    " and --max-drop. `edgec tune report STUDY --json` holds the values of every trial.",
)
_define(
    "EDG814",
    EXIT_USAGE,
    "storage of the study unusable",
    "The Optuna storage after --storage cannot be opened or written, or holds another study of the same name. "
    "The journal in the study's folder holds everything; the storage is filled from it when the study goes "
    "on.",
)
_define(
    "EDG815",
    EXIT_USAGE,
    "study not finished",
    "There is no confirmed winner yet: the study was interrupted. The same command on the same folder goes on with it.",
)
_define(
    "EDG816",
    EXIT_USAGE,
    "damaged journal",
    "A line of the study's journal.jsonl is not what edgec wrote. A last line that was cut short by a crash "
    "is removed by itself; this is something else.",
)
_define(
    "EDG817",
    EXIT_TOOL_FAILED,
    "default configuration cannot be measured",
    "Everything is compared with the default configuration, and it crashed, hung, or ran out of memory.",
)

_define(
    "EDG725",
    EXIT_FAILED,
    "no batch size fits the latency",
    "Even the smallest batch takes longer than the latency that was asked for. Allow more time, or make the model "
    "faster: fewer bits, more threads, another device.",
)
_define(
    "EDG730",
    EXIT_FAILED,
    "stage of a pipeline failed",
    "A stage raised an error for an item. The message names the stage and the error, which is the cause of this one in "
    'Python. Other items are not concerned unless the pipeline was made with on_error="stop".',
)
_define(
    "EDG731",
    EXIT_FAILED,
    "pipeline stopped",
    "The pipeline was made to stop at the first failure, and an item before this one failed; the message says how.",
)
_define(
    "EDG733",
    EXIT_USAGE,
    "pipeline misconfigured",
    "A pipeline needs at least one stage, names that differ, counts of at least 1, and devices that its stages name. "
    "The message says what is wrong.",
)

# EDG9xx: internal
_define(
    "EDG900",
    EXIT_INTERNAL,
    "internal error",
    "An unexpected exception: a defect of edgec. Run again with --debug for the traceback and report it.",
)


@dataclass
class EdgecError(Exception):
    """An error that a user can act on.

    ``code`` is a key of :data:`CODES` (or of a target's rules); ``message`` says what; ``where`` names the node or
    file; ``why`` gives the reason; ``help`` says what to do next.
    """

    code: str
    message: str
    where: str | None = None
    why: str | None = None
    help: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    exit: int | None = None

    def __post_init__(self) -> None:
        super().__init__(self.message)

    @property
    def exit_code(self) -> int:
        if self.exit is not None:
            return self.exit
        known = CODES.get(self.code)
        return known.exit if known else EXIT_INTERNAL

    def __str__(self) -> str:
        lines = [f"{self.code}  {self.message}"]
        for text in (self.where, self.why):
            if text:
                lines.append(f"        {text}")
        if self.help:
            lines.append(f"        Try: {self.help}")
        lines.append(f"        More: edgec explain {self.code}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The error as the ``error`` member of every JSON document."""
        return {
            "code": self.code,
            "exit": self.exit_code,
            "message": self.message,
            "where": self.where,
            "why": self.why,
            "help": self.help,
            "details": self.details,
        }


class ModelError(EdgecError):
    """The model is invalid or hostile (exit 3)."""


class UsageError(EdgecError):
    """The caller asked for something that makes no sense (exit 2)."""


class UnsupportedError(EdgecError):
    """The importer or the target cannot hold the model (exit 4)."""


class VerificationError(EdgecError):
    """The artifact is not what was asked for (exit 1)."""
