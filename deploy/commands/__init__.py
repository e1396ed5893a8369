"""One module per subcommand of `seraphim`: `configure(parser)` and `run(args, settings) -> exit code`."""
