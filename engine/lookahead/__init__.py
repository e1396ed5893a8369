"""The look-ahead gate: does a strategy say the same at bar t when nothing after t is there to be seen?"""
