"""The same as `fct-ray fit`; `python jobs/fit.py --help` explains it."""

from fct_ray.cli.commands.fit import main

if __name__ == "__main__":
    main()
