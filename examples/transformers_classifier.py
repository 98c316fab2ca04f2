"""A project file: a sequence classifier of transformers with its tokenizer, and the texts that it was trained on.

Beside this file: sentences.csv, with columns sentence and label    checkpoint-*/, as transformers' Trainer writes them
"""

from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from attribution import Project, checkpoints_in, texts_in

checkpoints = checkpoints_in("checkpoint-*")
config, tokenizer = (kind.from_pretrained(checkpoints[-1].path) for kind in (AutoConfig, AutoTokenizer))


def project() -> Project:
    return Project(
        name="sentences",
        model=lambda: AutoModelForSequenceClassification.from_config(config),
        checkpoints=checkpoints,
        collate=lambda texts: tokenizer(texts, padding=True, truncation=True, max_length=32, return_tensors="pt"),
        layers=["bert.pooler", "classifier"],  # left away: all of them
        **texts_in("sentences.csv", text="sentence", label="label", classes=list(config.id2label.values())),
    )
