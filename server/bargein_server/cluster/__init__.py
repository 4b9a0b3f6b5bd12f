"""Sessions of many processes: finding the owner of a session, and handing clients over to it."""
