"""Cost of a training step on a TPU slice, by compilation alone: `python -m experiments.compile_check`.

`hardware` lists chips and slices, `hlo` parses the compiled program, `costs` estimates operations, exchanges and the
time of a step, `report` formats them.
"""
