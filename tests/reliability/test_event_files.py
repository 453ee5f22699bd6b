"""Event cameras' own files: both formats, the splits, the cache, and one line for what is missing or damaged.

The files are written here byte by byte, as the formats' makers describe them. A failure would hide swapped axes or
signs, samples in the wrong split, labels that reach into the next gesture, and a run that dies of a cut file.
"""

from __future__ import annotations

import struct
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

import formats
from equipoise import data
from equipoise.data import aedat, events
from equipoise.data.labels import CIFAR10, GESTURES
from equipoise.errors import InputError, StorageError

GESTURE_FRAMES = "dvs-gesture,frames=2,size=128"
CIFAR_FRAMES = "cifar10-dvs,frames=2,size=128"


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    events._framed.cache_clear()


def counted(listed: list[formats.Event], steps: int) -> torch.Tensor:
    """Frames of equal counts, event by event."""
    frames = torch.zeros(steps, 2, 128, 128)
    for place, (x, y, _, on) in enumerate(listed):
        frames[place * steps // len(listed), 0 if on else 1, y, x] += 1
    return frames


def same(found, listed: list[formats.Event]) -> None:
    assert found.x.tolist() == [x for x, _, _, _ in listed]
    assert found.y.tolist() == [y for _, y, _, _ in listed]
    assert found.t.tolist() == [t for _, _, t, _ in listed]
    assert found.on.tolist() == [on for _, _, _, on in listed]


def test_aedat_3_1_is_read_packet_by_packet(tmp_path: Path) -> None:
    listed = [*formats.recording(20, seed=1), (127, 0, 2**31 + 5, True), (0, 127, 2**31 + 9, False)]
    path = tmp_path / "one.aedat"
    path.write_bytes(formats.aedat3(listed, packet=20, invalid=(3, 21)))
    same(aedat.read_3_1(path), [one for place, one in enumerate(listed) if place not in (3, 21)])


def test_aedat_2_0_is_read_upright(tmp_path: Path) -> None:
    listed = [(0, 127, 3, True), (127, 0, 4, False), (5, 70, 4, True), *formats.recording(20, start=10)]
    path = tmp_path / "one.aedat"
    path.write_bytes(formats.aedat2(listed, outside=True))
    same(aedat.read_2_0(path), listed)


def test_gestures_are_split_by_user_and_cut_by_their_tables(tmp_path: Path) -> None:
    made = formats.gestures(tmp_path / "dvs-gesture")
    found = data.load(GESTURE_FRAMES, folder=tmp_path)
    assert (found.shape, found.classes, found.handed) == ((2, 2, 128, 128), GESTURES, True)
    for split, users in ((found.train, (1, 23)), (found.test, (24, 29))):
        assert split.labels.tolist() == [0, 1, 0, 1]
        halves = [[e for e in made[u] if 1000 * g <= e[2] < 1000 * (g + 1)] for u in users for g in (0, 1)]
        images, _ = split.batch(torch.arange(4))
        assert torch.equal(images, torch.stack([counted(half, 2) for half in halves]))
    by_time = data.load("dvs-gesture,frames=4,by=time,size=32", folder=tmp_path)
    assert by_time.shape == (4, 2, 32, 32)
    assert by_time.train.images.dtype == torch.float16
    assert "4 frames of equal time, 32 x 32" in by_time.note


def test_a_range_that_reaches_into_the_next_ends_where_that_starts(tmp_path: Path) -> None:
    """As in the published table of user 22 in LED light, whose ninth gesture ends behind the start of the tenth."""
    folder = tmp_path / "dvs-gesture"
    made = formats.gestures(folder, users=(1, 24))
    table = folder / "user01_led_labels.csv"
    table.write_text("class,startTime_usec,endTime_usec\n9,0,1900\n10,1000,2000\n")
    images, labels = data.load(GESTURE_FRAMES, folder=tmp_path).train.batch(torch.arange(2))
    assert labels.tolist() == [8, 9]
    assert torch.equal(images[0], counted([event for event in made[1] if event[2] < 1000], 2))


def test_cifar10_dvs_holds_the_last_tenth_of_each_class_by_number(tmp_path: Path) -> None:
    """Twelve recordings: number 11, not "9", which text would sort last, is for testing."""
    formats.cifar10_dvs(tmp_path / "cifar10-dvs", CIFAR10[:9], count=2)
    made = formats.cifar10_dvs(tmp_path / "cifar10-dvs", CIFAR10[9:], count=12)
    found = data.load(CIFAR_FRAMES, folder=tmp_path)
    assert (found.classes, found.handed) == (CIFAR10, False)
    assert found.train.labels.tolist() == [*range(9), *[9] * 11]
    assert found.test.labels.tolist() == [*range(10)]
    images, _ = found.test.batch(torch.tensor([9]))
    assert torch.equal(images[0], counted(made["truck", 11], 2))
    assert torch.equal(found.train.batch(torch.tensor([19]))[0][0], counted(made["truck", 10], 2))


def test_frames_are_kept_until_a_recording_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    formats.gestures(tmp_path / "dvs-gesture")
    first = data.load(GESTURE_FRAMES, folder=tmp_path)
    reads = []
    read = aedat.read_3_1
    monkeypatch.setattr(aedat, "read_3_1", lambda path: reads.append(path) or read(path))
    assert data.load(GESTURE_FRAMES, folder=tmp_path).train.images is first.train.images
    events._framed.cache_clear()
    assert torch.equal(data.load(GESTURE_FRAMES, folder=tmp_path).train.images, first.train.images)
    assert not reads
    data.load("dvs-gesture,frames=3,size=128", folder=tmp_path)
    assert len(reads) == 4
    table = tmp_path / "dvs-gesture" / "user01_led_labels.csv"
    table.write_text("class,startTime_usec,endTime_usec\n3,0,1000\n")
    assert data.load(GESTURE_FRAMES, folder=tmp_path).train.labels.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: b"#!AER-DAT2.0" + raw[12:], "begins with '#!AER-DAT2.0', not with '#!AER-DAT3.1'"),
        (lambda raw: raw.replace(b"#!END-HEADER", b"#!end-header"), "has no line #!END-HEADER"),
        (lambda raw: raw[:-4], "promises 3 events of 8 bytes; 20 bytes are left"),
        (lambda raw: raw + b"\x01\0", "ends inside the header of a packet"),
        (lambda raw: raw + struct.pack("<hhiiiiii", 1, 1, 16, 4, 0, 0, 0, 0), "polarity events have 16 bytes"),
        (lambda raw: b"", "it is empty"),
    ],
)
def test_a_damaged_gesture_file_is_named(tmp_path: Path, damage, message: str) -> None:
    formats.gestures(tmp_path / "dvs-gesture")
    path = tmp_path / "dvs-gesture" / "user23_led.aedat"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(StorageError, match=message) as caught:
        data.load(GESTURE_FRAMES, folder=tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("class,startTime_usec,endTime_usec\n1,0,1000,7\n", "line 2 is no class, start and end: '1,0,1000,7'"),
        ("class,startTime_usec,endTime_usec\n1,0,1000\n12,1000,2000\n", "line 3 has the class 12"),
        ("class,startTime_usec,endTime_usec\n1,1000,1000\n", "from 1000 to 1000"),
        ("class,startTime_usec,endTime_usec\n", "names no gesture"),
        ("class,startTime_usec,endTime_usec\n1,5000,6000\n", "a sample has no events"),
    ],
)
def test_a_damaged_table_of_gestures_is_named(tmp_path: Path, table: str, message: str) -> None:
    formats.gestures(tmp_path / "dvs-gesture")
    (tmp_path / "dvs-gesture" / "user01_led_labels.csv").write_text(table)
    with pytest.raises(StorageError, match=message) as caught:
        data.load(GESTURE_FRAMES, folder=tmp_path)
    assert "user01_led" in str(caught.value)


def test_a_gesture_without_a_table_is_named(tmp_path: Path) -> None:
    formats.gestures(tmp_path / "dvs-gesture")
    (tmp_path / "dvs-gesture" / "user24_led_labels.csv").unlink()
    with pytest.raises(StorageError, match=r"cannot read .*user24_led_labels\.csv"):
        data.load(GESTURE_FRAMES, folder=tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: raw[:-3], "are no whole number of events of 8 bytes"),
        (lambda raw: raw.replace(b"2.0", b"3.1", 1), "begins with '#!AER-DAT3.1', not with '#!AER-DAT2.0'"),
        (lambda raw: raw[:30], "ends inside its header"),
        (lambda raw: raw[: raw.rfind(b"DVS128\r\n") + 8], "a sample has no events"),
    ],
)
def test_a_damaged_recording_of_cifar10_dvs_is_named(tmp_path: Path, damage, message: str) -> None:
    formats.cifar10_dvs(tmp_path / "cifar10-dvs", CIFAR10, count=2)
    path = tmp_path / "cifar10-dvs" / "cat" / "cifar10_cat_1.aedat"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(StorageError, match=message) as caught:
        data.load(CIFAR_FRAMES, folder=tmp_path)
    assert str(path) in str(caught.value)


def test_a_missing_set_names_the_folder_that_it_is_expected_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, sign in (("dvs-gesture", "user01_fluorescent"), ("cifar10-dvs", "airplane/cifar10_airplane_0")):
        with pytest.raises(InputError, match=rf"{name} is not in {tmp_path}/{name}.*{sign}\.aedat.*; get it from"):
            data.load(name, folder=tmp_path)
        with pytest.raises(InputError, match=f"{name} cannot be fetched: see `equipoise list`"):
            data.fetch(name, tmp_path)
    with pytest.raises(InputError, match="moving-digits cannot be fetched: it is made from mnist"):
        data.fetch("moving-digits", tmp_path)
    monkeypatch.delenv("EQUIPOISE_DATA", raising=False)
    with pytest.raises(InputError, match="dvs-gesture needs a data folder"):
        data.load("dvs-gesture")
    with pytest.raises(InputError, match="cifar10-dvs needs a data folder"):
        data.load("cifar10-dvs")
    formats.gestures(tmp_path / "dvs-gesture", users=(1, 2))
    with pytest.raises(InputError, match="24 to 29 for testing"):
        data.load("dvs-gesture", folder=tmp_path)
    formats.cifar10_dvs(tmp_path / "cifar10-dvs", CIFAR10[:3])
    with pytest.raises(InputError, match=r"in .*cat are fewer than two recordings"):
        data.load("cifar10-dvs", folder=tmp_path)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("frames=0", "needs frames >= 1 and size from 1 to 128"),
        ("size=129", "needs frames >= 1 and size from 1 to 128"),
        ("by=number", "unknown way to make frames of events, 'number'"),
        ("reader=ours", "unknown reader of events, 'ours'"),
    ],
)
def test_options_that_mean_nothing_are_refused(tmp_path: Path, option: str, message: str) -> None:
    for name in ("dvs-gesture", "cifar10-dvs"):
        with pytest.raises(InputError, match=message):
            data.load(f"{name},{option}", folder=tmp_path)


KIND = np.dtype([("x", np.int16), ("y", np.int16), ("p", bool), ("t", np.int64)])


@pytest.fixture
def _tonic(monkeypatch: pytest.MonkeyPatch) -> None:
    """What we use of tonic 1.7: two classes with ``data`` (paths), ``targets`` and samples as structured arrays."""

    class Recordings:
        def __init__(self, save_to: str, *, train: bool | None = None) -> None:
            part = {None: "", True: "ibmGestureTrain", False: "ibmGestureTest"}[train]
            assert any(Path(save_to, type(self).__name__).glob("*.*")), "it would download the archive"
            root = Path(save_to) / type(self).__name__ / part
            self.data = sorted(map(str, root.glob("*/*.npy")), reverse=True)
            self.targets = [int(Path(path).stem.rpartition("_")[2]) % 11 for path in self.data]

        def __getitem__(self, place: int):
            return np.load(self.data[place]), self.targets[place]

    module = types.ModuleType("tonic")
    sets = {name: type(name, (Recordings,), {}) for name in ("DVSGesture", "CIFAR10DVS")}
    module.datasets = types.SimpleNamespace(**sets)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tonic", module)


def archives(folder: Path) -> None:
    """The files that tonic looks for before it downloads them."""
    for name in ("DVSGesture/ibmGestureTrain.tar.gz", "DVSGesture/ibmGestureTest.tar.gz", "CIFAR10DVS/CIFAR10DVS.zip"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"archive")


def kept(path: Path, seed: int) -> list[formats.Event]:
    """A recording as an array of tonic's."""
    listed = formats.recording(30, seed=seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.array([(x, y, on, t) for x, y, t, on in listed], KIND))
    return listed


@pytest.mark.usefixtures("_tonic")
def test_sets_that_tonic_keeps_have_the_same_frames_and_splits(tmp_path: Path) -> None:
    archives(tmp_path)
    train = [kept(tmp_path / "DVSGesture" / "ibmGestureTrain" / "user01_led" / f"{n}.npy", n) for n in (0, 7)]
    test = kept(tmp_path / "DVSGesture" / "ibmGestureTest" / "user24_led" / "3.npy", 3)
    found = data.load(f"{GESTURE_FRAMES},reader=tonic", folder=tmp_path)
    assert found.train.labels.tolist() == [0, 7]
    assert torch.equal(found.train.batch(torch.arange(2))[0], torch.stack([counted(one, 2) for one in train]))
    assert torch.equal(found.test.batch(torch.arange(1))[0][0], counted(test, 2))
    last = {}
    for place, name in enumerate(CIFAR10):
        for number in (2, 10):
            last[name] = kept(tmp_path / "CIFAR10DVS" / name / f"cifar10_{name}_{number}.npy", 20 * place + number)
    found = data.load(f"{CIFAR_FRAMES},reader=tonic", folder=tmp_path)
    assert found.train.labels.tolist() == found.test.labels.tolist() == [*range(10)]
    assert torch.equal(found.test.batch(torch.arange(10))[0], torch.stack([counted(last[n], 2) for n in CIFAR10]))


def test_without_tonic_or_its_files_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tonic", None)
    for name, folder, archive, unpacked in (
        ("dvs-gesture", "DVSGesture", "ibmGestureTrain.tar.gz", "ibmGestureTrain"),
        ("cifar10-dvs", "CIFAR10DVS", "CIFAR10DVS.zip", "airplane"),
    ):
        for lacking in (archive, unpacked):
            with pytest.raises(InputError, match=rf"tonic's {tmp_path}/{folder}/{lacking} is not there"):
                data.load(f"{name},reader=tonic", folder=tmp_path)
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / archive).touch()
    (tmp_path / "CIFAR10DVS" / "airplane").mkdir()
    with pytest.raises(InputError, match=r"needs the package 'tonic': pip install 'equipoise\[events\]'"):
        data.load("cifar10-dvs,reader=tonic", folder=tmp_path)
    broken = types.ModuleType("tonic")
    broken.datasets = types.SimpleNamespace(CIFAR10DVS=lambda save_to: 1 / 0)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tonic", broken)
    with pytest.raises(StorageError, match=rf"tonic cannot open {tmp_path}/CIFAR10DVS \(division by zero\)"):
        data.load("cifar10-dvs,reader=tonic", folder=tmp_path)
