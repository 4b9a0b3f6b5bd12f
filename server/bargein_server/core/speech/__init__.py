"""Speech of a session's user, without I/O and clock. Internal.

`floor` decides whether a turn goes on while the user speaks; `listening` is the session's ear.

The host sends the client's audio through a detector of speech and a recogniser. It gets commands from
`Session.commands()` and calls back with the results, through `SessionHost.act`:

    StartListening      make an ear: a ring of sound, a resampler, a detector's state
    TakeAudio           put sound into the ring, and its frames into the detector
      → frames()          probabilities of speech, in order
    ReportFrames        send the results that are missing, also of silence; otherwise silence may be left out
      → frames()
    Transcribe          copy a part of the ring, and recognise it
      → partials          the words so far, optional, and all that a partial request wants
      → transcribed()     the words
      → failed()          there will be none: late, or the recogniser failed
    Judge               only with a judge
      → judged()          probability that the utterance is complete
    CancelRecognition   the answer is not needed any more; one that comes anyway is ignored
    StopListening       drop the ear

These are methods of `Session.audio.listening`, which is set once a client has negotiated input audio.
Positions are samples of the audio clock, which counts the sound received over the session's life, at
`floor.CLOCK_RATE`, whatever the rate of the input.
"""
