"""Ways in which stored bars may be wrong, one module for each family of them. Pure, over columns."""
