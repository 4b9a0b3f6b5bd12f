"""Parts of `measure_voice.py`: clips, a microphone, a loudspeaker, and the measurements."""
