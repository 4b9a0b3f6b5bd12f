"""Internal: the processes of one server, which hand clients over to the owners of their sessions."""
