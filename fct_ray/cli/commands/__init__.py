"""The jobs that people type, one module each: settings, what runs, what is reported."""
