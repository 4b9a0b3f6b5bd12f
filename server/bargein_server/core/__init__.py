"""Session as a plain object, without I/O, clock and asyncio. Internal.

Events and facts go in as method calls with the time as an argument; frames and commands come out.
"""
