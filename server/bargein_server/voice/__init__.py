"""Voice: detectors, recognisers, synthesisers, and `speaking`.

    from bargein_server import run
    from bargein_server.voice.local import local_voice

    run(agent, voice=local_voice())

A `Voice` says text, a `Recogniser` turns speech into text, a `Detector` finds speech, and a `TurnJudge`
decides whether a user has finished. Each is a small protocol of `interfaces`; every module beside it is one
implementation, and imports its libraries when it is first used. `speaking` wraps an agent.

Errors:

    Exception
    ├── NotInstalled      a package, a program or a model is missing; with the command to install it
    └── VoiceError        a recogniser or a synthesiser failed, or did not answer
"""
