"""What touches the event loop: connections, runners, and the streams that a turn holds open."""
