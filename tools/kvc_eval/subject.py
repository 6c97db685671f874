"""What a command line asks to be judged: the model, the tokens it reads, the text that hides needles."""
import argparse
from functools import cached_property
from pathlib import Path

import numpy as np

from .gguf_file import GgufFile
from .known_models import gguf_path
from .model import Model, load_model
from .texts import HAYSTACK, READ, novel
from .tokens import TextTokenizer


class Subject:
    """Files are checked at once; the model and the texts are loaded when they are first asked for."""

    def __init__(self, arguments: argparse.Namespace):
        self._arguments = arguments
        if arguments.tokens < 1 or arguments.start < 0:
            raise ValueError(f"--tokens {arguments.tokens} --start {arguments.start}: tokens must be at least 1, start at least 0")
        for option, file in (("--text", arguments.text), ("--token-ids", arguments.token_ids)):
            if file and not Path(file).is_file():
                raise ValueError(f"{option} {file}: there is no such file")
        self._path = gguf_path(arguments.model)

    @cached_property
    def tokenizer(self) -> TextTokenizer:
        return TextTokenizer(GgufFile(self._path))

    @cached_property
    def model(self) -> Model:
        return load_model(self._path)

    @property
    def text_name(self) -> str:
        return self._arguments.token_ids or self._arguments.text or "Persuasion, by Jane Austen"

    @cached_property
    def tokens(self) -> np.ndarray:
        """The tokens to read; of a text, with a begin token first where the model wants one."""
        arguments = self._arguments
        begin = []
        if arguments.token_ids:
            ids = np.fromfile(arguments.token_ids, "<i4").astype(np.int64)
        else:
            ids = np.array(self.tokenizer.encode(_text(arguments.text) if arguments.text else novel(READ)), np.int64)
            begin = [] if self.tokenizer.begin is None else [self.tokenizer.begin]
        end = arguments.start + arguments.tokens - len(begin)
        if end > len(ids):
            raise ValueError(f"the text has {len(ids)} tokens; --start {arguments.start} --tokens {arguments.tokens} asks for more")
        tokens = np.concatenate([np.array(begin, np.int64), ids[arguments.start:end]])
        if tokens.min() < 0 or tokens.max() >= self.model.vocabulary:
            raise ValueError(f"token ids lie in {tokens.min()} .. {tokens.max()}, the model's in 0 .. {self.model.vocabulary - 1}")
        return tokens

    @cached_property
    def haystack(self) -> str:
        """Where needles are hidden: in the caller's text, or else in a novel that is not the one being read."""
        return _text(self._arguments.text) if self._arguments.text else novel(HAYSTACK)


def _text(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")
