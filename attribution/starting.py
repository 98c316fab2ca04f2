"""The project file to start with: what `init` writes from what it was told, and Setup shows.

    starting_file(Answers("pets", "image", train="pets/train", …)) -> str

The file is complete where the answers are: `check` passes on it. Its comments say what each line is for, and what may
be added.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from attribution.errors import InvalidInput
from attribution.project import MODALITIES, TARGETS

_CODE = re.compile(r"([A-Za-z_]\w*):([A-Za-z_]\w*)")  # module:function
_NAME = re.compile(r"[a-z][a-z0-9_]*")
MODELS = {"image": "resnet18", "text": "words", "tabular": "mlp"}  # where none is named


@dataclass(frozen=True)
class Answers:
    """What only the user knows.

    train, test    a folder of class folders, or a table; without `test` a fifth of `train` is held out.
    label, text    columns of the table.
    id             a column of ids, where there is one.
    classes        in the order of the model's outputs, where that is not the sorted one.
    target, unit   “number” where the labels of a table are numbers to predict, and in what they are measured.
    model          “module:function” beside the file; or a network of torchvision (“resnet18”) for pictures, a folder of
                   transformers or “words” for texts, “mlp” or “linear” for tables.
    checkpoints    a folder or pattern; without, Whence trains.
    learning_rate  for checkpoints that hold none.
    """

    name: str
    modality: str
    train: str
    test: str = ""
    label: str = ""
    text: str = ""
    id: str = ""
    classes: Sequence[str] = ()
    target: str = "class"
    unit: str = ""
    model: str = ""
    checkpoints: str = ""
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        if self.modality not in MODALITIES:
            raise InvalidInput(f"The modality “{self.modality}” is not known.", f"Use {', '.join(MODALITIES)}.")
        if self.target not in TARGETS:
            raise InvalidInput(f"The target “{self.target}” is not known.", f"Use {' or '.join(TARGETS)}.")
        if self.is_number and (self.modality == "image" or self.classes):
            wrong = "pictures in folders" if self.modality == "image" else f"{len(self.classes)} named classes"
            raise InvalidInput(f"The target is a number, and {wrong} are classes.", "Leave one of the two away.")
        for option in _needed(self.modality):
            if not getattr(self, option):
                raise InvalidInput(
                    f"A project of {_PLURALS[self.modality]} needs --{_OPTIONS.get(option, option)}, and it was not "
                    "given.",
                    "Give it, or run this in a terminal, where it is asked for.",
                )

    @property
    def is_number(self) -> bool:
        return self.target == "number"

    @property
    def outputs(self) -> str:
        """How many outputs the model has, as the file says it."""
        return "1" if self.is_number else "len(data.classes)"


_OPTIONS = {"train": "data"}
_PLURALS = {"image": "pictures", "text": "texts", "tabular": "table rows"}


def _needed(modality: str) -> tuple[str, ...]:
    return {"image": ("train",), "text": ("train", "text", "label"), "tabular": ("train", "label")}[modality]


def starting_file(answers: Answers) -> str:
    """The text of a project file; raises `InvalidInput` for a model that cannot be named so."""
    reader = {"image": "images_in", "text": "texts_in", "tabular": "rows_in"}[answers.modality]
    part = _model(answers)
    ours = ["Project", "checkpoints_in", reader] if answers.checkpoints else ["Project", "TrainingRecipe", reader]
    blocks = [
        _description(answers),
        *(["\n".join(part.standard)] if part.standard else []),
        *(["\n".join(part.others)] if part.others else []),
        "\n".join([f"from attribution import {', '.join(ours)}", *part.beside]),
        _data(answers, reader),
        *part.code,
        _project(answers, part),
    ]
    return _joined(blocks)


def _joined(blocks: Sequence[str]) -> str:
    """Blocks with a blank line between them, two around functions and classes, as formatters have it."""
    text = blocks[0]
    for before, block in itertools.pairwise(blocks):
        spaced = any(b.startswith(("def ", "class ")) for b in (before, block))
        text += ("\n\n\n" if spaced else "\n\n") + block
    return text + "\n"


def _description(answers: Answers) -> str:
    file = f"{answers.name}.py"
    return f'''"""A project for Whence: the model, its weights and its data are named here, and nothing is computed.

Next, in a terminal:

    python -m attribution check {file}    whether all of it fits, and what to do where it does not
    python -m attribution build {file}    every gradient, once; interrupted, it goes on
    python -m attribution app {file}      which training examples taught the model its mistakes
"""'''


def _data(answers: Answers, reader: str) -> str:
    arguments = [_quoted(answers.train), *([_quoted(answers.test)] if answers.test else [])]
    for option in ("text", "label", "id"):
        if getattr(answers, option) and answers.modality != "image":
            arguments.append(f"{option}={_quoted(getattr(answers, option))}")
    if answers.classes:
        arguments.append(_listed("classes", answers.classes))
    if answers.is_number:
        arguments += ['target="number"', *([f"unit={_quoted(answers.unit)}"] if answers.unit else [])]
    held = "" if answers.test else " Without a second path a fifth is held out for testing: test_share=0.2."
    comments = [f"# Paths are relative to this file.{held}"]
    lines = []
    if answers.modality == "image":
        lines += [
            "# As the model was trained, without anything random: no flips, no crops, or no row is the same twice.",
            "as_tensor = transforms.Compose([transforms.Resize((224, 224)), transforms.ToTensor()])",
            "",
        ]
        arguments.append("transform=as_tensor")
    if answers.modality == "tabular":
        comments += [
            "# Numbers are standardised and texts become 0/1 columns. Columns that the model must not see:",
            "# leave_out=[…]; numbers that are names: categorical=[…]; numbers as they stand: standardise=False.",
        ]
    if not answers.classes and not answers.is_number:
        comments.append("# Classes are sorted; where the model's outputs have another order: classes=[…].")
    return "\n".join([*lines, *comments, _call(f"data = {reader}", arguments)])


def _call(what: str, arguments: Sequence[str]) -> str:
    """A call in one line where it fits, else with a line for each argument."""
    line = f"{what}({', '.join(arguments)})"
    is_flat = not any("\n" in argument for argument in arguments)
    if len(line) <= 120 and is_flat:
        return line
    inside = f"    {', '.join(arguments)}"
    if len(inside) <= 120 and is_flat:
        return f"{what}(\n{inside}\n)"
    return "\n".join([f"{what}(", *(f"    {argument}," for argument in arguments), ")"])


def _listed(option: str, names: Sequence[str]) -> str:
    """An option of a call that is a list of texts, in one line where it fits."""
    line = f"{option}=[{', '.join(map(_quoted, names))}]"
    if len(line) < 110:
        return line
    return "\n".join([f"{option}=[", *(f"        {_quoted(name)}," for name in names), "    ]"])


def _project(answers: Answers, part: _Part) -> str:
    usual = "the squared error" if answers.is_number else "cross-entropy"
    lines = [
        f"name={_quoted(answers.name)},",
        "# Builds the network anew at each call; its weights come from below.",
        f"model={part.model},",
    ]
    if answers.checkpoints:
        rate = f", learning_rate={answers.learning_rate:g}" if answers.learning_rate is not None else ""
        lines += [
            "# In the order of training, each with its learning rate: read from the files, or learning_rate=… for all.",
            f"checkpoints=checkpoints_in({_quoted(answers.checkpoints)}{rate}),",
        ]
    else:
        lines += [
            "# Whence trains. For a model that is trained already: checkpoints=checkpoints_in('runs/*.pt') instead.",
            "retrain=TrainingRecipe(epochs=10, batch_size=32, learning_rate=0.05),",
        ]
    if part.collate:
        lines.append(f"collate={part.collate},  # list of texts → what the model is called with")
    lines += [
        f"# Where the usual does not fit: loss=… if it was not {usual}, layers=[…] for some layers only,",
        "# preview=… for what a person sees, measurement=… for what is asked.",
        "**data,",
    ]
    inside = "\n".join(f"        {line}" for line in lines)
    return f"def project() -> Project:\n    return Project(\n{inside}\n    )"


# --- models -----------------------------------------------------------------------------------------------------------

_WORDS = '''def numbers_of(texts: list[str]) -> torch.Tensor:
    """(B, L) a number for each word, the same whenever it comes; 0 where a text has ended."""
    rows = [torch.tensor([1 + zlib.crc32(word.encode()) % 9_999 for word in t.lower().split()[:200]]) for t in texts]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True)'''

_WORDS_MODEL = '''class Words(nn.Module):
    """A linear layer on the mean of the words' vectors: something to start with."""

    def __init__(self) -> None:
        super().__init__()
        self.vectors = nn.Embedding(10_000, 32, padding_idx=0)
        self.output = nn.Linear(32, OUTPUTS)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        n = (words > 0).sum(1, keepdim=True)
        return self.output(self.vectors(words).sum(1) / n)'''

_MLP = """def build_model() -> nn.Module:
    width, n_classes = len(data.feature_names), len(data.classes)
    return nn.Sequential(nn.Linear(width, 32), nn.ReLU(), nn.Linear(32, n_classes))"""

_MLP_OF_NUMBERS = """def build_model() -> nn.Module:
    return nn.Sequential(nn.Linear(len(data.feature_names), 32), nn.ReLU(), nn.Linear(32, 1))"""

_LINEAR = """def build_model() -> nn.Module:
    return nn.Linear(len(data.feature_names), OUTPUTS)"""


@dataclass(frozen=True)
class _Part:
    """What a model brings into the file: its code, and imports of others', Python's own and the user's modules.

    model, collate  what is written behind model= and collate=; no collate where "".
    """

    others: Sequence[str]
    model: str
    code: Sequence[str] = ()
    collate: str = ""
    standard: Sequence[str] = ()
    beside: Sequence[str] = ()


def _model(answers: Answers) -> _Part:
    model = answers.model or MODELS[answers.modality]
    if _CODE.fullmatch(model):
        return _own(model, answers.modality)
    if answers.modality == "image" and _NAME.fullmatch(model):
        build = f"lambda: models.{model}(num_classes=len(data.classes))"
        return _Part(["from torchvision import models, transforms"], build)
    if answers.modality == "tabular" and model in ("mlp", "linear"):
        mlp = _MLP_OF_NUMBERS if answers.is_number else _MLP
        network = mlp if model == "mlp" else _LINEAR.replace("OUTPUTS", answers.outputs)
        return _Part(["from torch import nn"], "build_model", [network])
    if answers.modality == "text" and model == "words":
        code = [_WORDS, _WORDS_MODEL.replace("OUTPUTS", answers.outputs)]
        return _Part(["import torch", "from torch import nn"], "Words", code, "numbers_of", ["import zlib"])
    if answers.modality == "text" and ":" not in model:
        return _transformers(model, answers.is_number)
    raise InvalidInput(
        f"The model “{model}” cannot be written into a project of {_PLURALS[answers.modality]}.",
        f"Name {CHOICES[answers.modality]}, or your own as module:function.",
    )


def _own(model: str, modality: str) -> _Part:
    """A function of a module beside the file; of texts, its `collate` as well."""
    module, function = model.split(":")
    collate = "collate" if modality == "text" else ""
    others = ["from torchvision import transforms"] if modality == "image" else []
    names = sorted(name for name in (function, collate) if name)
    return _Part(others, function, collate=collate, beside=[f"from {module} import {', '.join(names)}"])


CHOICES = {
    "image": "a network of torchvision, such as resnet18",
    "text": "the folder of a transformers classifier, or words",
    "tabular": "mlp or linear",
}


def _transformers(folder: str, is_number: bool) -> _Part:
    loaded = f"""\
# The folder holds config.json and the tokenizer's files; no weights are taken from it here.
folder = Path(__file__).parent / {_quoted(folder)}
config, tokenizer = (kind.from_pretrained(folder) for kind in (AutoConfig, AutoTokenizer))"""
    if is_number:
        loaded += "\nconfig.num_labels = 1"
    collate = """\
def tokens_of(texts: list[str]) -> Mapping[str, Tensor]:
    return tokenizer(texts, padding=True, truncation=True, max_length=128, return_tensors="pt")"""
    return _Part(
        [
            "from torch import Tensor",
            "from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer",
        ],
        "lambda: AutoModelForSequenceClassification.from_config(config)",
        [loaded, collate],
        "tokens_of",
        ["from collections.abc import Mapping", "from pathlib import Path"],
    )


def _quoted(text: str) -> str:
    """A literal as formatters write it: in double quotes, unless that takes more backslashes than single ones."""
    body = repr('"' + text)[2:-1]  # in single quotes: the letter in front sees to that
    if text.count('"') > text.count("'"):
        return f"'{body}'"
    return '"' + body.replace("\\'", "'").replace('"', '\\"') + '"'
