"""A bundle's default vector is that of sentence-transformers, in every form in which a folder states it.

The reference is the library itself: on folders that it saved, and on older layouts as its older versions wrote them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bertexport.errors import ExportError
from bertexport.source.sentence_files import ROOT_SETTINGS, read_sentence_files
from bertserve.bundle import Bundle, Pooling, Similarity
from bertserve.engine.items import Float32s, Item, Wanted
from bertserve.engine.opening import open_engine
from bertserve.tasks.finish import normalize, pool
from bertserve.tokenizer import Text, Tokenizer, Truncation
from checkpoints import write_checkpoint

from .conftest import Export

# What the library warns of is no matter of these tests.
pytestmark = [pytest.mark.export, pytest.mark.filterwarnings("ignore")]

# The last one is longer than any limit here.
TEXTS = ("The CAT sat on the mat.", "Été à Zürich", "calculus", "the king and the queen went to the river . " * 30)
POSITIONS = 128


def library() -> Any:
    """It takes seconds to import, so not while tests are collected."""
    return pytest.importorskip("sentence_transformers", reason="needs sentence-transformers (the [reference] extra)")


def modules() -> Any:
    return library().sentence_transformer.modules


def write_encoder(directory: Path, **settings: Any) -> Path:
    """A checkpoint whose tokenizer_config.json states `settings`, as any model from a hub."""
    write_checkpoint(directory, heads=["pooler"], prefix=False, tokenizer="vocab.txt")
    put(directory / "tokenizer_config.json", **{"tokenizer_class": "BertTokenizer", "do_lower_case": True, **settings})
    return directory


def put(path: Path, **entries: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entries), encoding="utf-8")


def write_modules(root: Path, *kinds: tuple[str, str]) -> None:
    """Kind and folder of each, as versions before 6 wrote them."""
    steps = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (kind, path) in enumerate(kinds)
    ]
    (root / "modules.json").write_text(json.dumps(steps), encoding="utf-8")


def default_vectors(bundle: Bundle, texts: tuple[str, ...]) -> list[Float32s]:
    """As the server makes them for a request that names neither pooling nor normalization."""
    model = bundle.model
    tokenizer, engine = Tokenizer(bundle.tokenizer_path, model), open_engine(bundle, threads=1)
    tokenized = tokenizer.tokenize([Text(text=text) for text in texts], Truncation.END)
    by_pooler = model.default_pooling is Pooling.POOLER
    wanted = Wanted(pooler=True) if by_pooler else Wanted(layers=(model.layer_count,))
    items = [Item(input_ids=t.input_ids, token_type_ids=t.token_type_ids, wanted=wanted) for t in tokenized]
    vectors = [
        outputs.pooled if by_pooler else pool(outputs.layers[model.layer_count], model.default_pooling)
        for outputs in engine.run_items(items)
    ]
    return [normalize(vector) if model.default_normalize else vector for vector in vectors]


def check_against_the_library(folder: Path, bundle: Bundle) -> None:
    """Limit and vectors, of texts that are cut, too."""
    reference = library().SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    assert bundle.model.max_tokens == min(reference.max_seq_length, POSITIONS)
    for text, vector in zip(TEXTS, default_vectors(bundle, TEXTS), strict=True):
        expected = reference.encode(text)
        np.testing.assert_allclose(vector, expected, atol=1e-4)
        assert cosine(vector, expected) >= 0.99999, text


def cosine(a: Float32s, b: Float32s) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def save(folder: Path, *steps: Any, limit: int | None = None) -> Path:
    """Let the library save a model of these modules."""
    model = library().SentenceTransformer(modules=list(steps), device="cpu")
    if limit is not None:
        model.max_seq_length = limit
    model.save(str(folder), create_model_card=False)
    return folder


def transformer(source: Path, **arguments: Any) -> Any:
    return modules().Transformer(str(source), **arguments)


def pooling(mode: Any, **arguments: Any) -> Any:
    return modules().Pooling(32, pooling_mode=mode, **arguments)


def save_plain(source: Path, folder: Path) -> Path:
    """A model that the library makes of a checkpoint without files of its own."""
    model = library().SentenceTransformer(str(source), device="cpu")
    model.save(str(folder), create_model_card=False)
    return folder


def save_pooler(source: Path, folder: Path) -> Path:
    text = {"method": "forward", "method_output_name": "pooler_output"}
    module = transformer(source, modality_config={"text": text}, module_output_name="sentence_embedding")
    return save(folder, module, modules().Normalize())


SAVED: dict[str, Callable[[Path, Path], Path]] = {
    "a checkpoint alone": save_plain,
    "mean": lambda source, folder: save(folder, transformer(source), pooling("mean")),
    "cls, a limit": lambda source, folder: save(folder, transformer(source), pooling("cls"), limit=24),
    "max in a list": lambda source, folder: save(folder, transformer(source), pooling(["max"])),
    "normalized": lambda source, folder: save(
        folder, transformer(source, max_seq_length=32), pooling("mean"), modules().Normalize()
    ),
    "a cased tokenizer": lambda source, folder: save(
        folder, transformer(source, processor_kwargs={"do_lower_case": False}), pooling("mean")
    ),
    "lower-cased first": lambda source, folder: save(
        folder, transformer(source, processor_kwargs={"do_lower_case": False}, do_lower_case=True), pooling("mean")
    ),
    "pooler_output": save_pooler,
    "dropout": lambda source, folder: save(folder, transformer(source), pooling("mean"), modules().Dropout(0.5)),
}


@pytest.mark.parametrize("save_folder", SAVED.values(), ids=SAVED)
def test_a_folder_that_the_library_saved_gives_its_vectors(
    save_folder: Callable[[Path, Path], Path], tmp_path: Path, export: Export
) -> None:
    """Settings lie where version 6 puts them: limits and casing beside the tokenizer, the pooling by name."""
    folder = save_folder(write_encoder(tmp_path / "source"), tmp_path / "folder")
    check_against_the_library(folder, export(folder))


FLAGS = {"word_embedding_dimension": 32, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
MEAN: dict[str, Any] = {**FLAGS, "pooling_mode_max_tokens": False, "pooling_mode_mean_sqrt_len_tokens": False}
CLS: dict[str, Any] = {**MEAN, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
BERT_FILE = "sentence_bert_config.json"

# Name of the settings' file → what it states; what 1_Pooling/config.json states; what tokenizer_config.json states.
OLDER: dict[str, tuple[dict[str, dict[str, Any]], dict[str, Any], dict[str, Any]]] = {
    "2.2": ({BERT_FILE: {"max_seq_length": 24, "do_lower_case": False}}, MEAN, {}),
    "cls by flag": ({BERT_FILE: {"max_seq_length": 24}}, CLS, {}),
    "no flag is on": ({BERT_FILE: {}}, {**MEAN, "pooling_mode_mean_tokens": False}, {}),
    "lower-cased before a cased tokenizer": (
        {BERT_FILE: {"max_seq_length": 48, "do_lower_case": True}}, MEAN, {"do_lower_case": False}),
    "lower-cased, accents kept": (
        {BERT_FILE: {"do_lower_case": True}}, MEAN, {"do_lower_case": False, "strip_accents": False}),
    "named after RoBERTa": ({"sentence_roberta_config.json": {"max_seq_length": 20}}, MEAN, {}),
    "an empty file first": ({BERT_FILE: {}, "sentence_distilbert_config.json": {"max_seq_length": 20}}, MEAN, {}),
    "the first file counts": ({BERT_FILE: {"max_seq_length": 30},
                               "sentence_roberta_config.json": {"max_seq_length": 20}}, MEAN, {}),
    "the tokenizer's limit": ({BERT_FILE: {}}, MEAN, {"model_max_length": 40}),
    "no limit": ({BERT_FILE: {"max_seq_length": None}}, MEAN, {"model_max_length": 10**30}),
    "a limit over the tokenizer's": ({BERT_FILE: {"max_seq_length": 60}}, MEAN, {"model_max_length": 40}),
    "tokenizer_args, cased": ({BERT_FILE: {"tokenizer_args": {"do_lower_case": False}}}, MEAN, {}),
    "tokenizer_args' limit wins": (
        {BERT_FILE: {"max_seq_length": 24, "tokenizer_args": {"model_max_length": 36}}}, MEAN, {}),
    "model_args of no consequence": (
        {BERT_FILE: {"max_seq_length": 24, "model_args": {"attn_implementation": "eager"}}}, MEAN, {}),
    "include_prompt without a prompt": ({BERT_FILE: {}}, {**MEAN, "include_prompt": False}, {}),
}  # fmt: skip


@pytest.mark.parametrize(("files", "pooled", "tokenizer"), OLDER.values(), ids=OLDER)
def test_a_folder_of_an_older_version_gives_the_librarys_vectors(
    files: dict[str, dict[str, Any]],
    pooled: dict[str, Any],
    tokenizer: dict[str, Any],
    tmp_path: Path,
    export: Export,
) -> None:
    """Whichever of the files states them, limits, casing and pooling are those that the library goes by."""
    root = write_encoder(tmp_path, **tokenizer)
    write_modules(root, ("Transformer", ""), ("Pooling", "1_Pooling"))
    for name, settings in files.items():
        put(root / name, **settings)
    put(root / "1_Pooling" / "config.json", **pooled)
    check_against_the_library(root, export(root))


def test_weights_in_a_folder_of_their_own_give_the_librarys_vectors(tmp_path: Path, export: Export) -> None:
    """So did the first versions write a model, with all that belongs to it beside the weights."""
    root = tmp_path / "root"
    write_encoder(root / "0_Transformer")
    write_modules(root, ("Transformer", "0_Transformer"), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize"))
    put(root / "0_Transformer" / BERT_FILE, max_seq_length=24, do_lower_case=False)
    put(root / "1_Pooling" / "config.json", **MEAN)
    check_against_the_library(root, export(root))


def test_a_text_is_cut_where_the_library_cuts_it(tmp_path: Path, export: Export) -> None:
    """A limit of version 6 lies in tokenizer_config.json alone."""
    folder = save(tmp_path / "folder", transformer(write_encoder(tmp_path / "source")), pooling("mean"), limit=16)
    bundle = export(folder)
    assert "max_seq_length" not in (folder / BERT_FILE).read_text(encoding="utf-8")
    (tokenized,) = Tokenizer(bundle.tokenizer_path, bundle.model).tokenize([Text(text=TEXTS[3])], Truncation.END)
    assert len(tokenized) == 16


def test_a_cross_encoder_that_the_library_saved_has_its_limit(tmp_path: Path, export: Export) -> None:
    """It has modules of its own, and its limit beside the tokenizer."""
    source = write_checkpoint(tmp_path / "source", ["sequence_classification"], labels=("score",))
    model = library().CrossEncoder(str(source), device="cpu", max_length=40)
    model.save_pretrained(str(tmp_path / "folder"))
    loaded = library().CrossEncoder(str(tmp_path / "folder"), device="cpu")
    assert export(tmp_path / "folder").model.max_tokens == loaded.max_length == 40


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "config_args": (BERT_FILE, {"config_args": {"num_hidden_layers": 1}}, r"config_args\) sets num_hidden_layers to 1"),
    "config_kwargs": (BERT_FILE, {"config_kwargs": {"hidden_act": "relu"}}, "config_kwargs .*sets hidden_act"),
    "model_args": (BERT_FILE, {"model_args": {"file_name": "onnx/model.onnx"}}, "model_kwargs .*sets file_name"),
    "processing_kwargs": (BERT_FILE, {"processing_kwargs": {"text": {"max_length": 8}}}, "processing_kwargs changes"),
    "another tokenizer": (BERT_FILE, {"tokenizer_name_or_path": "elsewhere"}, "tokenizer_name_or_path changes"),
    "a task": (BERT_FILE, {"transformer_task": "fill-mask"}, "transformer_task fill-mask, .*supported: feature"),
    "pooler_output as tokens": (
        BERT_FILE,
        {
            "modality_config": {"text": {"method": "forward", "method_output_name": "pooler_output"}},
            "module_output_name": "token_embeddings",
        },
        "'pooler_output' as module_output_name 'token_embeddings', cannot be served",
    ),
    "pooler_output under a Pooling": (
        BERT_FILE,
        {
            "modality_config": {"text": {"method": "forward", "method_output_name": "pooler_output"}},
            "module_output_name": "sentence_embedding",
        },
        "Pooling follows a Transformer that gives pooler_output",
    ),
    "pictures": (
        BERT_FILE,
        {"modality_config": {"image": {"method": "forward", "method_output_name": "x"}}, "module_output_name": "x"},
        "modality_config .*supported: text",
    ),
    "a limit of zero": (BERT_FILE, {"max_seq_length": 0}, "max_seq_length is 0, a positive whole number"),
    "a limit in words": (BERT_FILE, {"max_seq_length": "many"}, "max_seq_length is 'many'"),
    "a limit of the tokenizer": (BERT_FILE, {"tokenizer_args": {"model_max_length": -1}}, "model_max_length is -1"),
    "a setting of tomorrow": (BERT_FILE, {"rotate": True}, "rotate is not a known setting"),
    "two modes": ("1_Pooling/config.json", {"pooling_mode": ["cls", "mean"]}, r"pooling cls \+ mean cannot be served"),
    "two flags": (
        "1_Pooling/config.json",
        {"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": True},
        r"pooling max \+ mean cannot be served",
    ),
    **{
        f"pooling {mode}": ("1_Pooling/config.json", {"pooling_mode": mode}, f"pooling {mode} cannot be served")
        for mode in ("mean_sqrt_len_tokens", "weightedmean", "lasttoken")
    },
    "a mode of tomorrow": (
        "1_Pooling/config.json",
        {"pooling_mode_median": True},
        "pooling_mode_median is not a known",
    ),
    "token vectors made unit length": (
        "2_Normalize/config.json",
        {"module_input_name": "token_embeddings"},
        "module_input_name 'token_embeddings' cannot be served",
    ),
    "a sparse encoder": (
        "config_sentence_transformers.json",
        {"model_type": "SparseEncoder"},
        "model_type 'SparseEncoder' cannot be served",
    ),
}


def write_older(root: Path) -> Path:
    root.mkdir()
    write_modules(root, ("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize"))
    put(root / BERT_FILE, max_seq_length=24)
    put(root / "1_Pooling" / "config.json", **MEAN)
    return root


@pytest.mark.parametrize(("name", "settings", "message"), REFUSED.values(), ids=REFUSED)
def test_a_setting_that_no_bundle_can_follow_is_refused_by_file_and_key(
    name: str, settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """It changes vectors, so a bundle without it would give others than the library."""
    root = write_older(tmp_path / "root")
    put(root / name, **settings)
    with pytest.raises(ExportError, match=message) as raised:
        read_sentence_files(root)
    assert (name if "Pooling follows" not in message else "modules.json") in str(raised.value)


def test_prompts_that_are_left_out_of_the_vector_are_refused(tmp_path: Path) -> None:
    """A server does not know which tokens are a prompt's."""
    root = write_older(tmp_path / "root")
    put(root / "1_Pooling" / "config.json", pooling_mode="mean", include_prompt=False)
    put(root / "config_sentence_transformers.json", prompts={"query": "ask: "})
    with pytest.raises(ExportError, match=r"1_Pooling/config\.json: include_prompt false leaves the tokens"):
        read_sentence_files(root)


MODULES = {
    "Dense": "sentence_transformers.models.Dense",
    "LayerNorm": "sentence_transformers.models.LayerNorm",
    "Router": "sentence_transformers.base.modules.router.Router",
}


@pytest.mark.parametrize(("kind", "type_name"), MODULES.items(), ids=MODULES)
def test_a_module_that_no_bundle_has_is_refused_by_name(kind: str, type_name: str, tmp_path: Path) -> None:
    """After the pooling, and instead of the model's."""
    root = write_older(tmp_path / "root")
    steps = json.loads((root / "modules.json").read_text(encoding="utf-8"))
    for place in (0, 2):
        changed = [{**step, "type": type_name} if index == place else step for index, step in enumerate(steps)]
        (root / "modules.json").write_text(json.dumps(changed), encoding="utf-8")
        with pytest.raises(ExportError, match=rf"modules\.json: module {kind} cannot be served there"):
            read_sentence_files(root)


def test_a_module_of_the_checkpoints_own_is_refused_by_name(tmp_path: Path) -> None:
    """Its name may end as the library's do."""
    root = write_older(tmp_path / "root")
    text = (root / "modules.json").read_text(encoding="utf-8")
    (root / "modules.json").write_text(text.replace("sentence_transformers.models.T", "custom_st.T"), encoding="utf-8")
    with pytest.raises(ExportError, match=r"module custom_st\.Transformer is code of the checkpoint's own"):
        read_sentence_files(root)


NOTED: dict[str, tuple[str, dict[str, Any], str]] = {
    "a default prompt": (
        "config_sentence_transformers.json",
        {"prompts": {"query": "ask: "}, "default_prompt_name": "query"},
        "puts 'ask: ' before every text",
    ),
    "prompts": ("config_sentence_transformers.json", {"prompts": {"query": "ask: "}}, "callers write themselves: 'ask"),
    "fewer values": ("config_sentence_transformers.json", {"truncate_dim": 16}, "keeps the first 16 values"),
    "half precision": (BERT_FILE, {"model_args": {"torch_dtype": "float16"}}, "torch_dtype 'float16' of model_kwargs"),
    "a limit by use": (BERT_FILE, {"query_length": 8}, "query_length 8 is not followed"),
    "include_prompt": ("1_Pooling/config.json", {"include_prompt": False}, "states include_prompt false"),
}


@pytest.mark.parametrize(("name", "settings", "note"), NOTED.values(), ids=NOTED)
def test_a_setting_that_callers_follow_themselves_is_noted(
    name: str, settings: dict[str, Any], note: str, tmp_path: Path
) -> None:
    """It depends on the use of a text, or is a matter of a vector's last step."""
    root = write_older(tmp_path / "root")
    put(root / name, **settings)
    assert any(note in each for each in read_sentence_files(root).notes)


def test_prompts_and_similarity_are_stated_by_the_manifest(tmp_path: Path, export: Export) -> None:
    """By name, without empty ones, as the library's settings have them."""
    root = write_encoder(tmp_path / "root")
    write_modules(root, ("Transformer", ""), ("Pooling", "1_Pooling"))
    put(root / "1_Pooling" / "config.json", **MEAN)
    prompts = {"query": "ask: ", "document": ""}
    put(root / ROOT_SETTINGS, prompts=prompts, default_prompt_name="query", similarity_fn_name="dot")
    model = export(root).model
    assert (model.prompts, model.default_prompt, model.similarity) == ({"query": "ask: "}, "query", Similarity.DOT)


def test_a_similarity_that_the_library_does_not_know_is_refused(tmp_path: Path) -> None:
    """The error names those that it knows."""
    root = write_older(tmp_path / "root")
    put(root / ROOT_SETTINGS, similarity_fn_name="jaccard")
    with pytest.raises(ExportError, match=r"similarity_fn_name 'jaccard' .*known: cosine, dot, euclidean, manhattan"):
        read_sentence_files(root)


def test_files_that_the_library_passes_over_are_noted(tmp_path: Path) -> None:
    """Without modules.json it reads a checkpoint as any other."""
    root = write_older(tmp_path / "root")
    (root / "modules.json").unlink()
    assert read_sentence_files(root).notes[0].startswith(f"{BERT_FILE} was not followed")


def test_a_limit_beyond_the_models_positions_is_noted(tmp_path: Path, export: Export) -> None:
    """The library would fail on such a text, and a server gives the limit that holds."""
    root = write_encoder(tmp_path / "root")
    write_modules(root, ("Transformer", ""), ("Pooling", "1_Pooling"))
    put(root / BERT_FILE, max_seq_length=512)
    put(root / "1_Pooling" / "config.json", **MEAN)
    bundle = export(root)
    assert bundle.model.max_tokens == POSITIONS
    assert "allow 512 tokens, the model has positions for 128" in (bundle.path / "REPORT.md").read_text("utf-8")
