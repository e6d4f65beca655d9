"""Galleries that lie in other systems: tables of databases, table formats, files of other tools.

Owns: each system's client library, behind two interfaces. One module a system.
"""
