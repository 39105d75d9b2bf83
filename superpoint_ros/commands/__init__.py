"""The verbs of `superpoint-ros`: a module each, with `add_arguments(parser)` and `run(options)`.

`arguments.py` holds what the options of several have in common.
"""
