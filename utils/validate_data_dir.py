"""Check data directories: the command ``e2etts validate``, under the name that Kaldi users know."""

import sys

from e2etts.bin.main import main

if __name__ == "__main__":
    sys.exit(main(["validate", *sys.argv[1:]]))
