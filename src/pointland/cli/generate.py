"""The command ``generate``: pictures from prompts under a mitigation, with a record of what was done and its cost."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from pointland.cli.folders import check_folder


def generate(
    model: Annotated[str, typer.Argument(help="A diffusers directory.")],
    prompts: Annotated[list[str], typer.Argument(help="Prompts, or text files with one a line.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for pictures and generated.json.")],
    mitigate: Annotated[str, typer.Option(help="What to do about memorized prompts; an unknown name lists all.")],
    normal: Annotated[
        Path | None,
        typer.Option(help="Text file of prompts that are not memorized, one a line: what is normal is learned there."),
    ] = None,
    rate: Annotated[float, typer.Option(help="Share of normal prompts that may be touched.")] = 0.05,
    seeds: Annotated[int, typer.Option(min=1, help="Pictures a prompt.")] = 4,
    steps: Annotated[int, typer.Option(min=1, help="Sampling steps.")] = 50,
    guidance: Annotated[float, typer.Option(help="Guidance scale.")] = 7.5,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures in one batch.")] = 4,
    seed: Annotated[int, typer.Option(help="Of the first picture of every prompt.")] = 0,
    device: Annotated[str | None, typer.Option(help="cuda, mps, cpu, ...")] = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16, of the network.")] = "float32",
) -> None:
    """Generate pictures from PROMPTS with MODEL so that nothing memorized is shown."""
    check_folder(out)

    import torch
    from rich.console import Console

    from pointland.auditing.directory import write_json
    from pointland.cli.run import quiet
    from pointland.mitigate.named import NAMES, mitigation
    from pointland.models.loading import load_pipeline
    from pointland.prompts import read_prompts

    if mitigate not in NAMES:
        raise ValueError(f"there is no mitigation {mitigate!r}; choose among {', '.join(NAMES)}")
    words = [line for each in prompts for line in _lines(each)]
    quiet()
    console = Console(stderr=True)
    pipe, known = load_pipeline(model, device=device, dtype=dtype)  # type: ignore[arg-type]  # checked there
    arguments: dict[str, Any] = {"num_inference_steps": steps, "guidance_scale": guidance}
    usual = [each.text for each in read_prompts(normal)] if normal is not None else []
    with console.status("Learning what is normal"):
        method = mitigation(mitigate, pipe, known, usual, rate=rate, **arguments)
    jobs = [(i, prompt, seed + n) for i, prompt in enumerate(words) for n in range(seeds)]
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = []
    record: dict[str, Any] = {
        "model": known.identity,
        "mitigation": mitigate,
        "settings": re.sub(r"<function (\w+) at 0x[0-9a-f]+>", r"\1", repr(method)),
        "rate": rate,
        "normal_prompts": len(usual),
        **arguments,
    }
    for first in range(0, len(jobs), batch_size):
        part = jobs[first : first + batch_size]
        generators = [torch.Generator().manual_seed(own) for _, _, own in part]
        with console.status(f"Generating {first + len(part)} of {len(jobs)}"):
            made = method(pipe, [prompt for _, prompt, _ in part], generators, model=known, **arguments)
        for (i, prompt, own), image, cost, decision in zip(
            part, made.images, made.evaluations, made.decisions, strict=True
        ):
            name = f"{i:04d}-{own}.png"
            image.save(out / name)
            did = asdict(decision)
            did["sampled_from"] = did.pop("prompt")
            rows.append({"file": name, "prompt": prompt, "seed": own, "evaluations": cost, **did})
        write_json(out / "generated.json", {**record, "images": rows})  # so that an interruption loses no record
    acted = sum(bool(row["acted"]) for row in rows)
    plain = steps * (2 if guidance > 1 else 1)
    mean = sum(float(str(row["evaluations"])) for row in rows) / len(rows)
    typer.echo(f"{out}: {len(rows)} pictures, {acted} mitigated; {mean:.0f} evaluations a picture, {plain} without.")


def _lines(text: str) -> list[str]:
    path = Path(text)
    if path.suffix != ".txt":
        return [text]
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; give a text file with one prompt a line, or a prompt")
    found = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not found:
        raise ValueError(f"{path} has no prompts; write one a line")
    return found
