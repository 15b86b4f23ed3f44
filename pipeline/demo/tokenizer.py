"""A `CLIPTokenizer` of its own small vocabulary: every word that captions often say is one token.

Source: Sennrich et al. 2016, arXiv:1508.07909, on bytes, as CLIP has it; learned by `tokenizers`.
"""

import json
from collections.abc import Iterable

from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizer

_MOST_TOKENS = 4096
_WORD_END = "</w>"


def train_tokenizer(captions: Iterable[str], tokens: int) -> CLIPTokenizer:
    """Learn a vocabulary; any other text is told by smaller pieces, down to its bytes.

    Args:
        captions: what is said, in any order and however often.
        tokens: length that prompts are padded and cut to, both marks included.
    """
    blank = CLIPTokenizer()
    letters = sorted(ByteLevel.alphabet())
    trainer = BpeTrainer(
        vocab_size=_MOST_TOKENS,
        # ties go by number, and those of letters that it finds itself differ from call to call
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
