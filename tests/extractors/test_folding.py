import torch
from torch import nn

from ccln.extractors.extraction import fold_batch_norms


def batch_norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def trained(network: nn.Module) -> nn.Module:
    """Batch norms as training leaves them, not the identities they begin as."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.5, 2.0),
                (module.weight, 0.5, 2.0),
                (module.bias, -0.5, 0.5),
            ):
                assert tensor is not None
                nn.init.uniform_(tensor, low, high)
    return network.eval()


@torch.inference_mode()
def test_folding_gives_the_same_outputs_in_less_time() -> None:
    import timm  # takes seconds, also of the processes that run no such test

    image = torch.rand(2, 3, 64, 64)
    for name in ("tf_efficientnet_lite0", "resnet18", "mobilenetv3_small_100"):
        network = trained(timm.create_model(name))
        folded = fold_batch_norms(network, image[:1])
        assert batch_norms(folded) == 0
        assert batch_norms(network) > 0
        wanted = network(image)
        assert torch.dist(folded(image), wanted) < 1e-4 * wanted.norm()


class Unfoldable(nn.Module):
    """Its batch norm is registered after the convolution, but runs before it."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.convolution(self.norm(image))


@torch.inference_mode()
def test_a_network_whose_outputs_folding_would_change_is_not_folded() -> None:
    network, image = trained(Unfoldable()), torch.rand(1, 3, 8, 8)
    assert torch.equal(fold_batch_norms(network, image)(image), network(image))
