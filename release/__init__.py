"""Builds what a release is made of, from a clean tree, and proves that each part can be installed and used.

`make dist` builds into dist/, `make dist-check` builds twice, compares byte for byte, and installs everything into
empty roots. It publishes nothing: that is the release workflow's part.
"""
