"""Mixed precision: which nodes have to stay in float so that the rest can be integers at a bounded loss."""
