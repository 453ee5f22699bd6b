"""One process per run folder, with locks that the kernel releases even after ``kill -9``."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from equipoise.errors import StorageError

fcntl: types.ModuleType | None
try:
    import fcntl
except ImportError:  # a platform without POSIX locks
    fcntl = None

_MOUNTS = Path("/proc/self/mountinfo")  # where Linux tells which file system a folder lies on
_REMOTE = ("nfs", "lustre", "ceph", "cifs", "smb", "gpfs", "beegfs", "afs", "fuse", "9p", "virtiofs")
_TRIES, _PAUSE = 5, 0.01

__all__ = ["FRESH", "Holder", "hold", "holder"]

FRESH = 120.0  # seconds since a folder's last change within which a process on another host may still be at it


@dataclass(frozen=True)
class Holder:
    """Who took a folder and has not given it back: ``alive`` is False for a process that is gone, as after a kill."""

    pid: str
    host: str
    alive: bool

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for this process until the block ends.

    Raises ``StorageError`` at once, naming the holder, when another process has it.
    """
    path = folder / ".lock"
    release = _kernel_lock(path) if fcntl is not None else _owned_file(path)
    try:
        yield
    finally:
        release.close()


def holder(folder: Path) -> Holder | None:
    """Who took ``folder`` and has not given it back, None where nobody has; asking keeps nobody out.

    The kernel's lock says whether its process is alive, whatever pid and host are named. Only on a remote file system,
    whose locks may end at each host, does another host's process count as alive without one, and that for ``FRESH``
    seconds after the last change in the folder.
    """
    path = folder / ".lock"
    pid, _, host = _read_owner(path).partition(" ")
    if not pid.isdigit():
        return None
    if fcntl is None:
        return Holder(pid, host, _alive(path))
    elsewhere = host != socket.gethostname() and _remote(folder) and _fresh(folder)
    return Holder(pid, host, elsewhere or _locked(path))


def _locked(path: Path) -> bool:
    """Whether a process has the kernel's lock on ``path``."""
    assert fcntl is not None
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EWOULDBLOCK, errno.EACCES)
    return False


def _remote(folder: Path) -> bool:
    """Whether ``folder`` lies on a file system that other hosts may have, too."""
    with contextlib.suppress(OSError):
        device = os.stat(folder).st_dev
        wanted = f"{os.major(device)}:{os.minor(device)}"
        for line in _MOUNTS.read_text().splitlines():
            mount, _, kind = line.partition(" - ")
            if mount.split()[2] == wanted:
                return kind.startswith(_REMOTE)
    return False


def _fresh(folder: Path) -> bool:
    """Whether any file of ``folder`` was written a short while ago: its metrics, its checkpoint, its lock."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return any(abs(time.time() - entry.stat().st_mtime) < FRESH for entry in entries)
    return False


def _kernel_lock(path: Path) -> contextlib.ExitStack:
    """``flock`` on a file that stays: removing it could hand two processes two different files."""
    assert fcntl is not None
    stack = contextlib.ExitStack()
    try:
        file = stack.enter_context(path.open("a+b"))
        for left in range(_TRIES - 1, -1, -1):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:  # perhaps somebody who only looks
                if not left:
                    raise
                time.sleep(_PAUSE)
        file.truncate(0)
        file.write(_owner().encode())
        file.flush()
        stack.callback(_clear, file)
    except OSError as error:
        stack.close()
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES) and path.exists():
            raise _taken(path) from None
        raise StorageError(f"cannot lock '{path}': {error.strerror}") from None
    return stack


def _clear(file: BinaryIO) -> None:
    """Take the name out of a lock that is given back; one that still names somebody was left by a kill."""
    with contextlib.suppress(OSError):
        file.truncate(0)


def _owned_file(path: Path) -> contextlib.ExitStack:
    """A file that only its creator may remove; one left behind by a process that is gone is taken over."""
    try:
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            if _alive(path):
                raise _taken(path) from None
            path.unlink()
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        with os.fdopen(handle, "wb") as file:
            file.write(_owner().encode())
    except FileExistsError:
        raise _taken(path) from None
    except OSError as error:
        raise StorageError(f"cannot lock '{path}': {error.strerror}") from None
    stack = contextlib.ExitStack()
    stack.callback(path.unlink, missing_ok=True)
    return stack


def _owner() -> str:
    return f"{os.getpid()} {socket.gethostname()}"


def _read_owner(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace").strip()
    return ""


def _alive(path: Path) -> bool:
    """Whether the process that ``path`` names may still run, where no kernel says so; on another host: for a while."""
    pid, _, host = _read_owner(path).partition(" ")
    if not pid.isdigit():
        return False
    if host != socket.gethostname():
        return _fresh(path.parent)
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _taken(path: Path) -> StorageError:
    pid, _, host = _read_owner(path).partition(" ")
    who = f"process {pid} on {host}" if pid else "another process"
    return StorageError(f"'{path.parent}' is in use: {who} is training this run; wait for it or stop it")
