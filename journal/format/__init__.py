"""Bytes and records: what a journal is made of, without a word on where it lies.

The records and their fields, the values in them, how a line is decoded, how commits and their seals
are verified, how a torn tail is told from damage, and how one flipped bit is found. The
specification is the page ``format`` of the documentation.

May import: ``fs`` and the root's ``errors``, ``text``, ``model``.
"""
