"""Ready-made agents. Nothing imports them but the application and the command line."""
