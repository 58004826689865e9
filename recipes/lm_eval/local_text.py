"""The document of `local_text.yaml`: a whole text file, named on the command line of lm-evaluation-harness."""

from pathlib import Path

from datasets import Dataset, DatasetDict


def documents(file: str | None = None, **_) -> DatasetDict:
    """One document, the text of a file; the harness cuts it into windows of the model's length.

    Args:
        file: The file, as in `--metadata file=austen/test.txt`.
        **_: What else the harness passes on: the arguments of the model.

    Raises:
        ValueError: No file is named, or there is no such file.
    """
    if file is None or not Path(file).is_file():
        raise ValueError(f"file={file!r}: name a text file, as in --metadata file=austen/test.txt")
    return DatasetDict(test=Dataset.from_dict({"text": [Path(file).read_text(encoding="utf-8")]}))
