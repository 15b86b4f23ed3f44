"""A `CLIPTokenizer` with a small vocabulary, in which each frequent caption word is one token.

Source: Sennrich et al. 2016, arXiv:1508.07909, on bytes as in CLIP; trained by `tokenizers`.
"""

import json
from collections.abc import Iterable

from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizer

_MOST_TOKENS = 4096
_WORD_END = "</w>"


def train_tokenizer(captions: Iterable[str], tokens: int) -> CLIPTokenizer:
    """Train a vocabulary; other text is split into smaller pieces, down to bytes.

    Args:
        captions: training captions; order and repetitions have no effect.
        tokens: length in tokens to which prompts are padded and cut, start and end included.
    """
    blank = CLIPTokenizer()
    letters = sorted(ByteLevel.alphabet())
    trainer = BpeTrainer(
        vocab_size=_MOST_TOKENS,
        # ties are broken by token number, and the trainer's own numbering of letters is not stable
        special_tokens=[*letters, *(letter + _WORD_END for letter in letters)],
        end_of_word_suffix=_WORD_END,
        show_progress=False,
    )
    blank.backend_tokenizer.train_from_iterator(sorted(set(captions)), trainer)
    learned = json.loads(blank.backend_tokenizer.to_str())["model"]
    vocabulary: dict[str, int] = learned["vocab"]
    words = sorted(vocabulary, key=vocabulary.__getitem__)
    return CLIPTokenizer(
        vocab={
            word: number for number, word in enumerate([*words, blank.bos_token, blank.eos_token])
        },
        merges=[tuple(pair) for pair in learned["merges"]],
        model_max_length=tokens,
    )
