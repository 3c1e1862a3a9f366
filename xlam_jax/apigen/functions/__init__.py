"""The embedded API library: typed, described functions over Python's standard library, one module a domain.

The modules import nothing outside the standard library, because the sandbox runs them in a bare interpreter.
"""
