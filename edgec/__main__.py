"""``python -m edgec``."""

from __future__ import annotations

import sys

from edgec.cli.main import main

sys.exit(main())
