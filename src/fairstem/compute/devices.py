"""Where networks run: the processor or an accelerator, and why.

torch is imported only when a device is asked about; without it everything runs on the processor.
"""

from __future__ import annotations

import importlib
import logging
import re
from dataclasses import dataclass
from types import ModuleType

from fairstem.compute.memory import available_bytes, format_bytes
from fairstem.errors import DataError, MissingDependencyError

__all__ = ["Device", "choose"]

log = logging.getLogger(__name__)

_NAME = re.compile(r"auto|cpu|mps|cuda(:[0-9]+)?")


@dataclass(frozen=True)
class Device:
    """A device to compute on.

    Parameters
    ----------
    name
        The name torch knows it by: ``"cpu"``, ``"cuda:0"``, ``"mps"``.
    kind
        ``"cpu"``, ``"cuda"`` or ``"mps"``.
    memory_bytes
        Memory of the device in bytes, None when unknown.
    why
        Why this device was taken, in one clause.
    """

    name: str
    kind: str
    memory_bytes: int | None
    why: str

    def __str__(self) -> str:
        size = "" if self.memory_bytes is None else f", {format_bytes(self.memory_bytes)}"
        return f"{self.name}{size} ({self.why})"


def _torch() -> ModuleType | None:
    try:
        return importlib.import_module("torch")
    except ImportError:
        return None


def _cpu(why: str) -> Device:
    return Device("cpu", "cpu", available_bytes(), why)


def _cuda(torch: ModuleType, name: str, why: str) -> Device:
    count = int(torch.cuda.device_count())
    index = int(name.partition(":")[2] or 0)
    if index >= count:
        raise DataError(
            f"device {name!r}, where {count} CUDA device(s) are present",
            needed=f"an index below {count}",
            todo="choose 'auto'",
        )
    memory = int(torch.cuda.get_device_properties(index).total_memory)
    return Device(f"cuda:{index}", "cuda", memory, why)


def _mps(torch: ModuleType) -> bool:
    backend = getattr(torch.backends, "mps", None)
    return backend is not None and bool(backend.is_available())


def choose(device: str = "auto") -> Device:
    """Choose the device to compute on.

    Parameters
    ----------
    device
        ``"auto"`` takes the first CUDA device, else MPS (Apple), else the processor. A device
        that is named is either taken or refused, never replaced.

    Returns
    -------
    Device
        With the reason for the choice.

    Raises
    ------
    DataError
        If the name is unknown, or the named accelerator is not there.
    MissingDependencyError
        If an accelerator is named and torch isn't installed.

    Examples
    --------
    >>> choose("cpu").name
    'cpu'
    """
    if not isinstance(device, str) or _NAME.fullmatch(device) is None:
        raise DataError(f"device {device!r}", needed="'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'")
    if device == "cpu":
        return _cpu("asked for")
    torch = _torch()
    if torch is None:
        if device == "auto":
            return _cpu("torch is not installed")
        raise MissingDependencyError(
            f"device {device!r} without torch",
            needed="torch",
            todo="pip install 'fairstem[train]', or choose 'cpu'",
        )
    if device == "auto":
        return _best(torch)
    if device == "mps":
        if not _mps(torch):
            raise DataError(
                "device 'mps'", needed="a Mac with Apple silicon and torch with MPS", todo="choose 'auto'"
            )
        return Device("mps", "mps", available_bytes(), "asked for")
    if not torch.cuda.is_available():
        raise DataError(
            f"device {device!r}",
            needed="a CUDA device, its driver and torch built with CUDA",
            todo="choose 'auto'",
        )
    return _cuda(torch, device, "asked for")


def _best(torch: ModuleType) -> Device:
    if torch.cuda.is_available():
        chosen = _cuda(torch, "cuda:0", "the first CUDA device")
    elif _mps(torch):
        chosen = Device("mps", "mps", available_bytes(), "Apple's accelerator")
    else:
        chosen = _cpu("no accelerator found")
    log.debug("device: %s", chosen)
    return chosen
