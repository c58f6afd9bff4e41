"""``python -m coview`` is the command ``coview``."""

import sys

from coview.cli import main

sys.exit(main())
