"""The same as `fct-ray compare`; `python jobs/compare.py --help` explains it."""

from fct_ray.cli.commands.compare import main

if __name__ == "__main__":
    main()
