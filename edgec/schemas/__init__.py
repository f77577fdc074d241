"""JSON schemas of the documents that edgec writes; ``edgec schema NAME`` prints one."""
