from __future__ import annotations

import pytest
from torch import nn

from dnntrain.training.modes import evaluating


def test_each_layer_gets_its_own_mode_back_whatever_happens() -> None:
    one, other = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout())), nn.Dropout()
    one[1][0].eval()
    before = [module.training for module in (*one.modules(), other)]
    assert before == [True, True, True, False, True]
    with pytest.raises(KeyError), evaluating(one, other):
        assert not any(module.training for module in (*one.modules(), other))
        one.train()
        raise KeyError
    assert [module.training for module in (*one.modules(), other)] == before
