"""The parts of FrEIA used by flows, imported without ``scipy.stats``."""

from nfbench.core.deferred import deferred

with deferred("scipy.stats"):
    from FrEIA.framework import GraphINN, InputNode, Node, OutputNode, SequenceINN
    from FrEIA.modules import Concat, InvertibleModule, Split

__all__ = ["Concat", "GraphINN", "InputNode", "InvertibleModule", "Node", "OutputNode", "SequenceINN", "Split"]
