"""`python -m kdns`."""

import sys

from kdns.start import main

if __name__ == "__main__":
    sys.exit(main())
