"""Weights of narrower networks in wider ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from maskfix.restore import CompletionNetwork, create_network, load_narrower
from maskfix.restore.layers import Expansion


@pytest.fixture(scope="module")
def small() -> CompletionNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return create_network("cadf_small_128").eval()


def test_load_narrower__adds_nothing_and_each_expansion_could(small: CompletionNetwork) -> None:
    """A trained network may be widened: with the new blocks it gives what it gave, until they learn."""
    plain = CompletionNetwork(replace(small.config, encoder_expansions=(), decoder_expansions=())).eval()
    missing = small.state_dict().keys() - plain.state_dict().keys()
    assert missing
    assert all(".expansions." in name for name in missing)
    plain.load_state_dict({name: value for name, value in small.state_dict().items() if name not in missing})
    grown = create_network("cadf_small_128").eval()
    load_narrower(grown, plain.state_dict())
    woken = create_network("cadf_small_128").eval()
    norms = [name for name, part in woken.named_modules() if isinstance(part, Expansion)]
    assert len(norms) == sum(small.config.encoder_expansions) + sum(small.config.decoder_expansions)
    x = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = plain(x).images[0]
        torch.testing.assert_close(small(x).images[0], expected)
        torch.testing.assert_close(grown(x).images[0], expected)
        for name in norms:
            weight = f"{name}.norm.weight"
            woken.load_state_dict(small.state_dict() | {weight: torch.ones_like(small.state_dict()[weight])})
            assert not torch.equal(woken(x).images[0], expected), name
        load_narrower(woken, plain.state_dict())
        torch.testing.assert_close(woken(x).images[0], expected)
        with torch.device("meta"):
            unbuilt = create_network("cadf_small_128").eval()
        load_narrower(unbuilt, plain.state_dict())
        torch.testing.assert_close(unbuilt(x).images[0], expected)


def test_load_narrower__refuses_what_is_no_narrower_network(small: CompletionNetwork) -> None:
    """Parts of an expansion, or anything else that lacks, would leave random numbers among trained ones."""
    for lost in ("decoder.expansions.2.1.narrow.weight", "decoder.occlusion.bias"):
        weights = small.state_dict()
        del weights[lost]
        with pytest.raises(RuntimeError, match=lost):
            load_narrower(create_network("cadf_small_128"), weights)
    with pytest.raises(RuntimeError, match="Missing"):
        load_narrower(create_network("cadf_small_128"), {})
    with pytest.raises(RuntimeError, match="Unexpected"):
        load_narrower(create_network("cadf_small_128"), small.state_dict() | {"more": torch.zeros(1)})
