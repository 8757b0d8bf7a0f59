"""YAML that makes a careless reader wait, fill the memory, or fail in odd words."""

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)
SETTINGS = {
    "laughs": f"{LAUGHS}seed: *j\n",
    "alias": "seed: &one 1\nbatch_size: *one\n",
    "key twice": "seed: 1\nseed: 2\n",
    "deep": "seed: " + "[" * 5000 + "]" * 5000,
    "deep in lines": "- " * 5000 + "a",
    "large": "# " + "x" * 2**20,
    "long": "roi: " + "x" * 9000,
    "longer": "roi: " + "x" * 90_000,
    "number": f"seed: 0x{'f' * 9000}",
    "sexagesimal": "seed: 1" + ":59" * 3000,
    "digits": f"seed: {'9' * 9000}",
    "infinite": "student_lr: .inf",
    "nan": "student_lr: .nan",
    "date": "seed: 2020-01-01",
    "no date": "seed: 2020-99-99",
    "set": "seed: !!set {a, b}",
    "binary": "backbone: !!binary aGVsbG8=",
    "object": "backbone: !!python/object/apply:os.system [ls]",
    "number as key": "1: 2",
    "list as key": "? [a, b]\n: 1",
    "surrogate": 'backbone: "\\ud800"',
    "zero": 'roi: "a\\0b"',
    "escape": '"see\\e[31m": 1',
    "list": "[]",
    "text": "hello",
    "true": "true",
    "nested size": "image_size: [[64], [64]]",
    "size of words": "image_size: {a: 1}",
    "open": "image_size: [64",
}


def one_short_line(error, path):
    """What is said about the file at `path` is one printable line."""
    said = str(error).replace(str(path), "")
    return said.isprintable() and len(said) < 500
