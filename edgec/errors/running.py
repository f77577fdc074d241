"""Errors of tools, devices, measurements, running models and studies, and of edgec itself."""

from __future__ import annotations

from edgec.errors.code import (
    EXIT_FAILED,
    EXIT_INTERNAL,
    EXIT_TOOL_FAILED,
    EXIT_TOOL_MISSING,
    EXIT_UNSTABLE,
    EXIT_UNSUPPORTED,
    EXIT_USAGE,
    define,
)

# EDG5xx: tools that edgec runs in a process of their own
define(
    "EDG501",
    EXIT_TOOL_FAILED,
    "tool failed",
    "A tool that edgec drives ended with an error. The message quotes the last lines of its output, and "
    "`details.log` of the JSON document all that was kept of it.",
)
define(
    "EDG502",
    EXIT_TOOL_FAILED,
    "tool took too long",
    "A tool did not end within its time limit; it and everything that it had started were stopped. Raise the limit "
    "with --timeout where the command has it.",
)
define(
    "EDG503",
    EXIT_TOOL_FAILED,
    "tool was killed or ran out of memory",
    "A tool was ended by a signal or could not get the memory that it asked for. Close other programs, use a machine "
    "with more memory, or raise the limit with --memory-limit where the command has it.",
)
define(
    "EDG504",
    EXIT_TOOL_FAILED,
    "tool left no usable result",
    "A tool reported success, but the file that it should have written is missing, empty or not what it should be.",
)

define(
    "EDG510",
    EXIT_TOOL_MISSING,
    "vendor tool not found",
    "The target's artifact is made by a tool of the chip's vendor, which is not on this machine. The verified file "
    "that goes into the tool and the plan of its run were written; the message gives the exact command. Install the "
    "tool, put it on PATH or name it in the environment variable that the message says, and repeat.",
)
define(
    "EDG511",
    EXIT_TOOL_FAILED,
    "vendor tool refused the model",
    "The tool read the model and said why it will not compile it. The message quotes it.",
)
define(
    "EDG512",
    EXIT_TOOL_FAILED,
    "version of the vendor tool not supported",
    "The tool is older than what edgec drives, or does not tell its version. The message names both.",
)
define(
    "EDG520",
    EXIT_TOOL_MISSING,
    "device library not found",
    "The library that talks to the device (a LiteRT delegate) is missing or cannot be loaded. The message names the "
    "library and the package that brings it.",
)
define(
    "EDG521",
    EXIT_TOOL_MISSING,
    "no device",
    "The library that talks to the device is there, but no device answers: none is plugged in, another program holds "
    "it, or this user may not open it. `edgec doctor` lists what was found.",
)

define(
    "EDG522",
    EXIT_TOOL_MISSING,
    "execution provider or accelerator not available",
    "The installed ONNX Runtime was built without the execution provider that was asked for, or LiteRT without the "
    "accelerator, or its libraries or its device are missing on this machine. Nothing falls back to the CPU unasked. "
    "Install the package that brings it, or leave the option out.",
)
define(
    "EDG523",
    EXIT_UNSUPPORTED,
    "part of the model stays on the CPU",
    "With --require-delegate every operator must run on the delegate, the accelerator or the execution provider that "
    "was asked for. The message names operators that it did not take; `details.left` of the JSON document lists all.",
)

# EDG70x: devices and measurements
define(
    "EDG701",
    EXIT_USAGE,
    "device in use",
    "Another edgec process holds the lease of the device, so a measurement now would be wrong. The message says which "
    "process. Without --no-wait edgec waits for it, says so, and does not count the wait.",
)
define(
    "EDG702",
    EXIT_UNSTABLE,
    "measurement unstable",
    "The machine changed while it measured, or the samples scatter too much for a number: the reasons are in the "
    "message. Stop other work on the machine, fix the clock governor, or give more time with --budget, and repeat.",
)

define(
    "EDG703",
    EXIT_UNSUPPORTED,
    "batch is fixed in the artifact",
    "The artifact was converted for another batch size, and its runtime cannot change it. Convert the model again with "
    "--batch, or let `edgec tune`, which converts once per batch size, vary it.",
)

# EDG7xx: memory, batching and pipelines while models run
define(
    "EDG710",
    EXIT_FAILED,
    "memory pool exhausted",
    "An array was asked of a memory pool whose limit does not leave room for it, or the system had no more memory to "
    "give. From Python the error is a MemoryError too. The message says how much is in use and how large the largest "
    "free piece is; `pool.leaks()` lists who has the rest. Give arrays back, or raise the limit.",
)
define(
    "EDG711",
    EXIT_USAGE,
    "memory pool misused",
    "An array was given back that the pool did not hand out, that is a view of one, or that was given back before; or "
    "an array was asked of a closed pool.",
)
define(
    "EDG712",
    EXIT_USAGE,
    "memory option out of range",
    "A limit, an alignment, a chunk size, an extend strategy, a shape or a dtype is none that a memory pool takes. The "
    "message names it.",
)

define(
    "EDG720",
    EXIT_USAGE,
    "sample or batch option does not fit",
    "A sample has another name, dtype or shape than the model's inputs, counted without the batch dimension, or an "
    "option of the batcher contradicts the model or another option. Nothing is cast, broadcast or cut.",
)
define(
    "EDG721",
    EXIT_FAILED,
    "queue full",
    "More samples arrive than the session can run: the queue of a batcher or a pipeline has reached its limit, and "
    "waiting was not asked for or took too long. Send fewer, allow a larger queue, or make the session faster.",
)
define(
    "EDG722",
    EXIT_USAGE,
    "batcher or pipeline closed",
    "A sample came after close(), or in a child process made by fork, where the threads do not exist. A sample that "
    "still ran when the time of close() was over ends with this code too.",
)
define(
    "EDG724",
    EXIT_UNSUPPORTED,
    "model cannot be batched",
    "An input or an output of the model has no batch dimension as its first one, or the inputs disagree about it. "
    "Inputs that are the same for every sample can be given once, as `shared`; otherwise run the model sample by "
    "sample.",
)

# EDG8xx: tuning
define(
    "EDG810",
    EXIT_USAGE,
    "no such study",
    "The folder holds no study. `edgec tune MODEL --target NAME -o FOLDER` makes one; the same command on the "
    "same folder goes on with it.",
)
define(
    "EDG811",
    EXIT_USAGE,
    "another study in the folder",
    "The folder holds a study of another model, target, goal, seed, knob, machine or version of a runtime: "
    "their measurements do not compare. Only --trials, --budget and --storage may differ when a study goes "
    "on.",
)
define(
    "EDG812",
    EXIT_USAGE,
    "unknown knob or value",
    "A --knob names something that the target cannot vary, or a value that it does not have. The message lists them.",
)
define(
    "EDG813",
    EXIT_FAILED,
    "no configuration keeps the limits",
    "The study is finished, and none of the configurations that were measured keeps --max-latency, --max-memory, "
    "--max-device-memory and --max-drop. `edgec tune report STUDY --json` holds the values of every trial.",
)
define(
    "EDG814",
    EXIT_USAGE,
    "storage of the study unusable",
    "The Optuna storage after --storage cannot be opened or written, or holds another study of the same name. "
    "The journal in the study's folder holds everything; the storage is filled from it when the study goes "
    "on.",
)
define(
    "EDG815",
    EXIT_USAGE,
    "study not finished",
    "There is no confirmed winner yet: the study was interrupted. The same command on the same folder goes on with it.",
)
define(
    "EDG816",
    EXIT_USAGE,
    "damaged journal",
    "A line of the study's journal.jsonl is not what edgec wrote. A last line that was cut short by a crash "
    "is removed by itself; this is something else.",
)
define(
    "EDG817",
    EXIT_TOOL_FAILED,
    "default configuration cannot be measured",
    "Everything is compared with the default configuration, and it crashed, hung, or ran out of memory.",
)

define(
    "EDG725",
    EXIT_FAILED,
    "no batch size fits the latency",
    "Even the smallest batch takes longer than the latency that was asked for. Allow more time, or make the model "
    "faster: fewer bits, more threads, another device.",
)
define(
    "EDG730",
    EXIT_FAILED,
    "stage of a pipeline failed",
    "A stage raised an error for an item. The message names the stage and the error, which is the cause of this one in "
    'Python. Other items are not concerned unless the pipeline was made with on_error="stop".',
)
define(
    "EDG731",
    EXIT_FAILED,
    "pipeline stopped",
    "The pipeline was made to stop at the first failure, and an item before this one failed; the message says how.",
)
define(
    "EDG733",
    EXIT_USAGE,
    "pipeline misconfigured",
    "A pipeline needs at least one stage, names that differ, counts of at least 1, and devices that its stages name. "
    "The message says what is wrong.",
)

# EDG9xx: internal
define(
    "EDG900",
    EXIT_INTERNAL,
    "internal error",
    "An unexpected exception: a defect of edgec. Run again with --debug for the traceback and report it.",
)
