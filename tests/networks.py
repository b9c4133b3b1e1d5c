"""Networks with random weights that answer like trained ones: small, finite and different for different pictures."""

from __future__ import annotations

import torch


def shaken(network: torch.nn.Module) -> torch.nn.Module:
    """Random weights with statistics as of a trained network, so that answers stay small and differ."""
    torch.manual_seed(7)
    network.eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2.0)
            module.weight.data.uniform_(0.3, 1.0)
    return network
