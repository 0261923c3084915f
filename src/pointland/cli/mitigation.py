"""The command ``benchmark mitigation``: every mitigation on planted truth, printed, drawn and written."""

from pathlib import Path

from rich.console import Console

from pointland.cli.folders import check_folder


def run_mitigation(
    model: Path | None,
    archive: Path | None,
    methods: list[str],
    out: Path,
    seeds: int,
    steps: int,
    guidance: float,
    attack: bool,
    device: str | None,
) -> bool:
    """Run the benchmark, print its table and claims, and return whether all of them held.

    Raises:
        NotADirectoryError: If ``out`` is a file.
        ValueError: If a method is unknown, or a model is given without its pictures.
    """
    check_folder(out)
    if (model is None) != (archive is None):
        raise ValueError("a model of your own needs --archive, the pictures it was trained on; and they need a model")

    from pointland.benchmarks.mitigation import chart, evaluate
    from pointland.benchmarks.mitigation.attack import Attack
    from pointland.cli.reproduce import save
    from pointland.cli.run import quiet
    from pointland.demo import MINIATURE
    from pointland.demo.unpack import ARCHIVE
    from pointland.mitigate.named import NAMES

    unknown = [name for name in methods if name not in NAMES]
    if unknown:
        raise ValueError(f"there is no mitigation {unknown[0]!r}; choose among {', '.join(NAMES)}")
    quiet()
    console = Console(stderr=True)
    result = evaluate.run(
        model or MINIATURE,
        archive or ARCHIVE,
        names=methods or NAMES,
        seeds=seeds,
        steps=steps,
        guidance=guidance,
        attack=Attack() if attack else None,
        device=device,
        progress=lambda words: console.print(words, highlight=False, markup=False),
    )
    save("mitigation", result, chart.draw(result), out)
    return all(result.claims.values())
