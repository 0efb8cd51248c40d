"""`python -m appkit` is the `appkit` command."""

from appkit.cli import main

if __name__ == "__main__":
    main()
