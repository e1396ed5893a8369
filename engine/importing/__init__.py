"""Real history from CSV files: what is in a file, every row checked, all of it stored or nothing."""
