#!/usr/bin/env python3
"""Trains on samples that `leap data-gen export --form tokens` wrote, with TRL.

    pip install "trl>=1.16" "transformers>=5" datasets accelerate
    python train_trl.py --data . --model MODEL --out OUT
    accelerate launch train_trl.py ...        # several cards

The ids and labels are taken as they are: no chat template, no packing across samples, nothing cut.
Settings are those of the LeaP paper (table 8): batch 16, 1e-5, cosine, 5% warm-up.
"""

import argparse
import os
import pathlib

from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

parser = argparse.ArgumentParser()
parser.add_argument("--data", required=True, help="folder of the export")
parser.add_argument("--model", required=True, help="checkpoint whose tokenizer made the ids")
parser.add_argument("--out", required=True)
parser.add_argument("--epochs", type=float, default=8)
parser.add_argument("--steps", type=int, default=-1, help="instead of epochs")
parser.add_argument("--lr", type=float, default=1e-5)
parser.add_argument("--batch", type=int, default=1, help="samples of a card at once")
parser.add_argument("--accumulate", type=int, default=16, help="batches of a step, of all cards together")
parser.add_argument("--no-bf16", action="store_true")
args = parser.parse_args()

cards = int(os.environ.get("WORLD_SIZE", "1"))
if args.accumulate % cards:
    raise SystemExit(f"--accumulate {args.accumulate} is no multiple of {cards} cards: a step would have other samples")

files = {"train": "train.parquet", "test": "test.parquet"}
there = {split: str(pathlib.Path(args.data, name)) for split, name in files.items()
         if pathlib.Path(args.data, name).exists()}
data = load_dataset("parquet", data_files=there).select_columns(["input_ids", "labels"])

model = AutoModelForCausalLM.from_pretrained(args.model, dtype="auto")
tokenizer = AutoTokenizer.from_pretrained(args.model)
rows, kept, total = model.get_input_embeddings().num_embeddings, 0, 0
for sample in data["train"]:
    if max(sample["input_ids"]) >= rows:
        raise SystemExit("an id is beyond the model's vocabulary: the ids are of another tokenizer")
    kept += sum(label != -100 for label in sample["labels"])
    total += len(sample["labels"])
print(f"{kept} of {total} tokens carry loss")

trainer = SFTTrainer(
    model=model,
    processing_class=tokenizer,
    train_dataset=data["train"],
    eval_dataset=data.get("test"),
    args=SFTConfig(
        output_dir=args.out,
        num_train_epochs=args.epochs,
        max_steps=args.steps,
        learning_rate=args.lr,
        lr_scheduler_type="cosine",
        warmup_steps=0.05,  # below 1: a share of all steps
        weight_decay=1e-4,
        per_device_train_batch_size=args.batch,
        gradient_accumulation_steps=args.accumulate // cards,
        activation_checkpointing=True,
        bf16=not args.no_bf16,
        max_length=None,
        packing=False,
        logging_steps=1,
        save_strategy="epoch",
        report_to="none",
        dataset_kwargs={"skip_prepare_dataset": True},
    ),
)
# Peers' words are context: what the collator hands on must be the labels as they are.
batch = next(iter(trainer.get_train_dataloader()))
for ids, labels in zip(batch["input_ids"].tolist(), batch["labels"].tolist()):
    carried = [(one, label) for one, label in zip(ids, labels) if label != -100]
    if not carried or len(carried) == len(labels) or any(one != label for one, label in carried):
        raise SystemExit("the labels that arrive are not those of the file: another version of TRL?")
trainer.train()
trainer.save_model(args.out)
