"""Parts of the benchmark.

servers     the floor and ours            processes  starting, watching and stopping them
client      one client of either          crowd      many
interrupts  at random, and their times    capacity   sessions on one core
memory      of a session                  alone      codec and core, no socket
plan        how much is measured          rounds     what, in turns
figures     what came out of all rounds   table      ratios, and how far to trust them
footer      the machine, and what spoils figures
"""
