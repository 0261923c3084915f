"""What mitigations reach on planted truth, and whether they can be undone."""
