"""Load generator for servers that implement the protocol.

options   what is asked for          user      one user: when they speak, cut in, vanish
histogram how times are kept         session   one session: what was sent, what came, what is wrong
figures   everything that is counted websocket the line, in as few steps as possible
machine   processor and memory       report, picture   the table, the JSON, the SVG
run       all of it together         agent     an agent that says as much as its input asks for
"""
