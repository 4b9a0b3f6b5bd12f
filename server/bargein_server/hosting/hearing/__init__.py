"""Ears of a server: from clients' sound to detector and recogniser.

The event loop only passes bytes on. One thread decodes and resamples them, keeps the recent sound of each
session, and asks the detector about one frame of every session at a time. Its results come back to the loop
in lots.

    SessionEar ─▶ DetectorThread ─▶ SessionEar.frames, SessionEar.recognise ─▶ Session.audio.listening
"""
