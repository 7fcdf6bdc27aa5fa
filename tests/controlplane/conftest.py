"""Tests of the control plane itself."""

from tests.controlplane.fixtures import controlplane, controlplane_binary

__all__ = ["controlplane", "controlplane_binary"]
