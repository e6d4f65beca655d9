"""The same as `fct-ray search`; `python jobs/search.py --help` explains it."""

from fct_ray.cli.commands.search import main

if __name__ == "__main__":
    main()
