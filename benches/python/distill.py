"""A distillation by TextBrewer in Python, of what the command `export` of an example wrote: the same
first weights, batches in their order, losses and schedule.

usage: distill.py EXPORT_DIR OUT_DIR [--dropout-seed 0] [--threads 1]

EXPORT_DIR has export.json (recipe, distillation configuration, folder of the teacher), student/ and
epoch*.safetensors. OUT_DIR becomes a folder that the example's `evaluate --model` reads; there is also
results.json with the recipe, seconds and steps/s. Needs torch, transformers, textbrewer and safetensors.
"""
import argparse
import json
import os
import shutil
import tempfile
import time

import torch
from safetensors.torch import load_file
from textbrewer import DistillationConfig, GeneralDistiller, TrainingConfig
from transformers import (
    AutoConfig,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    get_linear_schedule_with_warmup,
)

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("export")
parser.add_argument("out")
parser.add_argument("--dropout-seed", type=int, default=0)
parser.add_argument("--threads", type=int, default=1)
options = parser.parse_args()
torch.set_num_threads(options.threads)

with open(os.path.join(options.export, "export.json")) as file:
    exported = json.load(file)
recipe = exported["recipe"]
models = {
    "sst2": AutoModelForSequenceClassification,
    "mnli": AutoModelForSequenceClassification,
    "conll2003": AutoModelForTokenClassification,
    "msra_ner": AutoModelForTokenClassification,
    "squad": AutoModelForQuestionAnswering,
    "cmrc2018": AutoModelForQuestionAnswering,
}
model_class = models[exported["task"]]


def load(folder):
    return model_class.from_pretrained(folder, config=AutoConfig.from_pretrained(folder, output_hidden_states=True))


class Loader:
    """The batches as they were written, an epoch at a time."""

    def __init__(self):
        self.epoch = 0

    def __len__(self):
        return exported["steps"] // recipe["epochs"]

    def __iter__(self):
        self.epoch += 1
        tensors = load_file(os.path.join(options.export, f"epoch{self.epoch:03}.safetensors"))
        for step in range(len(self)):
            prefix = f"{step:06}."
            yield {name[len(prefix):]: value.long() for name, value in tensors.items() if name.startswith(prefix)}


def adaptor(batch, output):
    logits = (output.start_logits, output.end_logits) if "start_logits" in output else (output.logits,)
    adapted = {"logits": logits, "hidden": output.hidden_states, "inputs_mask": batch["attention_mask"]}
    if logits[0].dim() == 3:
        adapted["logits_mask"] = (batch["attention_mask"],)
    if "loss" in output:
        adapted["losses"] = output.loss
    return adapted


def groups(model):
    plain = ("bias", "LayerNorm.weight", "layer_norm.weight")
    parts = [
        ([p for n, p in model.named_parameters() if not any(name in n for name in plain)], recipe["weight_decay"]),
        ([p for n, p in model.named_parameters() if any(name in n for name in plain)], 0.0),
    ]
    return [{"params": params, "weight_decay": decay} for params, decay in parts]


def configuration():
    """What TextBrewer takes of the configuration. It knows its own `"none"` from any other by identity."""
    known = {"temperature", "temperature_scheduler", "hard_label_weight", "hard_label_weight_scheduler",
             "kd_loss_type", "kd_loss_weight", "kd_loss_weight_scheduler", "probability_shift",
             "intermediate_matches", "is_caching_logits"}
    given = {key: value for key, value in exported["distillation"].items() if key in known and value != "none"}
    for match in given["intermediate_matches"]:
        for key in [key for key, value in match.items() if value is None or key == "teacher"]:
            del match[key]
    return DistillationConfig(**given)


torch.manual_seed(options.dropout_seed)
teacher, student = load(exported["teachers"][0]), load(os.path.join(options.export, "student"))
optimizer = torch.optim.AdamW(groups(student), lr=recipe["learning_rate"], weight_decay=recipe["weight_decay"])
steps = exported["steps"]
with tempfile.TemporaryDirectory() as folder:
    train_config = TrainingConfig(device="cpu", output_dir=folder, ckpt_frequency=1, ckpt_epoch_frequency=recipe["epochs"])
    distiller = GeneralDistiller(train_config, configuration(), teacher, student, adaptor, adaptor)
    start = time.perf_counter()
    with distiller:
        distiller.train(
            optimizer,
            Loader(),
            num_epochs=recipe["epochs"],
            max_grad_norm=recipe["max_grad_norm"],
            scheduler_class=get_linear_schedule_with_warmup,
            scheduler_args={"num_warmup_steps": int(recipe["warmup"] * steps), "num_training_steps": steps},
        )
    seconds = time.perf_counter() - start
student.save_pretrained(options.out)
for name in ("tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json"):
    source = os.path.join(options.export, "student", name)
    if os.path.exists(source):
        shutil.copy(source, options.out)
result = {"steps": steps, "seconds": seconds, "steps_per_second": steps / seconds, "threads": options.threads}
print(json.dumps(result))
with open(os.path.join(options.out, "results.json"), "w") as file:
    json.dump(result | {"recipe": recipe}, file, indent=1)
