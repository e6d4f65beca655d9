"""The public Python API behind `import fct_ray`: stores, plans, results, transformations. See docs/api.md."""
