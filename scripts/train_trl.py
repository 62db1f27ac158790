#!/usr/bin/env python3
"""Trains on samples that `leap data-gen export --form tokens` wrote, with TRL.

    pip install "trl>=1" datasets
    python train_trl.py --data . --model MODEL --out OUT
    accelerate launch train_trl.py ...        # several cards

The ids and labels are taken as they are: no chat template, no packing across samples, nothing cut.
Settings are those of the LeaP paper (table 8): batch 16, 1e-5, cosine, 5% warm-up.
"""

import argparse
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
parser.add_argument("--accumulate", type=int, default=16, help="batches of a step")
parser.add_argument("--no-bf16", action="store_true")
args = parser.parse_args()

files = {"train": "train.parquet", "test": "test.parquet"}
there = {split: str(pathlib.Path(args.data, name)) for split, name in files.items()
         if pathlib.Path(args.data, name).exists()}
data = load_dataset("parquet", data_files=there).select_columns(["input_ids", "labels"])

model = AutoModelForCausalLM.from_pretrained(args.model, dtype="auto")
tokenizer = AutoTokenizer.from_pretrained(args.model)
if max(max(row) for row in data["train"]["input_ids"]) >= model.get_input_embeddings().num_embeddings:
    raise SystemExit("an id is beyond the model's vocabulary: the ids are of another tokenizer")

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
        warmup_ratio=0.05,
        weight_decay=1e-4,
        per_device_train_batch_size=args.batch,
        gradient_accumulation_steps=args.accumulate,
        gradient_checkpointing=True,
        bf16=not args.no_bf16,
        max_length=None,
        packing=False,
        logging_steps=1,
        save_strategy="epoch",
        report_to="none",
        dataset_kwargs={"skip_prepare_dataset": True},
    ),
)
# Peers' words are context: the collator must hand the labels on as they are.
batch = next(iter(trainer.get_train_dataloader()))
ours = sum(label != -100 for row in data["train"]["labels"] for label in row)
total = sum(len(row) for row in data["train"]["labels"])
print(f"{ours} of {total} tokens carry loss; first batch: {int((batch['labels'] != -100).sum())} of "
      f"{batch['labels'].numel()}")
trainer.train()
trainer.save_model(args.out)
