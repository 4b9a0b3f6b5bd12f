"""What the benchmark is made of.

servers   the floor and ours            processes  starting, watching and stopping them
client    one client of either          crowd      many, and what they see
plan      how much is measured          rounds     what, in turns
capacity  sessions on one core          memory     of a session
alone     codec and core, no socket     figures    what came out of all rounds
table     ratios, noise                 footer     the machine, and what spoils figures
"""
