"""Sweeps: many runs through one executor, and their outcomes as tables."""

from equipoise.sweep import progress as progress
from equipoise.sweep.collect import collect as collect
from equipoise.sweep.collect import diverged as diverged
from equipoise.sweep.collect import flat as flat
from equipoise.sweep.collect import histories as histories
from equipoise.sweep.collect import unfinished as unfinished
from equipoise.sweep.executors import Executor as Executor
from equipoise.sweep.executors import execute as execute
from equipoise.sweep.executors import executors as executors
from equipoise.sweep.populations import populations as populations
from equipoise.sweep.processes import processes as processes
from equipoise.sweep.progress import SweepProgress as SweepProgress
from equipoise.sweep.tables import read_csv as read_csv
from equipoise.sweep.tables import write_csv as write_csv
