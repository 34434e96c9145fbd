"""The program that a served Python model, or a custom predictor, runs in.

The server starts it as `python -I FOLDER SETTINGS`, with one end of a socket as standard input. It closes the network
and sets limits before any code of the model is loaded. It needs nothing but the standard library itself, since the
environment is the model's; its imports are relative, since the server gives the package another name.
"""
