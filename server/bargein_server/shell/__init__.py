"""What moves bytes and time: connections, the tasks of turns, and the timers."""
