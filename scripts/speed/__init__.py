"""Parts of the benchmark.

servers     floor and our servers         processes  start, check and stop of servers
client      one client of any server      crowd      many clients
interrupts  random interrupts             capacity   sessions on one core
memory      memory of a session           alone      codec and core without a socket
plan        size of the measurement       rounds     interleaved segments
figures     results of all rounds         table      ratios with their intervals
footer      the machine, and warnings
"""
