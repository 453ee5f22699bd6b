"""Every sabotage of ``python -m tests.mutants``, gathered from ``sabotages/``, one file a part of the package."""

from tests.sabotages import ground

MUTANTS = (*ground.MUTANTS,)
