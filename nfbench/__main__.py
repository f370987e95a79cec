"""Entry point of ``python -m nfbench``."""

from nfbench.cli import main

if __name__ == "__main__":
    main()
