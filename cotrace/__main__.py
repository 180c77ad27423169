"""`python -m cotrace`: the command line, for torchrun."""

from cotrace.cli.app import main

if __name__ == "__main__":
    main()
