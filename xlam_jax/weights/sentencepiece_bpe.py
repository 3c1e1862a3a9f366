"""A Hugging Face fast tokenizer from a SentencePiece BPE model (Mistral, Llama 2), id for id.

SentencePiece stores pieces with scores and no merge list. BPE joins, at each step, the adjacent pair whose
joined piece has the best score; the fast tokenizer wants the same order as an explicit list, so every split
of every piece into two known pieces becomes a merge, ordered by the score of the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from xlam_jax.errors import InputError
from xlam_jax.weights.tokenizer_files import SpecialTokens, save_tokenizer

SPACE = "▁"  # SentencePiece's visible space


class Kind(IntEnum):
    """Types of pieces as numbered in sentencepiece_model.proto; GGUF uses the same numbers."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


def build_tokenizer(
    pieces: Sequence[str],
    scores: Sequence[float],
    kinds: Sequence[int],
    *,
    bos: str,
    add_prefix_space: bool = True,
) -> Tokenizer:
    """The fast tokenizer of a SentencePiece BPE vocabulary (no pre-tokenizer, byte fallback).

    Args:
      pieces, scores, kinds: of each id, as SentencePiece has them; a higher score is merged first, kinds are `Kind`s.
      bos: the piece that begins every text.
      add_prefix_space: whether a text gets a blank before its first word.
    """
    ids = {piece: i for i, piece in enumerate(pieces)}
    joins: list[tuple[float, int, int, int, str, str]] = []
    for i, (piece, kind) in enumerate(zip(pieces, kinds, strict=True)):
        if kind not in (Kind.NORMAL, Kind.USER_DEFINED):
            continue
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in ids and right in ids:
                joins.append((-scores[i], i, ids[left], ids[right], left, right))
    joins.sort()
    unknown = next((p for p, k in zip(pieces, kinds, strict=True) if k == Kind.UNKNOWN), None)
    tokenizer = Tokenizer(
        models.BPE(
            vocab=ids,
            merges=[(left, right) for *_, left, right in joins],
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=Kind.BYTE in kinds,
        )
    )
    # SentencePiece puts a space before the text, once. A Prepend normaliser, as older conversions have it,
    # puts one after every special token too, and a chat template's own spaces then stand twice.
    scheme = "first" if add_prefix_space else "never"
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, scheme, split=False)
    to_text: list[decoders.Decoder] = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if add_prefix_space:
        to_text.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(to_text)
    for piece, kind in zip(pieces, kinds, strict=True):
        if kind in (Kind.CONTROL, Kind.UNKNOWN):
            tokenizer.add_special_tokens([AddedToken(piece, special=True, normalized=False)])
        elif kind == Kind.USER_DEFINED:
            tokenizer.add_tokens([AddedToken(piece, special=False, normalized=False)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, ids[bos])]
    )
    return tokenizer


def read_sentencepiece(path: str | Path) -> tuple[Tokenizer, SpecialTokens]:
    """The fast tokenizer and the special tokens of a SentencePiece model file.

    Raises:
      InputError: the file is missing, unreadable or not of the BPE type.
    """
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as proto

    path = Path(path)
    if not path.is_file():
        raise InputError("SentencePiece model not found", where=str(path))
    model = proto.ModelProto()  # type: ignore[attr-defined]
    try:
        model.ParseFromString(path.read_bytes())
    except Exception as e:  # protobuf's DecodeError lives in a package that is not ours to import
        raise InputError(f"not a SentencePiece model: {e}", where=str(path)) from e
    if model.trainer_spec.model_type != model.trainer_spec.BPE:
        raise InputError("only SentencePiece models of type BPE are read", where=str(path))
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
    pieces = [p.piece for p in model.pieces]
    bos = pieces[processor.bos_id()]
    special = SpecialTokens(
        bos=bos,
        eos=pieces[processor.eos_id()],
        pad=pieces[processor.pad_id()] if processor.pad_id() >= 0 else pieces[processor.unk_id()],
        unk=pieces[processor.unk_id()],
    )
    tokenizer = build_tokenizer(
        pieces,
        [p.score for p in model.pieces],
        [int(p.type) for p in model.pieces],
        bos=bos,
        add_prefix_space=model.normalizer_spec.add_dummy_prefix,
    )
    return tokenizer, special


def convert_sentencepiece(path: str | Path, dst: str | Path, *, model_max_length: int = 32768) -> Path:
    """Writes tokenizer.json and tokenizer_config.json for a SentencePiece model into `dst`; returns `dst`."""
    tokenizer, special = read_sentencepiece(path)
    dst = Path(dst)
    dst.mkdir(parents=True, exist_ok=True)
    save_tokenizer(tokenizer, special, dst, model_max_length=model_max_length)
    return dst
