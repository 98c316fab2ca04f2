"""Changes of the small project of `disk` after which something new can be asked about: pictures, texts, rows.

PICTURES  with a `read`;  TEXTS  plain strings, which need none;  ROWS  vectors under their names, which need none
CODED     beside ROWS: a column of words, coded by the project's `read`
"""

PICTURES = """
import numpy as np
READ = lambda picture: torch.tensor(np.array(picture.resize((6, 6))), dtype=torch.float32)[None] / 255
class Bytes(Stripes):
    def __init__(self, start, n):
        super().__init__(start, n)
        self.pictures = (self.pictures * 200).round() / 255
OPTIONS.update(train=Bytes(0, 48), test=Bytes(1000, 18), read=READ)
"""

TEXTS = """
WORDS = ["good", "bad", "dull", "fine", "film", "plot", "🎬", "שלום"]
class Reviews(torch.utils.data.Dataset):
    def __init__(self, start, n):
        self.rows = [" ".join(WORDS[(i * k + k * k + i) % 8] for k in range(1, 5)) for i in range(start, start + n)]
    def __len__(self):
        return len(self.rows)
    def __getitem__(self, i):
        return self.rows[i], int("good" in self.rows[i]) + int("bad" in self.rows[i])
def collate(texts):
    return torch.tensor([[float(text.split().count(word)) for word in WORDS] for text in texts])
OPTIONS.update(
    train=Reviews(0, 48), test=Reviews(1000, 18), collate=collate, modality="text", noise=None,
    model=lambda: nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)),
)
"""

ROWS = """
class Patients(torch.utils.data.Dataset):
    def __init__(self, start, n):
        i = torch.arange(start, start + n)
        self.rows = torch.stack([i * 7919 % 97, i * 31 % 11, i % 3], 1).float() / 3
        self.labels = i % 3
    def __len__(self):
        return len(self.rows)
    def __getitem__(self, i):
        return self.rows[i], int(self.labels[i])
OPTIONS.update(
    train=Patients(0, 48), test=Patients(1000, 18), modality="tabular", feature_names=["age", "stay", "visits"],
    model=lambda: nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 3)),
)
"""

CODED = """
KINDS = ["home", "clinic", "ward"]
def read(row):
    if row["from"] not in KINDS:
        raise ValueError(f"{row['from']} is no place people come from")
    return torch.tensor([row["age"] / 100, float(KINDS.index(row["from"])), row["stay"]], dtype=torch.float32)
def shown(data, i):
    age, kind, stay = data[i][0].tolist()
    return {"age": 100 * age, "from": KINDS[int(kind)], "stay": stay}
class Coded(Patients):
    def __init__(self, start, n):
        super().__init__(start, n)
        i = torch.arange(start, start + n)
        self.rows = torch.stack([i % 90 / 100, i % 3, i % 7 / 2], 1).float()
OPTIONS.update(train=Coded(0, 48), test=Coded(1000, 18), read=read, preview=shown)
"""
