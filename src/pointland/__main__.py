"""``python -m pointland``: the command line."""

from pointland.cli import main

if __name__ == "__main__":
    main()
