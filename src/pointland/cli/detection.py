"""The command ``benchmark detection``: the planted benchmark, printed, drawn and written."""

from pathlib import Path

from rich.console import Console

from pointland.cli.folders import check_folder


def run_detection(models: list[Path], overfitted: Path | None, out: Path, device: str | None) -> bool:
    """Run or continue the benchmark in ``out``, print its tables and claims; return whether all claims held.

    Raises:
        NotADirectoryError: If ``out`` is a file.
        ValueError: If a folder is no pipeline.
    """
    check_folder(out)
    for path in models:
        if not (path / "model_index.json").is_file():
            raise ValueError(f"{path} holds no model_index.json; give a pipeline of pointland.demo.train, out/pipeline")

    from pointland.benchmarks import detection
    from pointland.cli.reproduce import save
    from pointland.cli.run import quiet
    from pointland.demo import MINIATURE

    quiet()
    console = Console(stderr=True)
    result = detection.run(
        models or [MINIATURE],
        work=out / "runs",
        overfitted=overfitted,
        device=device,
        progress=lambda words: console.print(words, highlight=False, markup=False),
    )
    save("detection", result, detection.draw(result), out)
    return all(result.claims.values())
