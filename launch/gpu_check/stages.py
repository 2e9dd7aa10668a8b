"""The stages of launch/gpu_check.sh in their order, a function each: stage(STAGE, PROGRAMS) puts figures, failures and what was not run into STAGE."""
from equality import equality, ranks
from machine import machine
from probe import kernels, probe
from speed import bandwidth, first_order, streaming, zeroth_order

# With the seconds of each.
STAGES = {"probe": (probe, 30), "kernels": (kernels, 30), "equality": (equality, 60), "ranks": (ranks, 50), "bandwidth": (bandwidth, 40),
          "first_order": (first_order, 60), "zeroth_order": (zeroth_order, 60), "streaming": (streaming, 60), "machine": (machine, 60)}
