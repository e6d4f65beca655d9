"""The same as `fct-ray export`; `python jobs/export.py --help` explains it."""

from fct_ray.cli.commands.export import main

if __name__ == "__main__":
    main()
