"""The training guide's command: the same as `e2t train`, with the same options."""

import sys

from e2t_lib.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
