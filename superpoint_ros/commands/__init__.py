"""The verbs of `superpoint-ros`: a module each, with `add_arguments(parser)` and `run(options)`.

`arguments.py` holds options that several commands share.
"""
