"""The groupwise method: groups, calibration, aggregation and final rounds."""
