"""The same as `fct-ray upgrade`; `python jobs/upgrade.py --help` explains it."""

from fct_ray.cli.commands.upgrade import main

if __name__ == "__main__":
    main()
