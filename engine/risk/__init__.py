"""Risk: rules that read and answer, and act on nothing."""
