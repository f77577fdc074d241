"""Lengths and steps of transforms of signals."""

from __future__ import annotations

from edgec.converter.verification.parameters.call import Call, Draw, fixed, handles


@handles("HannWindow", "HammingWindow", "BlackmanWindow")
def _window(call: Call) -> Draw | None:
    return fixed({0: call.result[0] if call.result is not None else 8})


@handles("DFT")
def _dft(call: Call) -> Draw | None:
    data, out = call.dims(0), call.result
    if data is None:
        return None
    changed = [axis for axis in range(1, len(data) - 1) if out is not None and out[axis] != data[axis]]
    axis = (call.constant(2) or changed or [len(data) - 2])[0]
    return fixed({1: data[axis], 2: axis})


@handles("STFT")
def _stft(call: Call) -> Draw | None:
    signal, out, window = call.dims(0), call.result, call.dims(2)
    if signal is None or out is None:
        return None
    frames, bins = out[1], out[2]
    lengths = [window[0]] if window else [2 * (bins - 1), bins]
    for length in lengths:
        for step in range(1, signal[1] + 1):
            if (signal[1] - length) // step + 1 == frames:
                return fixed({1: step, 3: length})
    return None


@handles("MelWeightMatrix")
def _mel(call: Call) -> Draw | None:
    bins, mels = call.result if call.result is not None else (9, 4)
    return fixed({0: mels, 1: 2 * (bins - 1), 2: 8192, 3: 0.0, 4: 4096.0})
