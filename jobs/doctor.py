"""The same as `fct-ray doctor`; `python jobs/doctor.py --help` explains it."""

from fct_ray.cli.commands.doctor import main

if __name__ == "__main__":
    main()
