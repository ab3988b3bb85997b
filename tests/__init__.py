"""Tests; a package so that they can import the lab (`tests.broker.lab`) and the types of the fixtures."""
