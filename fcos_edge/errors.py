"""The errors that a user can cause, and what the command line makes of them.

    FcosEdgeError             exit code 2: the user's mistake, one line
      SpecError               a model spec that is wrong, or does not fit its network
      ArtifactError           a model file or bundle that cannot be used
      RuntimeUnavailableError a runtime that is not installed, or refuses a device
      ImageError              a picture that cannot be read, or has the wrong shape or dtype
      DataError               a data set that cannot be used
      CheckpointError         a checkpoint that cannot be used
      TrainingError           a training run that cannot go on
      UsageError              arguments that contradict each other, outputs in the way
      GateError               exit code 1: a check was run and failed

A message says what was found, what was wanted and what to do, on one line.
Our own mistakes are ordinary exceptions and keep their traceback.
"""

from typing import ClassVar


class FcosEdgeError(Exception):
    """A mistake that the user can mend; `str(error)` is one line."""

    exit_code: ClassVar[int] = 2


class SpecError(FcosEdgeError):
    """A model spec is wrong, or does not fit the network that it describes."""


class ArtifactError(FcosEdgeError):
    """A model file or bundle cannot be used: cut short, of another format, without spec."""


class RuntimeUnavailableError(FcosEdgeError):
    """A runtime is not installed, or cannot use the device that was asked for."""


class ImageError(FcosEdgeError):
    """A picture cannot be read, or an array is no picture."""


class DataError(FcosEdgeError):
    """A data set cannot be used."""


class CheckpointError(FcosEdgeError):
    """A checkpoint cannot be used."""


class TrainingError(FcosEdgeError):
    """A training run cannot go on: its loss is no number, or a process that reads pictures is gone."""


class UsageError(FcosEdgeError):
    """Arguments contradict each other, or an output is in the way."""


class GateError(FcosEdgeError):
    """A check was run and failed: the artifact is not what it should be."""

    exit_code: ClassVar[int] = 1
