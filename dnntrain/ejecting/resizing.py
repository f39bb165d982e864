"""Pictures brought to another size, batch by batch, before anything else happens to them."""

from __future__ import annotations

from typing import Final

import numpy as np

from dnntrain.build import Data
from dnntrain.ejecting.script import Script, fill
from dnntrain.parts.transforms import HALF

_RESIZE: Final = '''
def resize(x: Tensor) -> Tensor:
    """Return pictures of $height x $width: interpolated, or averaged where they shrink."""
$body
'''

_INTERPOLATED: Final = 'F.interpolate({}, ($height, $width), mode="bilinear", align_corners=False, antialias=True)'

_BYTES: Final = f"""
    resized = {_INTERPOLATED.format("x.float()")}
    # A little more than a half, so that halves go up in spite of rounding errors.
    return (resized + {HALF!r}).floor().clamp(0, 255).to(x.dtype)
"""


def resizes(data: Data) -> bool:
    """Whether pictures are brought to a size that they do not have."""
    return data.shape != data.arrays.x_train.shape[1:]


def resized(data: Data, samples: str) -> str:
    """Return the expression of some samples as all that follows sees them."""
    return f"resize({samples})" if resizes(data) else samples


def define_resize(script: Script, data: Data) -> None:
    """Define `resize`, where there is something to resize."""
    if resizes(data):
        _, height, width = data.shape
        counted = data.arrays.x_train.dtype == np.uint8
        body = _BYTES if counted else f"    return {_INTERPOLATED.format('x')}"
        script.define(fill(_RESIZE.replace("$body", body.strip("\n")), height=height, width=width))
