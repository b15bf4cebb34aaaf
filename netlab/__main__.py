"""``python -m cnm.netlab``: the program, where no ``netlab`` is in the path."""

from __future__ import annotations

import sys

from cnm.netlab.main import main

if __name__ == "__main__":
    sys.exit(main())
