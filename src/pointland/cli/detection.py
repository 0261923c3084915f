"""The command ``benchmark detection``: the planted benchmark, printed, drawn and written."""

from pathlib import Path

from rich.console import Console


def run_detection(models: list[Path], overfitted: Path | None, out: Path, device: str | None) -> bool:
    """Run or continue the benchmark in ``out``, print its tables and claims; return whether all claims held.

    Raises:
        ValueError: If a folder is no pipeline, or ``out`` is a file.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; name a folder to write into with --out")
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
