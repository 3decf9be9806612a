"""Tests that need a browser; a package, so that their names may repeat those of other tests."""
