"""The same as `fct-ray backfill|adopt|import|append|delete`; `python jobs/embed.py --help` explains it."""

from fct_ray.cli.commands.embed import main

if __name__ == "__main__":
    main()
