"""Measures kpipe beside kcat, the Java console tools and a bare client loop, on a real broker, in one run."""
