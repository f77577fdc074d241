"""Which node of a converted model first differs from the source: the parts of :mod:`edgec.converter.bisect`."""
