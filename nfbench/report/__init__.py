"""The report: one page of HTML with everything that came of an experiment, which needs nothing beside itself."""
