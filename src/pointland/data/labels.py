"""What is known of pictures beforehand, to measure how well an audit finds it."""

from collections.abc import Collection
from pathlib import Path

from pointland.data.folder import read_table, settle


def read_labels(path: Path, keys: Collection[str]) -> dict[str, str]:
    r"""Read labels from a CSV with a header, such as ``key,label``.

    Args:
        path: A ``.csv`` (or ``.jsonl``) file with the column ``label`` and one of ``key, file_name, file, filename,
            image, path``.
        keys: The pictures there are.

    Returns:
        The label of every picture that has one, stripped; a picture with an empty label is left out.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, lacks a column, names a picture that is not among ``keys``, or gives one
            picture two labels; the message names file and line.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "labels.csv")
        ...     _ = path.write_text("key,label\na.png,verbatim\nb.png,\n")
        ...     read_labels(path, {"a.png", "b.png"})
        {'a.png': 'verbatim'}
    """
    return settle(read_table(path, ("label",), frozenset(keys)))
