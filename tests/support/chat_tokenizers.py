"""Small tokenizers in the manner of those in common use, with their chat templates.

Each knows every character of the control tokens, in all spellings that the tests try.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer, WordPieceTrainer
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "Bread rises because yeast turns sugar into carbon dioxide.",
    'Query: why does bread rise? {"[1]": 7, "[2]": 10, "[3]": 0} (start) <answer> [x]',
    "The passages answer the search query, and every score is a whole number from 0 to 10.",
    "system user assistant INST CLS SEP start end of turn begin header text id",
]
CONVERSATION = """\
{% for m in messages %}START{{ m['role'] }}MIDDLE{{ m['content'] }}END
{% endfor %}{% if add_generation_prompt %}STARTassistantMIDDLE{% endif %}"""
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
)


def template(start: str, middle: str, end: str) -> str:
    named = zip(("START", "MIDDLE", "END"), (start, middle, end), strict=True)
    text = CONVERSATION
    for name, value in named:
        text = text.replace(name, value)
    return text


def byte_level(
    special: list[str | AddedToken], normalizer: Any = None, *, more: Iterable[str] = ()
) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = BpeTrainer(
        vocab_size=330 + 10 * bool(more), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([*more, *CORPUS], trainer)
    tokenizer.add_special_tokens(special)
    return tokenizer


def sentencepiece(special: list[str], *, prefix: bool) -> Tokenizer:
    """In the manner of SentencePiece: blanks are letters, and bytes stand in for the unknown."""
    letters = sorted(set("".join(CORPUS).replace(" ", "▁")) | {"▁", "\n"})
    merges = [("▁", "t"), ("e", "r"), ("▁", "s"), ("a", "n"), ("▁t", "h"), ("▁th", "e"), (":", "▁")]
    tokens = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    tokens += [left + right for left, right in merges]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>"))
    replace: list[Any] = [normalizers.Replace(" ", "▁")]
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), *replace] if prefix else replace
    )
    steps: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(
        [*steps, decoders.Strip(content=" ", left=1)] if prefix else steps
    )
    tokenizer.add_special_tokens(special)
    return tokenizer


def wrapped(tokenizer: Tokenizer, chat_template: str | None, **tokens: str) -> Any:
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **tokens)
    fast.chat_template = chat_template
    return fast


def qwen() -> Any:
    tokenizer = byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens(["<think>", "</think>"])
    return wrapped(tokenizer, template("<|im_start|>", "\n", "<|im_end|>"), eos_token="<|im_end|>")


def gpt2() -> Any:
    """Whole numbers are tokens with the blank before them."""
    numbers = [" ".join(f": {n}" for n in range(11))] * 50
    text = "{% for m in messages %}{{ m['content'] }}<|endoftext|>{% endfor %}"
    tokens: list[Any] = ["<|endoftext|>", "<|sep|>", "<|pad|>"]
    return wrapped(byte_level(tokens, more=numbers), text, eos_token="<|endoftext|>")


def llama2() -> Any:
    tokenizer = sentencepiece(["<unk>", "<s>", "</s>", "[INST]", "[/INST]"], prefix=True)
    text = "{{ bos_token }}[INST] {% for m in messages %}{{ m['content'] }}\n{% endfor %}[/INST]"
    return wrapped(tokenizer, text, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def llama3() -> Any:
    tokens = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    text = template("<|start_header_id|>", "<|end_header_id|>\n\n", "<|eot_id|>")
    return wrapped(
        byte_level(list(tokens)), "{{ bos_token }}" + text, bos_token=tokens[0], eos_token=tokens[3]
    )


def gemma() -> Any:
    tokens = ["<unk>", "<pad>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"]
    text = NO_SYSTEM + template("<start_of_turn>", "\n", "<end_of_turn>")
    return wrapped(sentencepiece(tokens, prefix=False), text, bos_token="<bos>", eos_token="<eos>")


def deepseek() -> Any:
    tokens = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"]
    text = "{{ bos_token }}" + template("<｜User｜>", "", "<｜end▁of▁sentence｜>")
    return wrapped(byte_level(list(tokens)), text, bos_token=tokens[0], eos_token=tokens[1])


def bert() -> Any:
    """Lower-casing, and its control tokens are recognised behind that."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    letters = [chr(code) for code in range(33, 127)] + list("［］＜＞｜")
    trainer = WordPieceTrainer(
        vocab_size=400, initial_alphabet=letters, special_tokens=["[UNK]"], show_progress=False
    )
    tokenizer.train_from_iterator([*CORPUS, " ".join(letters), "".join(letters)], trainer)
    names = ("[UNK]", "[CLS]", "[SEP]", "[PAD]")
    tokenizer.add_special_tokens([AddedToken(name, normalized=True) for name in names])
    text = "[CLS]{% for m in messages %}{{ m['content'] }}[SEP]{% endfor %}"
    return wrapped(tokenizer, text, cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]")


def nfkc() -> Any:
    tokens = [AddedToken(name, normalized=True) for name in ("<|User|>", "<|Bot|>", "<|End|>")]
    return wrapped(
        byte_level(list(tokens), normalizers.NFKC()),
        template("<|User|>", "\n", "<|End|>"),
        eos_token="<|End|>",
    )


def bare() -> Any:
    """Control tokens without brackets, one of which takes the blanks beside it."""
    tokens = [AddedToken("ENDTURN", lstrip=True, rstrip=True), AddedToken("@@"), AddedToken("~")]
    return wrapped(byte_level(list(tokens)), template("@@", "~", "ENDTURN"), eos_token="ENDTURN")


KINDS: dict[str, Callable[[], Any]] = {
    make.__name__: make for make in (qwen, gpt2, llama2, llama3, gemma, deepseek, bert, nfkc, bare)
}


_WIDE = str.maketrans({char: chr(ord(char) + 0xFEE0) for char in "<>|[]@~/"} | {"｜": "|"})


def spellings(token: str) -> Iterator[str]:
    """A control token in forms that may pass for it, before or after something is removed."""
    half = len(token) // 2
    nested = token[:half] + token + token[half:]
    yield from (token, token * 2, token.upper(), token.lower(), f" {token} ", f"\t{token}\n{token}")
    yield from (nested, token[:1] + token + token[1:], token[:-1] + token + token[-1:])
    yield token[:half] + nested + token[half:]
    yield from (token.translate(_WIDE), token.translate(_WIDE).lower(), f"<{token}>", f"({token}")
    yield f"word{token}word"
