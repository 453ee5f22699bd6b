"""A user's own data, and sets that are added from outside the package.

A failure here would hide NaN images, labels that fit no class, images with their channels last, or a broken
function of the user's that ends in a traceback instead of one line that says what to change.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from equipoise import data
from equipoise.errors import InputError, StorageError

MODULE = """
import numpy as np
import torch
from equipoise.data import Dataset, Split
from equipoise.errors import StorageError

def arrays():
    x = np.arange(6 * 5 * 5, dtype=np.uint8).reshape(6, 5, 5)
    x.flags.writeable = False
    return (x, np.array([0, 1, 2, 0, 1, 2], dtype=np.uint8)), (x[::-1], [2, 1, 0, 2, 1, 0])

def features():
    x = torch.randn(6, 7, dtype=torch.float64)
    return (x, torch.arange(6) % 2), (x, torch.arange(6) % 3)

def dataset():
    split = Split(torch.zeros(4, 1, 2, 2), torch.tensor([0, 1, 0, 1]))
    return Dataset("mine", split, split, ("no", "yes"), note="made up")

def nothing():
    return None

def fails():
    raise KeyError("a\\nkey")

def refuses():
    raise StorageError("my own file is cut")

number = 3
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module of the user's on the Python path."""
    name = f"mine_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    (tmp_path / f"{name}_broken.py").write_text("import absent_module_of_theirs\n")
    (tmp_path / f"{name}_syntax.py").write_text("def f(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_a_function_may_return_arrays(mine: str) -> None:
    dataset = data.load(f"{mine}:arrays")
    assert dataset.name == f"{mine}:arrays"
    assert dataset.shape == (1, 5, 5)
    assert dataset.classes == ("0", "1", "2")
    assert dataset.test.labels.tolist() == [2, 1, 0, 2, 1, 0]
    expected = torch.arange(25).view(1, 1, 5, 5) / 255
    assert torch.equal(dataset.train.batch(torch.tensor([0]))[0], expected)
    assert torch.equal(dataset.test.batch(torch.tensor([5]))[0], expected)


def test_a_function_may_return_features_or_a_dataset(mine: str) -> None:
    features = data.load(f"{mine}:features")
    assert features.shape == (7,)
    assert features.classes == ("0", "1", "2"), "the largest label may be in the test split"
    assert features.train.batch(torch.arange(2))[0].dtype == torch.float32
    whole = data.load(f"{mine}:dataset", folder="unused")
    assert (whole.name, whole.note, whole.classes) == ("mine", "made up", ("no", "yes"))


@pytest.mark.parametrize(
    ("suffix", "message"),
    [
        (":nothing", "gave NoneType; expected a Dataset or"),
        (":fails", "raised KeyError: 'a\\\\nkey'"),
        (":array", "has no function 'array'; did you mean 'arrays'"),
        (":number", "has no function 'number'"),
        (":", "names no function; write package.module:function"),
        (":a b", "names no function"),
        ("_absent:arrays", "there is no module"),
        (".inner:arrays", "there is no module|is not a package"),
        ("_broken:arrays", "failed: No module named 'absent_module_of_theirs'"),
        ("_syntax:arrays", "raised SyntaxError"),
    ],
)
def test_a_name_that_leads_nowhere_is_one_line(mine: str, suffix: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        data.load(mine + suffix)
    assert "\n" not in str(caught.value)


def test_an_error_of_the_family_passes_through(mine: str) -> None:
    with pytest.raises(StorageError, match=r"^my own file is cut$"):
        data.load(f"{mine}:refuses")


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(InputError, match="unknown dataset 'fashion_mnist'; did you mean 'fashion-mnist'"):
        data.load("fashion_mnist")
    with pytest.raises(InputError, match="named by a string"):
        data.load(3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="unknown dataset"):
        data.describe("nonsense")


def zeros(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.uint8)


def spoilt(value: float) -> torch.Tensor:
    """Five thousand images of which number 4,500 holds ``value`` in one pixel."""
    images = torch.zeros(5000, 1, 2, 2)
    images[4500, 0, 1, 0] = value
    return images


SPLITS: dict[str, tuple[Any, Any, str]] = {
    "NaN": (spoilt(float("nan")), torch.zeros(5000).long(), "image 4500 holds NaN or infinite"),
    "infinity": (spoilt(float("-inf")), torch.zeros(5000).long(), "image 4500 holds NaN or infinite"),
    "too large for float32": (spoilt(1).double() * 1e300, torch.zeros(5000).long(), "image 4500 holds"),
    "integer images": (zeros(2, 1, 2, 2).long(), torch.zeros(2).long(), "images have dtype int64"),
    "boolean images": (zeros(2, 1, 2, 2).bool(), torch.zeros(2).long(), "images have dtype bool"),
    "complex images": (torch.zeros(2, 1, 2, 2) * 1j, torch.zeros(2).long(), "images have dtype complex64"),
    "an array": (np.zeros((2, 1, 2, 2)), torch.zeros(2).long(), "images must be a tensor, not ndarray"),
    "one dimension": (zeros(2), torch.zeros(2).long(), r"images have shape \(2,\); expected \(N, C, H, W\)"),
    "a side of zero": (zeros(2, 1, 0, 2), torch.zeros(2).long(), "one of their sides is zero"),
    "no images": (zeros(0, 1, 2, 2), torch.zeros(0).long(), "the split is empty"),
    "more images": (zeros(3, 1, 2, 2), torch.zeros(2).long(), "3 images but 2 labels"),
    "float labels": (zeros(2, 1, 2, 2), torch.zeros(2), r"labels have dtype float32 and shape \(2,\)"),
    "one-hot labels": (zeros(2, 1, 2, 2), torch.eye(2).long(), r"labels\.argmax\(1\)"),
    "a list of labels": (zeros(2, 1, 2, 2), [0, 1], "labels must be a tensor, not list"),
    "a label too large": (zeros(3, 1, 2, 2), torch.tensor([0, 1, 2]), r"label 2 of image 2 is outside 0\.\.1"),
    "a negative label": (zeros(3, 1, 2, 2), torch.tensor([0, -1, 1]), "label -1 of image 1 is outside"),
    "two devices": (zeros(2, 1, 2, 2).to("meta"), torch.zeros(2).long(), "images are on meta, labels on cpu"),
}


@pytest.mark.parametrize("fault", SPLITS)
def test_check_refuses(fault: str) -> None:
    images, labels, message = SPLITS[fault]
    with pytest.raises(InputError, match=message):
        data.check(data.Split(images, labels), ("a", "b"))


def test_check_accepts_what_fits_and_refuses_what_is_no_split() -> None:
    data.check(data.Split(zeros(2, 1, 2, 2), torch.tensor([0, 1])), ("a", "b"))
    data.check(data.Split(torch.zeros(2, 5), torch.tensor([0, 1])), 2)
    with pytest.raises(InputError, match="at least one class"):
        data.check(data.Split(zeros(1, 1, 2, 2), torch.tensor([0])), ())
    with pytest.raises(InputError, match=r"must be an equipoise\.data\.Split, not tuple"):
        data.check((1, 2), 2)  # pyright: ignore[reportArgumentType]


@pytest.fixture
def registered() -> Iterator[dict[str, Any]]:
    """The dataset ``dummy``, whose loader returns what the test puts under ``value``."""
    box: dict[str, Any] = {}

    @data.register("dummy")
    def load_dummy(folder: Path | None) -> Any:
        """A set from outside.

        More about it.
        """
        box["folder"] = folder
        return box["value"]

    yield box
    data.loaders.remove("dummy")


def test_a_set_from_outside_joins_the_others(registered: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EQUIPOISE_DATA", "elsewhere")
    pair = (zeros(3, 1, 2, 2), [0, 1, 0])
    registered["value"] = (pair, pair)
    assert "dummy" in data.names()
    assert data.describe("dummy") == "A set from outside."
    assert data.load("dummy").classes == ("0", "1")
    assert registered["folder"] == Path("elsewhere")
    data.load("dummy", folder="here")
    assert registered["folder"] == Path("here")
    with pytest.raises(InputError, match="exists already"):
        data.register("dummy")(lambda folder: None)
    with pytest.raises(InputError, match="a colon means"):
        data.register("a:b")


PAIRS: dict[str, tuple[Any, str]] = {
    "channels last": ((np.zeros((2, 8, 8, 3), np.uint8), [0, 1]), r"channels last; use \.permute\(0, 3, 1, 2\)"),
    "text": ((["a", "b"], [0, 1]), "train images are no tensor and no array of numbers"),
    "ragged": (([[1.0], [1.0, 2.0]], [0, 1]), "train images are no tensor and no array of numbers"),
    "NaN": ((np.full((2, 3, 3), np.nan), [0, 1]), "train split: image 0 holds NaN"),
    "one-hot": ((zeros(2, 1, 2, 2), np.eye(2)), "train labels have dtype float64 and shape"),
    "boolean labels": ((zeros(2, 1, 2, 2), [False, True]), "train labels have dtype bool"),
    "negative": ((zeros(2, 1, 2, 2), [-1, 0]), "train split: label -1 of image 0"),
    "empty": ((zeros(0, 1, 2, 2), np.zeros(0, int)), "train split: the split is empty"),
    "another size": ((zeros(2, 1, 3, 3), [0, 1]), r"train images have shape \(1, 3, 3\), but test images"),
    "no pair": (zeros(3, 1, 2, 2), r"gave tuple; expected a Dataset or"),
}


@pytest.mark.parametrize("fault", PAIRS)
def test_pairs_that_do_not_fit_are_refused(fault: str, registered: dict[str, Any]) -> None:
    train, message = PAIRS[fault]
    registered["value"] = (train, (zeros(2, 1, 2, 2), [0, 1]))
    with pytest.raises(InputError, match=message) as caught:
        data.load("dummy")
    assert str(caught.value).startswith("dummy")


def test_classes_must_be_a_tuple_of_names(registered: dict[str, Any]) -> None:
    split = data.Split(zeros(2, 1, 2, 2), torch.tensor([0, 1]))
    registered["value"] = data.Dataset("x", split, split, ["a", "b"])  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="classes must be a tuple of strings"):
        data.load("dummy")


def test_moving_a_dataset_moves_both_splits() -> None:
    moved = data.load("digits").to("meta")
    for split in (moved.train, moved.test):
        assert split.images.device.type == split.labels.device.type == "meta"


def test_every_built_in_set_has_a_line() -> None:
    assert set(data.names()) >= {
        "digits",
        "mnist",
        "fashion-mnist",
        "cifar10",
        "cifar100",
        "tiny-imagenet",
        "imagenet",
    }
    for name in data.names():
        line = data.describe(name)
        assert 20 < len(line) < 120, name
        assert "\n" not in line
