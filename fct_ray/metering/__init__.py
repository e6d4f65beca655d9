"""Reading clocks and process counters into usage records, on workers and on the driver alike."""
