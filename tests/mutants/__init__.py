"""Changes one thing at a time in the rooms of the promise, and shows which changes the unit tests let live."""
