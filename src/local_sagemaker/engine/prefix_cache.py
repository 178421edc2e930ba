"""How many tokens of a prompt the prefix cache holds, which OpenVINO GenAI does not report. Counts are in tokens and KV blocks.

The engine keeps its own account of what the cache holds, by the rules of OpenVINO GenAI's block manager: the unit is a block,
found by its tokens and all before them; blocks that no request uses are overwritten, the least recently found first.
A prompt is entered once its first token has come, an answer once it has ended, and room for a request is taken when it is
admitted, so the account is never ahead of the cache: what it finds was found.
"""

from collections import OrderedDict
from collections.abc import Sequence


class PrefixCache:
    """The account of a cache of `blocks` blocks of `block_tokens` tokens."""

    def __init__(self, blocks: int, block_tokens: int) -> None:
        self._blocks = blocks
        self._block_tokens = block_tokens
        self._held: OrderedDict[object, None] = OrderedDict()
        self._taken = 0

    def admit(self, prompt: Sequence[int], most_tokens: int) -> int:
        """Tokens of the prompt that the cache holds; takes the room that prompt and answer, `most_tokens` together, may need.

        The last token is always computed, for the next one follows from it.
        """
        found = self._find(prompt)
        self._taken += self._room(most_tokens)
        self._overwrite()
        return min(found, len(prompt) - 1)

    def enter(self, tokens: Sequence[int], ended: bool) -> None:
        """These tokens have been computed. Of a request that has ended, the last block is entered even if it is not full."""
        key = 0
        for start in range(0, len(tokens), self._block_tokens):
            block = tokens[start : start + self._block_tokens]
            if len(block) == self._block_tokens or ended:
                key = _key(key, block)
                self._held[key] = None
                self._held.move_to_end(key)
        self._overwrite()

    def release(self, most_tokens: int, broken_off: bool = False) -> None:
        """A request that was admitted with `most_tokens` has ended. One that was broken off leaves blocks of unknown content."""
        self._taken -= self._room(most_tokens)
        if broken_off:
            self._held.update((object(), None) for _ in range(self._room(most_tokens)))
            self._overwrite()

    def _find(self, prompt: Sequence[int]) -> int:
        """Tokens in whole blocks, and in one block that is not full. The request that finds such a block fills it with its own
        tokens, so it is found no more.
        """
        key = found = 0
        while found + self._block_tokens <= len(prompt):
            following = _key(key, prompt[found : found + self._block_tokens])
            if following not in self._held:
                break
            self._held.move_to_end(following)
            key, found = following, found + self._block_tokens
        for end in range(found + 1, min(found + self._block_tokens, len(prompt) + 1)):
            if (part := _key(key, prompt[found:end])) in self._held:
                del self._held[part]
                return end
        return found

    def _room(self, tokens: int) -> int:
        return -(-tokens // self._block_tokens)

    def _overwrite(self) -> None:
        while self._held and len(self._held) + self._taken > self._blocks:
            self._held.popitem(last=False)


def _key(before: int, block: Sequence[int]) -> int:
    """Stands for a block's tokens and all before them."""
    return hash((before, tuple(block)))
