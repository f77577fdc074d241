"""The target ``edgetpu``: Google's Coral Edge TPU."""
