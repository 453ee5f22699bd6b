"""One process per run folder, with locks that the kernel releases even after ``kill -9``."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
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

_LOCKS = Path("/proc/locks")  # where Linux lists who holds what, by inode

__all__ = ["Holder", "hold", "holder"]


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
    """Who holds ``folder``, None where nobody does; asking takes nothing and disturbs nobody.

    A process on another host cannot be asked, so it counts as alive.
    """
    path = folder / ".lock"
    pid, _, host = _read_owner(path).partition(" ")
    if not pid.isdigit():
        return None
    alive = _alive(f"{pid} {host}")
    if alive and host == socket.gethostname() and _LOCKS.exists():  # its number may be another process's by now
        with contextlib.suppress(OSError):
            inode = f":{path.stat().st_ino}"
            alive = any(words.endswith(inode) for line in _LOCKS.read_text().splitlines() for words in line.split())
    return Holder(pid, host, alive)


def _kernel_lock(path: Path) -> contextlib.ExitStack:
    """``flock`` on a file that stays: removing it could hand two processes two different files."""
    assert fcntl is not None
    stack = contextlib.ExitStack()
    try:
        file = stack.enter_context(path.open("a+b"))
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
            if _alive(_read_owner(path)):
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


def _alive(owner: str) -> bool:
    """Whether ``owner`` may still run; a process on another host cannot be asked, so it counts as alive."""
    pid, _, host = owner.partition(" ")
    if not pid.isdigit():
        return False
    if host != socket.gethostname():
        return True
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
