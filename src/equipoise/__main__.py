"""``python -m equipoise`` is the command line."""

import sys

from equipoise.cli import main

sys.exit(main())
