"""The target ``ethosu``: Arm's Ethos-U NPUs."""

from edgec.targets.ethosu.target import TARGET, EthosU

__all__ = ["TARGET", "EthosU"]
