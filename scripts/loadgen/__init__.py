"""Load generator for any server of the protocol.

options   options of a run           user      one user: inputs, interrupts, lost lines
histogram durations in little memory session   one session: checks of the protocol
figures   all counts and durations   websocket a minimal WebSocket client
machine   processor and memory       report, picture   the table, the JSON, the SVG
run       a whole run                agent     an agent with output of a given size
"""
