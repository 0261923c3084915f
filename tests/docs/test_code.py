"""The code of the pages runs: how-tos of model families on random weights, the worked examples, the notebooks."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import pipelines
import runs
from models import ExactModel
from pages import DOCS, ROOT, python_blocks, text
from pointland.metrics import DenoisingLossColumns, Metric

Prepare = Callable[[Path], Any]


def saved(make: Callable[[Path], Any]) -> Prepare:
    return lambda folder: make(folder / "made").save_pretrained(folder / "my-model")


def dit(folder: Path) -> None:
    pipelines.dit().save_pretrained(folder / "my-model")


def lora(folder: Path) -> None:
    from safetensors.torch import save_file

    pipe = pipelines.stable_diffusion(folder / "made")
    pipe.save_pretrained(folder / "my-model")
    weights: dict[str, Tensor] = {}
    for name, module in pipe.unet.named_modules():
        if isinstance(module, nn.Linear) and name.endswith(("to_q", "to_v")):
            weights[f"unet.{name}.lora_A.weight"] = torch.randn(2, module.in_features)
            weights[f"unet.{name}.lora_B.weight"] = torch.randn(module.out_features, 2)
    save_file(weights, folder / "my-lora.safetensors")


def vae(folder: Path) -> None:
    pipelines.autoencoder().save_pretrained(folder / "my-vae")


def pictures(folder: Path) -> None:
    (folder / "training_images").mkdir()
    for i in range(3):
        noise = np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / "training_images" / f"{i}.png")


FAMILIES: dict[str, Prepare] = {
    "stable-diffusion": saved(pipelines.stable_diffusion),
    "sdxl": saved(pipelines.stable_diffusion_xl),
    "stable-diffusion-3": saved(pipelines.stable_diffusion_3),
    "flux": saved(pipelines.flux),
    "pixart-dit": saved(lambda folder: pipelines.pixart()),
    "unconditional": saved(lambda folder: pipelines.ddpm()),
    "lora": lora,
    "module": pictures,
    "edm": pictures,
    "flows": pictures,
    "vae": vae,
}


class Gaussian(nn.Module):
    """The best network for standard normal data, as it would be handed over: DDPM's if told an index, EDM's else."""

    def __init__(self) -> None:
        super().__init__()
        kept = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
        self.register_buffer("noise", (1 - kept).sqrt().float())

    def forward(self, point: Tensor, time: Tensor) -> Tensor:
        if time.is_floating_point():
            return point / (1 + time.reshape(-1, 1, 1, 1) ** 2)
        share = self.get_buffer("noise")[time]
        return point * share.reshape(-1, 1, 1, 1)


@pytest.mark.filterwarnings("ignore")  # of the libraries that load and save, which other tests look at
@pytest.mark.parametrize("family", FAMILIES)
def test_the_how_to_of_a_family_runs(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    FAMILIES[family](tmp_path)
    Image.fromarray(np.random.default_rng(7).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save("cat.png")
    images = torch.randint(0, 256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    scope: dict[str, Any] = {"network": Gaussian(), "images": images}
    blocks = python_blocks(DOCS / "families" / f"{family}.md")
    assert blocks
    for block in blocks:
        exec(block.replace("(1024, 1024)", "(16, 16)"), scope)  # of random weights, small
    if "lid" in scope:
        assert scope["lid"].value.isfinite().all()


def test_every_family_has_a_how_to_that_runs() -> None:
    pages = {page.stem for page in (DOCS / "families").glob("*.md")} - {"index"}
    assert pages == set(FAMILIES)


@pytest.mark.parametrize("example", ["new_estimator", "new_metric"])
def test_the_worked_examples_are_the_files(example: str) -> None:
    code = text(ROOT / "examples" / f"{example}.py").split('"""\n\n', 1)[1]
    assert code in python_blocks(DOCS / "extending.md")


def test_the_start_page_shows_the_example_of_the_readme() -> None:
    assert text(ROOT / "examples" / "audit.py").split('"""\n\n', 1)[1] in python_blocks(DOCS / "start.md")


def load(example: str) -> dict[str, Any]:
    scope: dict[str, Any] = {"__name__": example}
    exec(compile(text(ROOT / "examples" / f"{example}.py"), example, "exec"), scope)
    return scope


def test_the_example_of_an_estimator_keeps_the_law_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    scope = load("new_estimator")
    (law,) = (block for block in python_blocks(DOCS / "extending.md") if block.startswith("for k in"))
    monkeypatch.setitem(sys.modules, "new_estimator", type(sys)("new_estimator"))
    exec(law, scope)
    plane = scope["exact"].subspace(d=30, k=4)
    x = plane.sample(3)
    together = scope["Participation"](0.01)(plane, x, ["a", "b", "c"]).value
    alone = scope["Participation"](0.01)(plane, x[1:2], ["b"]).value
    torch.testing.assert_close(together[1:2], alone)
    with pytest.raises(ValueError, match="at least two probes"):
        scope["Participation"](0.01, n_probes=1)(plane, x, ["a", "b", "c"])


def test_the_example_of_a_metric_fills_its_column_in_an_audit(tmp_path: Path) -> None:
    from pointland import DenoisingLoss, audit

    pictures(tmp_path)
    model = ExactModel(torch.randn(4, 3, 4, 4), captioned=False)
    sigma = model.levels.nearest(1.0).sigma
    metric = load("new_metric")["Contrast"](sigma)
    assert isinstance(metric, Metric)
    loss = DenoisingLossColumns(DenoisingLoss(sigma, 1))
    images = tmp_path / "training_images"
    audit(model, images, out=tmp_path / "without", sigma=sigma, metrics=[loss])
    n_calls = len(model.calls)
    run = audit(model, images, out=tmp_path / "with", sigma=sigma, metrics=[loss, metric])
    values = run.rows["contrast"].to_pylist()
    assert len(set(values)) == 3
    assert all(value > 0 for value in values)
    assert len(model.calls) == 2 * n_calls  # the draw of the loss and its own are one evaluation


def run_book(name: str) -> dict[str, Any]:
    scope: dict[str, Any] = {"__name__": "__main__"}
    for cell in json.loads(text(DOCS / "notebooks" / f"{name}.ipynb"))["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), scope)
    return scope


def test_the_notebook_of_toy_manifolds_runs() -> None:
    scope = run_book("toy-manifold")
    for measured, formula in scope["curve"].values():
        assert measured == pytest.approx(formula, rel=0.15)
    assert scope["estimate"].value > 1000


def test_the_notebook_that_reads_a_run_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs.build(tmp_path, 40, n_reference=60)
    monkeypatch.chdir(tmp_path)
    scope = run_book("reading-a-run")
    assert len(scope["lowest"]) == 5
    assert scope["flagged"][0.05] <= scope["flagged"][0.2]


@pytest.mark.slow  # an audit of 120 pictures
@pytest.mark.filterwarnings("ignore")  # of the libraries that load, which other tests look at
def test_the_notebook_of_a_first_audit_finds_the_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_book("first-audit")["found"] == {"x50"}
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.slow  # the demo is a minute of computing
def test_the_commands_of_the_five_minute_start_run(tmp_path: Path) -> None:
    pointland = Path(sys.executable).parent / "pointland"
    page = text(DOCS / "start.md")
    assert "    pointland demo\n" in page
    demo = subprocess.run([pointland, "demo"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert (tmp_path / "demo-run" / "run" / "report.html").exists()
    (tmp_path / "run").symlink_to(tmp_path / "demo-run" / "run")
    show = subprocess.run(
        [pointland, "show", "run/", "--top", "20"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert show.returncode == 0, show.stderr
    dry = [line.strip() for line in page.splitlines() if "--dry-run" in line and line.startswith("    pointland")]
    words = dry[0].replace("./my-finetuned-sd", str(ROOT / "src/pointland/demo/miniature")).split()[1:]
    for stands_for, real in (("training_images", "images"), ("held_out", "held_out")):
        (tmp_path / stands_for).symlink_to(tmp_path / "demo-run" / "pictures" / real)
    told = subprocess.run(
        [pointland, *words[:-3], "-o", "other/", "--dry-run"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
