"""Door for phone calls over Twilio Media Streams. Internal."""
