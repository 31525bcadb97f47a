"""python -m tfpipe: the command line."""

from tfpipe.cli import main

if __name__ == "__main__":
    main()
