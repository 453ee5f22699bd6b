"""Images and labels as tensors: built-in sets, a user's own, splits, orders and augmentation.

``load`` gives a ``Dataset`` of two ``Split``s in memory (uint8, moved to a device whole); ``hold_out`` and
``order`` are pure functions of a seed; ``Augmentation`` changes a whole batch by a generator.
"""

from __future__ import annotations

from equipoise.data.augment import crop_flip as crop_flip
from equipoise.data.augment import flip as flip
from equipoise.data.augmentation import OPERATIONS as OPERATIONS
from equipoise.data.augmentation import Augmentation as Augmentation
from equipoise.data.catalogue import describe as describe
from equipoise.data.catalogue import load as load
from equipoise.data.catalogue import loaders as loaders
from equipoise.data.catalogue import names as names
from equipoise.data.catalogue import register as register
from equipoise.data.folders import FolderSplit as FolderSplit
from equipoise.data.folders import image_folders as image_folders
from equipoise.data.hub import fetch as fetch
from equipoise.data.luminance import LitSplit as LitSplit
from equipoise.data.luminance import Luminance as Luminance
from equipoise.data.splits import hold_out as hold_out
from equipoise.data.splits import order as order
from equipoise.data.types import Dataset as Dataset
from equipoise.data.types import Split as Split
from equipoise.data.types import check as check
from equipoise.data.whiten import Whitening as Whitening
from equipoise.data.whiten import whitening as whitening

__all__ = [
    "OPERATIONS",
    "Augmentation",
    "Dataset",
    "FolderSplit",
    "LitSplit",
    "Luminance",
    "Split",
    "Whitening",
    "check",
    "crop_flip",
    "describe",
    "fetch",
    "flip",
    "hold_out",
    "image_folders",
    "load",
    "loaders",
    "names",
    "order",
    "register",
    "whitening",
]
