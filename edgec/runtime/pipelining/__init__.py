"""Pipelines: preprocessing, inference and postprocessing at the same time, in order."""

from edgec.runtime.flow import Closed, QueueFull
from edgec.runtime.pipelining.pipeline import Pipeline
from edgec.runtime.pipelining.stage import PipelineStatistics, Stage, StageError, StageStatistics, Stopped

__all__ = [
    "Closed",
    "Pipeline",
    "PipelineStatistics",
    "QueueFull",
    "Stage",
    "StageError",
    "StageStatistics",
    "Stopped",
]
