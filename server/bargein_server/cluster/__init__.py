"""Internal: processes of one server, which hand clients to the owners."""
