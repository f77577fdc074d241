"""Lowerings by family; each module registers its rows in :data:`edgec.targets.tflite.table.TABLE`."""
