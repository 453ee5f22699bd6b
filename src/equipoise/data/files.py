"""What the readers of files share: the table they return and the one line they fail with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from equipoise.errors import InputError, StorageError

__all__ = ["Decoded", "damaged", "needs", "read_bytes", "reason"]


@dataclass(frozen=True, eq=False)
class Decoded:
    """What a reader found: uint8 images (N, C, H, W), int64 labels (N,), class names if the files hold them.

    Frames of events are (N, T, 2, H, W), of uint8 counts or float16 means.

    ``jpeg`` says whether any image was stored as JPEG, that is, with its pixels changed.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...] = ()
    jpeg: bool = False


def damaged(path: Path | str, what: str) -> StorageError:
    """The error for a file whose content is not what it should be."""
    return StorageError(f"{path} is damaged: {what}; replace the file")


def needs(what: str, package: str, extra: str) -> InputError:
    """The error for an optional package that is not installed."""
    return InputError(f"{what} needs the package '{package}': pip install 'equipoise[{extra}]'")


def reason(error: BaseException) -> str:
    """The message of another library's error on one line, at most 200 characters of it."""
    text = " ".join(str(error).split())
    return (text[:197] + "...") if len(text) > 200 else text or type(error).__name__


def read_bytes(path: Path) -> bytes:
    """The whole file; StorageError when it cannot be read or is empty."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or reason(error)}") from error
    if not content:
        raise damaged(path, "it is empty")
    return content
