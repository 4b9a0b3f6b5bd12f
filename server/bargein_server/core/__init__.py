"""The session as a plain object: no I/O, no clock, no asyncio. Internal.

Events and facts go in as method calls with the time as an argument; frames and commands come out.
"""
