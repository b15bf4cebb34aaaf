"""The sub-commands of ``netlab``: arguments in, lines out; what they do lies a floor above."""
