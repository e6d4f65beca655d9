"""The same as `fct-ray store`; `python jobs/store.py --help` explains it."""

from fct_ray.cli.commands.store import main

if __name__ == "__main__":
    main()
