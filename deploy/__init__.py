"""Running Seraphim: the command line, the embedded servers, the supervisor. May import both programs."""
