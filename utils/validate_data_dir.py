"""Check data directories: the command ``e2etts validate``, under its name in Kaldi."""

import sys

from e2etts.bin.main import main

if __name__ == "__main__":
    sys.exit(main(["validate", *sys.argv[1:]]))
