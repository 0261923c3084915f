"""What the library reaches, measured: accuracy of the estimators of LID, suite by suite, in :mod:`.lid`."""
