"""Makes bert_family/, what tests/bert/family_golden.rs compares with: tiny models of transformers.

    python tests/reference/bert_family.py

Made with transformers 4.57.1 and PyTorch 2.11, eager attention, on the CPU. A folder for each
model: its config.json as transformers writes it, and cases.safetensors with

    weights.NAME                          the weights of the model and of all heads
    inputs.NAME                           a batch
    model.hidden.N, model.attention.N     states; model.pooler_output where there is a pooler
    HEAD.logits, HEAD.loss, HEAD.start_logits, HEAD.end_logits
    HEAD.gradient.NAME                    of the loss, for some weights

and untied.safetensors, the same of masked LM whose output matrix is not the word embeddings.
"""

import pathlib

import torch
import transformers
from safetensors.torch import save_file
from transformers.models.distilbert.modeling_distilbert import create_sinusoidal_embeddings

FOLDER = pathlib.Path(__file__).with_suffix("")
SIZES = dict(
    vocab_size=17,
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=12,
    max_position_embeddings=12,
    num_labels=3,
)
DISTIL = dict(vocab_size=17, dim=8, n_layers=2, n_heads=2, hidden_dim=12, max_position_embeddings=12, num_labels=3)
# hidden_act differs from the function of the heads, so that one cannot stand for the other.
CASES = {
    "bert": ("Bert", dict(SIZES, hidden_act="gelu_new")),
    "roberta": ("Roberta", dict(SIZES, hidden_act="relu", type_vocab_size=1, layer_norm_eps=1e-5)),
    "electra": ("Electra", dict(SIZES, hidden_act="relu", embedding_size=6)),
    "distilbert": ("DistilBert", dict(DISTIL, activation="relu")),
}
HEADS = {
    "sequence": "ForSequenceClassification",
    "token": "ForTokenClassification",
    "answer": "ForQuestionAnswering",
    "masked": "ForMaskedLM",
}
# Of these, and of whatever is in a head, gradients are kept.
WATCHED = [
    "word_embeddings.weight",
    "position_embeddings.weight",
    "embeddings_project.weight",
    "layer.0.attention.self.query.weight",
    "layer.0.attention.q_lin.weight",
    "layer.1.output.LayerNorm.bias",
    "layer.1.output_layer_norm.bias",
    "layer.1.intermediate.dense.bias",
    "layer.1.ffn.lin1.bias",
]


def batch(padding, token_types):
    ids = torch.tensor(
        [[3, 4, 5, 6, 7, 8, 9], [10, 11, 12, 13, 14, padding, padding], [padding, 15, 16, 4, padding, 6, 7]]
    )
    mask = (ids != padding).long()
    # A token that is not looked at is no padding.
    mask[0, 6] = 0
    inputs = dict(input_ids=ids, attention_mask=mask)
    if token_types:
        inputs["token_type_ids"] = torch.tensor([[0, 0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 1, 0, 0], [0] * 7])
    labels = dict(
        sequence=dict(labels=torch.tensor([2, 0, 1])),
        token=dict(labels=torch.where(mask == 1, ids % 3, -100)),
        answer=dict(start_positions=torch.tensor([1, 0, 2]), end_positions=torch.tensor([3, 4, 9])),
        masked=dict(labels=torch.where(ids % 3 == 1, (ids + 5) % 17, -100)),
    )
    return inputs, labels


def fill(model, weights, generator):
    """Gives each parameter the values that its name has in `weights`, or else new ones."""
    for name, parameter in model.named_parameters():
        if name not in weights:
            centre = 1.0 if name.lower().endswith(("layernorm.weight", "layer_norm.weight")) else 0.0
            weights[name] = torch.randn(parameter.shape, generator=generator) * 0.4 + centre
        with torch.no_grad():
            parameter.copy_(weights[name])


def case(name, prefix, options):
    config = getattr(transformers, prefix + "Config")(**options)
    config._attn_implementation = "eager"
    inputs, labels = batch(config.pad_token_id, name in ("bert", "electra"))
    weights, tensors = {}, {f"inputs.{key}": value for key, value in inputs.items()}
    generator = torch.Generator().manual_seed(11)
    base = getattr(transformers, prefix + "Model")(config).eval()
    bare = {}
    fill(base, bare, generator)
    weights.update({f"{base.base_model_prefix}.{key}": value for key, value in bare.items()})
    with torch.no_grad():
        output = base(**inputs, output_hidden_states=True, output_attentions=True)
    for index, hidden in enumerate(output.hidden_states):
        tensors[f"model.hidden.{index}"] = hidden
    for index, attention in enumerate(output.attentions):
        tensors[f"model.attention.{index}"] = attention
    if getattr(output, "pooler_output", None) is not None:
        tensors["model.pooler_output"] = output.pooler_output

    for head, suffix in HEADS.items():
        config.num_labels = 2 if head == "answer" else 3
        model = getattr(transformers, prefix + suffix)(config).eval()
        fill(model, weights, generator)
        for key, value in labels[head].items():
            tensors[f"inputs.{head}.{key}"] = value
        output = model(**inputs, **labels[head])
        output.loss.backward()
        for key in ("loss", "logits", "start_logits", "end_logits"):
            if key in output:
                tensors[f"{head}.{key}"] = output[key].detach()
        for key, parameter in model.named_parameters():
            inside = key.startswith(base.base_model_prefix + ".")
            if not inside or key.endswith(tuple(WATCHED)):
                tensors[f"{head}.gradient.{key}"] = parameter.grad
    config.num_labels = 3
    tensors.update({f"weights.{key}": value for key, value in weights.items()})
    if name == "distilbert":
        positions = torch.empty(12, 8)
        create_sinusoidal_embeddings(12, 8, positions)
        tensors["sinusoidal"] = positions
    folder = FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    config.to_json_file(folder / "config.json")
    write(tensors, folder / "cases.safetensors")

    config.tie_word_embeddings = False
    model = getattr(transformers, prefix + HEADS["masked"])(config).eval()
    fill(model, {}, generator)
    output = model(**inputs, **labels["masked"])
    output.loss.backward()
    tensors = {"masked.logits": output.logits.detach(), "masked.loss": output.loss.detach()}
    for key, parameter in model.named_parameters():
        tensors[f"weights.{key}"] = parameter.detach()
        if key.endswith("word_embeddings.weight") or not key.startswith(base.base_model_prefix + "."):
            tensors[f"masked.gradient.{key}"] = parameter.grad
    write(tensors, folder / "untied.safetensors")


def write(tensors, path):
    tensors = {key: value.contiguous().clone() for key, value in tensors.items()}
    save_file(tensors, path, metadata={"format": "pt"})


for name, (prefix, options) in CASES.items():
    case(name, prefix, options)
