"""Parts of `measure_voice.py`: clips, devices, and the measurements."""
