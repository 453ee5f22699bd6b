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
from equipoise.sweep.sampling import Choice as Choice
from equipoise.sweep.sampling import Integers as Integers
from equipoise.sweep.sampling import LogUniform as LogUniform
from equipoise.sweep.sampling import Uniform as Uniform
from equipoise.sweep.sampling import draws as draws
from equipoise.sweep.sampling import grid as grid
from equipoise.sweep.slurm import slurm as slurm
from equipoise.sweep.status import Count as Count
from equipoise.sweep.status import State as State
from equipoise.sweep.status import plan as plan
from equipoise.sweep.status import survey as survey
from equipoise.sweep.tables import read_csv as read_csv
from equipoise.sweep.tables import write_csv as write_csv
from equipoise.sweep.value import Sweep as Sweep
