"""Accuracy of the estimators of LID on suites of known dimension; :mod:`.suites` lists them, each is a file."""
