"""`python -m kdns`."""

import sys

from kdns.cli import main

if __name__ == "__main__":
    sys.exit(main())
