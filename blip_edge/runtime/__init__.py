"""Captioning without torch: engines per target under one search, and the door to them.

`load` opens a folder as an `EdgeModel`; `decoding` is the only greedy and beam search there is,
and whatever can encode pictures and step a decoder (`engine.Captioner`) runs under it.
"""
