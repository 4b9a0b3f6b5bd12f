"""What the benchmark is made of.

servers   the floor and ours            crowd   many clients of either, and what they see
rounds    what is measured, in turns    alone   codec and core without a socket
table     medians, ratios, noise
"""
